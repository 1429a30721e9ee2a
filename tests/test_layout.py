"""What DESIGN promises of the layout: who imports whom, and what is declared."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def imports(path: Path) -> Iterator[str]:
    """Names of the modules that a file imports, at any depth."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""


def files(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert found
    return found


@pytest.mark.parametrize("path", files("train"), ids=str)
def test_train_takes_the_card_and_the_shared_ground_from_inference(path: Path) -> None:
    ours = {name for name in imports(path) if name.split(".")[0] in {"inference", "eval"}}
    assert {name for name in ours if not name.startswith("inference.common.")} <= {"inference.card"}


@pytest.mark.parametrize("path", files("inference"), ids=str)
def test_inference_takes_nothing_from_us(path: Path) -> None:
    assert not {name for name in imports(path) if name.split(".")[0] in {"train", "eval"}}


@pytest.mark.parametrize("path", [*files("train"), *files("inference")], ids=str)
def test_nothing_takes_from_eval(path: Path) -> None:
    assert not {name for name in imports(path) if name.split(".")[0] in {"eval", "tests", "benchmarks"}}


def test_the_card_needs_no_torch() -> None:
    code = "import sys, inference.card; print({'torch', 'lightning', 'numpy', 'train'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_dev_extra_is_the_dev_group() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert declared["project"]["optional-dependencies"]["dev"] == declared["dependency-groups"]["dev"]


def test_every_dependency_says_why() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    block = text[text.index("\ndependencies = [") : text.index("[project.optional-dependencies]")]
    lines = [line.strip() for line in block.splitlines() if line.strip().startswith('"')]
    assert len(lines) > 10
    assert [line for line in lines if "# " not in line or not any(sign in line.split("#")[0] for sign in "<>=")] == []
