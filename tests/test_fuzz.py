"""Damaged input of every kind, through the real commands: an exit code and a message, no traceback, no file changed.

300 mutations of configs, overrides, cards, mosaics, exported models, training images and labels, checkpoints and run
folders. The seed is fixed, and printed with a failure; FUZZ_SEED and FUZZ_CASES try others.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from eval.test_new_model import main as evaluate
from inference import card as card_command
from inference.inference import main as map_mosaic
from tests.conftest import write_dataset, write_raster
from tests.inference.networks import card, write_onnx
from train.__main__ import main as train
from train.convert_checkpoint import main as convert

SEED = int(os.environ.get("FUZZ_SEED", "20261127"))
FACTOR = float(os.environ.get("FUZZ_CASES", "300")) / 300
ALLOWED = {0, 2, 3}
SHORT = {
    "max_epoch": 1,
    "trainer": {"limit_train_batches": 1, "limit_val_batches": 1, "limit_test_batches": 1, "accelerator": "cpu"},
}
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


def files(folder: Path) -> dict[str, bytes]:
    """Return the files below a folder by their path, with a digest of each."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).digest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def try_all(
    kind: str,
    number: int,
    content: bytes,
    text: bool,
    write: Callable[[bytes], object],
    run: Callable[[], int],
    folder: Path,
) -> None:
    """Run a command on `number` mutations; fail with the seed and the case where it doesn't do as it should.

    It must end in an exit code, leave no temporary file and, unless it succeeds, change no file at all.

    Args:
        kind: Name of the input, for messages.
        number: Number of mutations, before FUZZ_CASES.
        content: Content of the sound input.
        text: True to put in tokens, too.
        write: Puts a mutation into its place.
        run: Runs the command and returns its exit code.
        folder: Folder of all files that the command may touch.
    """
    rng = np.random.default_rng([SEED, sum(kind.encode())])
    for case in range(max(1, round(number * FACTOR))):
        changed = mutated(rng, content, text)
        write(changed)
        before = files(folder)
        where = f"{kind}, seed {SEED}, case {case}"
        try:
            code = run()
        except SystemExit as stopped:  # argparse
            code = int(str(stopped.code))
        except Exception as error:
            (folder / "failed").write_bytes(changed)
            pytest.fail(f"{where} ({folder / 'failed'}): {type(error).__name__}: {error}")
        assert code in ALLOWED, where
        after = files(folder)
        assert [name for name in after if ".writing" in name] == [], where
        if code != 0:
            assert {name for name in before | after if before.get(name) != after.get(name)} == set(), where


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_onnx(tmp_path_factory.mktemp("model") / "m.onnx", card(tile_size=32))


@pytest.fixture
def mosaic(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 255, (3, 48, 48)).astype(np.uint8)
    return write_raster(tmp_path / "in.tif", pixels, tiled=True, blockxsize=16, blockysize=16, compress="deflate")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two scenes in each split, the smallest that a network takes."""
    return write_dataset(tmp_path / "data", dict.fromkeys(("train", "val", "test"), [(32, 32)] * 2))


def test_configs(write_config: Callable[..., Path], tmp_path: Path) -> None:
    """A config that is still valid ends at its data folder, which doesn't exist."""
    config = write_config(data_module={"data_dir": str(tmp_path / "none")})
    content = config.read_bytes()
    try_all("config", 80, content, True, config.write_bytes, lambda: train([str(config), "--check"]), tmp_path)
    config.write_bytes(content)
    words: list[str] = []

    def override(changed: bytes) -> None:
        words[:] = [word for word in changed.decode(errors="replace").split() if not word.startswith("-")]

    overrides = b"trainer.max_epochs=3 segmentation_config.loss.name=dice tile_size=64 data_module.bands=[1,2,3]"
    try_all("overrides", 50, overrides, True, override, lambda: train([str(config), *words, "--check"]), tmp_path)


