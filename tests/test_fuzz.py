"""Damaged input of every kind, through the real commands: an exit code and a message, never a traceback or a leftover.

300 mutations of configs, overrides, cards, GeoTIFFs, exported models, checkpoints and run folders. The seed is fixed,
and printed with a failure; FUZZ_SEED and FUZZ_CASES try others.
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from inference import card as card_command
from inference.inference import main as map_mosaic
from tests.conftest import write_raster
from tests.inference.networks import card, write_onnx
from train.__main__ import main as train
from train.convert_checkpoint import main as convert

SEED = int(os.environ.get("FUZZ_SEED", "20261127"))
FACTOR = float(os.environ.get("FUZZ_CASES", "300")) / 300
ALLOWED = {0, 2, 3}
TOKENS = (
    "null", "true", ".nan", ".inf", "-1", "0", "1e400", "[]", "{}", "[1, [2]]", "''", "'a/b'", "!!python/object:x y",
    "&a", "*a", "<<: *a", "\t", "\x00", "\u202e", "999999999999999999999", "0x1F", "2026-01-01", "kelp", "x" * 5000,
)  # fmt: skip


def mutated(rng: np.random.Generator, content: bytes, text: bool) -> bytes:
    """Return content with one to four changes: bytes flipped, cut, repeated or inserted; in text also tokens."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        at = int(rng.integers(0, max(1, len(data))))
        length = int(rng.integers(1, 20))
        kind = rng.integers(0, 6 if text else 5)
        if kind == 0 and data:
            data[min(at, len(data) - 1)] ^= int(rng.integers(1, 256))
        elif kind == 1:
            del data[at : at + length]
        elif kind == 2:
            data[at:at] = data[at : at + length]
        elif kind == 3:
            data[at:at] = rng.integers(0, 256, length).astype(np.uint8).tobytes()
        elif kind == 4:
            del data[at + int(rng.integers(0, 200)) :]
        else:
            # A value, from a colon to the end of its line.
            start = data.rfind(b":", 0, at + 1) + 1
            end = min((place for sign in b"\n,}" if (place := data.find(sign, at)) >= 0), default=len(data))
            token = TOKENS[int(rng.integers(len(TOKENS)))]
            data[start:end] = f" {token}".encode()
    return bytes(data)


def try_all(kind: str, number: int, content: bytes, text: bool, run: Callable[[bytes], int], folder: Path) -> None:
    """Run a command on `number` mutations; fail with the seed and the case that ended in anything but an exit code."""
    rng = np.random.default_rng([SEED, sum(kind.encode())])
    for case in range(max(1, round(number * FACTOR))):
        changed = mutated(rng, content, text)
        try:
            code = run(changed)
        except SystemExit as stopped:  # argparse
            code = int(str(stopped.code))
        except Exception as error:
            (folder / "failed").write_bytes(changed)
            pytest.fail(f"{kind}, seed {SEED}, case {case} ({folder / 'failed'}): {type(error).__name__}: {error}")
        assert code in ALLOWED, f"{kind}, seed {SEED}, case {case}"
        left = [path for path in folder.rglob("*.writing*") if path.is_file()]
        assert left == [], f"{kind}, seed {SEED}, case {case}"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_onnx(tmp_path_factory.mktemp("model") / "m.onnx", card(tile_size=32))


@pytest.fixture
def mosaic(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 255, (3, 48, 48)).astype(np.uint8)
    return write_raster(tmp_path / "in.tif", pixels, tiled=True, blockxsize=16, blockysize=16, compress="deflate")


def test_configs(write_config: Callable[..., Path], tmp_path: Path) -> None:
    """A config that is still valid ends at its data folder, which doesn't exist."""
    config = write_config(data_module={"data_dir": str(tmp_path / "none")})
    content = config.read_bytes()

    def run(changed: bytes) -> int:
        config.write_bytes(changed)
        return train([str(config), "--check"])

    try_all("config", 90, content, True, run, tmp_path)
    config.write_bytes(content)

    def override(changed: bytes) -> int:
        words = [word for word in changed.decode(errors="replace").split() if not word.startswith("-")]
        return train([str(config), *words, "--check"])

    overrides = b"trainer.max_epochs=3 segmentation_config.loss.name=dice tile_size=64 data_module.bands=[1,2,3]"
    try_all("overrides", 60, overrides, True, override, tmp_path)


def test_cards(model: Path, mosaic: Path, tmp_path: Path) -> None:
    file = tmp_path / "card.json"

    def run(changed: bytes) -> int:
        file.write_bytes(changed)
        codes = {
            card_command.main([str(file)]),
            map_mosaic(
                [str(mosaic), str(tmp_path / "o.tif"), "--model", str(model), "--card", str(file), "--overwrite"]
            ),
        }
        return max(codes)

    try_all("card", 50, card(tile_size=32).dumps().encode(), True, run, tmp_path)


def test_mosaics(model: Path, mosaic: Path, tmp_path: Path) -> None:
    content = mosaic.read_bytes()

    def run(changed: bytes) -> int:
        mosaic.write_bytes(changed)
        return map_mosaic([str(mosaic), str(tmp_path / "o.tif"), "--model", str(model), "--overwrite"])

    try_all("mosaic", 40, content, False, run, tmp_path)


def test_models(model: Path, mosaic: Path, tmp_path: Path) -> None:
    file = tmp_path / "changed.onnx"

    def run(changed: bytes) -> int:
        file.write_bytes(changed)
        return map_mosaic([str(mosaic), str(tmp_path / "o.tif"), "--model", str(file), "--overwrite"])

    try_all("model", 30, model.read_bytes(), False, run, tmp_path)


def test_checkpoints_and_run_folders(write_config: Callable[..., Path], tmp_path: Path) -> None:
    config = write_config(
        max_epoch=1, trainer={"limit_train_batches": 1, "limit_val_batches": 1, "limit_test_batches": 1}
    )
    assert train([str(config)]) == 0
    (original,) = (tmp_path / "runs" / "p").iterdir()
    (checkpoint,) = (path for path in (original / "checkpoints").iterdir() if path.name != "last.ckpt")
    file = tmp_path / "changed.ckpt"

    def run(changed: bytes) -> int:
        file.write_bytes(changed)
        return convert([str(file), str(config), "--formats", "torchscript", "--output_dir", str(tmp_path / "weights")])

    # A flipped weight is a valid checkpoint: what is tried is the archive around the weights, its last 20 KiB.
    content = checkpoint.read_bytes()
    head, tail = content[:-20_000], content[-20_000:]
    try_all("checkpoint", 15, tail, False, lambda changed: run(head + changed), tmp_path)

    copy = tmp_path / "copy"
    for name in ("config.yml", "metrics.csv", "card.json", "summary.json"):

        def resume(changed: bytes, name: str = name) -> int:
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(original, copy)
            (copy / name).write_bytes(changed)
            return train(["--resume", str(copy)])

        try_all(name, 4, (original / name).read_bytes(), True, resume, tmp_path)
    assert json.loads((original / "summary.json").read_text())["best"]
