"""README: its reference is the schema's, and its commands run."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import write_dataset
from train.configs.loader import load_config
from train.configs.reference import reference

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def commands(prefix: str) -> list[str]:
    """Lines of README's shell blocks that hold this."""
    blocks = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if prefix in line]


def test_reference_is_the_schema() -> None:
    start = README.index("#### Top level")
    assert README[start:].strip() == reference().strip(), "write it anew: python -m train.configs.reference"


def test_the_original_config_in_it_is_valid(tmp_path: Path) -> None:
    blocks = [b for b in re.findall(r"```yaml\n(.*?)```", README, re.DOTALL) if "data_dir" in b]
    assert len(blocks) == 2
    for block in blocks:
        (tmp_path / "c.yml").write_text(block)
        load_config(tmp_path / "c.yml")


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if "://" not in target:
            assert (ROOT / target).exists(), target
    for anchor in re.findall(r"\]\(#([^)]+)\)", README):
        headings = re.findall(r"^#+ (.+)$", README, re.MULTILINE)
        assert anchor in {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}


@pytest.mark.parametrize("command", commands("python -m train train/"), ids=lambda c: c[-60:])
def test_training_commands(command: str, tmp_path: Path) -> None:
    """As README has them, on less data and a smaller network."""
    words = shlex.split(command.rpartition("uv run ")[2])
    assert words[0] == "python"
    smaller = [
        "tile_size=64",
        "max_epoch=1",
        "data_module.samples_per_epoch=2",
        "batch_size=2",
        "segmentation_config.backbone=tu-mobilenetv3_small_050",
        "trainer.accelerator=cpu",
        "trainer.limit_val_batches=2",
        "trainer.limit_test_batches=2",
        "data_module.num_workers=0",
        f"logging.save_dir={tmp_path / 'runs'}",
    ]
    if "--lr-find" in words:
        smaller.append("trainer.max_steps=30")
    words = [f"data_module.data_dir={write_dataset(tmp_path / 'd')}" if "/path/to/data" in w else w for w in words]
    done = subprocess.run([sys.executable, *words[1:], *smaller], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    said = {"--check": "ready to train", "--lr-find": "learning rates  1.0e-07 to"}
    last = next((said[word] for word in words if word in said), "next: python train/convert_checkpoint.py")
    assert last in done.stdout