def test_cards(model: Path, mosaic: Path, data: Path, tmp_path: Path) -> None:
    file = tmp_path / "card.json"
    content = card(tile_size=32).dumps().encode()
    mapping = [str(mosaic), str(tmp_path / "o.tif"), "--model", str(model), "--card", str(file), "--overwrite"]

    def run() -> int:
        return max(card_command.main([str(file)]), map_mosaic(mapping))

    try_all("card", 70, content, True, file.write_bytes, run, tmp_path)
    evaluation = [str(model), "--data", str(data), "--out", str(tmp_path / "report"), "--card", str(file)]
    more = ["--overwrite", "--no-threshold"]
    try_all("card to evaluate", 8, content, True, file.write_bytes, lambda: evaluate([*evaluation, *more]), tmp_path)


def test_mosaics(model: Path, mosaic: Path, tmp_path: Path) -> None:
    mapping = [str(mosaic), str(tmp_path / "o.tif"), "--model", str(model), "--overwrite"]
    try_all("mosaic", 36, mosaic.read_bytes(), False, mosaic.write_bytes, lambda: map_mosaic(mapping), tmp_path)


def test_models(model: Path, mosaic: Path, data: Path, tmp_path: Path) -> None:
    file = tmp_path / "changed.onnx"
    content = model.read_bytes()
    mapping = [str(mosaic), str(tmp_path / "o.tif"), "--model", str(file), "--overwrite"]
    try_all("model", 24, content, False, file.write_bytes, lambda: map_mosaic(mapping), tmp_path)
    evaluation = [str(file), "--data", str(data), "--out", str(tmp_path / "report"), "--overwrite", "--no-threshold"]
    try_all("model to evaluate", 6, content, False, file.write_bytes, lambda: evaluate(evaluation), tmp_path)


def test_scenes(model: Path, data: Path, write_config: Callable[..., Path], tmp_path: Path) -> None:
    """Images and labels, in training, in its check, and in evaluation."""
    config = write_config(tile_size=32, data_module={"data_dir": str(data)}, **SHORT)
    evaluation = [str(model), "--data", str(data), "--out", str(tmp_path / "report"), "--overwrite", "--no-threshold"]
    commands: dict[str, tuple[int, Callable[[], int]]] = {
        "to train on": (5, lambda: train([str(config)])),
        "to check": (5, lambda: train([str(config), "--check"])),
        "to evaluate on": (6, lambda: evaluate(evaluation)),
    }
    for kind, (number, run) in commands.items():
        for name in ("x/s0.tif", "y/s0_label.tif"):
            file = data / ("test" if kind == "to evaluate on" else "train") / name
            content = file.read_bytes()
            try_all(f"{name} {kind}", number, content, False, file.write_bytes, run, tmp_path)
            file.write_bytes(content)


def test_checkpoints_and_run_folders(write_config: Callable[..., Path], tmp_path: Path) -> None:
    config = write_config(**SHORT)
    assert train([str(config)]) == 0
    (original,) = (tmp_path / "runs" / "p").iterdir()
    (checkpoint,) = (path for path in (original / "checkpoints").iterdir() if path.name != "last.ckpt")
    file = tmp_path / "changed.ckpt"
    # A flipped weight is a valid checkpoint: what is tried is the archive around the weights, its last 20 KiB.
    content = checkpoint.read_bytes()
    head, tail = content[:-20_000], content[-20_000:]
    conversion = [str(file), str(config), "--formats", "torchscript", "--output_dir", str(tmp_path / "weights")]

    def write(changed: bytes) -> None:
        file.write_bytes(head + changed)

    try_all("checkpoint", 12, tail, False, write, lambda: convert(conversion), tmp_path)

    copy = tmp_path / "copy"
    for name in ("config.yml", "metrics.csv", "card.json", "summary.json", "data.json", "checkpoints/last.ckpt"):

        def replace(changed: bytes, name: str = name) -> None:
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(original, copy)
            (copy / name).write_bytes(head + changed if name.endswith("last.ckpt") else changed)

        whole = tail if name.endswith("last.ckpt") else (original / name).read_bytes()
        text = not name.endswith("last.ckpt")
        try_all(name, 3 if text else 10, whole, text, replace, lambda: train(["--resume", str(copy)]), tmp_path)
    assert json.loads((original / "summary.json").read_text())["best"]
