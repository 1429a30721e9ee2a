"""Commands on a prepared data set: training, resuming, `--check`, conversion and evaluation."""

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from inference.common.errors import UserError
from tests.train.data.prepared_set import SETTINGS, edit, make_prepared
from tests.train.run.test_resume import assert_same, resume, stop_at
from train.__main__ import main
from train.configs.loader import load_config
from train.data.read_prepared import read_prepared
from train.export.parity_images import parity_images
from train.preparation.chips import write_chips
from train.run.fit import train
from train.run.folder import RunFolder
from train.run.interrupt import Interrupted

Write = Callable[..., Path]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a prepared data set; its mosaics and its chips lie beside it."""
    settings = replace(SETTINGS, folds=2)
    folder = make_prepared(
        tmp_path_factory.mktemp("prepared"), settings=settings, tiled=True, blockxsize=32, blockysize=32
    )
    write_chips(read_prepared(folder), folder.parent / "chips")
    return folder


@pytest.fixture
def prepared(original: Path, tmp_path: Path) -> Path:
    """Return a copy of the data set."""
    shutil.copytree(original.parent, tmp_path / "set")
    return tmp_path / "set" / "out"


def run(path: Path, *overrides: str) -> RunFolder:
    return train(load_config(path, overrides).config).folder


def scores(folder: RunFolder) -> list[dict[str, str]]:
    with folder.metrics.open() as file:
        return [{k: v for k, v in row.items() if k.startswith(("train/", "val/"))} for row in csv.DictReader(file)]


def test_training_on_blocks_and_on_their_chips_is_the_same(original: Path, write_config: Write) -> None:
    folders = [
        run(write_config(tile_size=32, data_module={"data_dir": str(data), "num_workers": 0}))
        for data in (original, original.parent / "chips")
    ]
    one, two = (json.loads(folder.summary.read_text()) for folder in folders)
    assert one["val"] == two["val"]
    assert one["test"] == two["test"]
    assert scores(folders[0]) == scores(folders[1])
    card = json.loads(folders[0].card.read_text())
    assert card["class_names"] == ["background", "kelp"]
    assert card["training_data"]["source"] == "out"
    train_blocks = [block for block in read_prepared(original).blocks if block.split == "train"]
    assert card["training_data"]["images"] == len(train_blocks)
    assert card["training_data"]["pixels"] == sum(block.height * block.width for block in train_blocks)


def test_a_stopped_run_is_resumed_on_the_same_blocks(
    prepared: Path, write_config: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends as an unbroken one, bit for bit, and doesn't go on when blocks, an image or a label have changed."""
    data = {"data_dir": str(prepared), "num_workers": 0, "foreground_share": 0.5, "fold": 2}
    path = write_config(tile_size=32, data_module=data)
    unbroken = run(path)
    with monkeypatch.context() as patch:
        stop_at(patch, 1, 1)
        with pytest.raises(Interrupted) as stopped:
            run(path)
    folder = Path(stopped.value.args[0])
    kept = prepared.parent / "kept.gpkg"
    shutil.copy(prepared / "dataset.gpkg", kept)
    name = next(block.block for block in read_prepared(prepared).blocks if block.fold == 1)
    edit(prepared, f"UPDATE blocks SET selected = 0 WHERE block = '{name}'")
    with pytest.raises(UserError, match=rf"isn't the data that .* was trained on so far: gone: train/{name} \(restore"):
        resume(folder)
    edit(prepared, f"UPDATE blocks SET selected = 1, row = row - 1 WHERE block = '{name}'")
    with pytest.raises(UserError, match=rf"changed: train/{name} \(restore"):
        resume(folder)
    shutil.copy(kept, prepared / "dataset.gpkg")
    image = prepared.parent / "mosaics" / "m1.tif"
    content = image.read_bytes()
    image.write_bytes(content + b"\0")
    with pytest.raises(UserError, match=r"m1\.tif: has changed since it was prepared: it was [\d,]+ bytes"):
        resume(folder)
    image.write_bytes(content)
    assert_same(resume(folder), unbroken)


def test_check_counts_the_pixels_of_the_blocks(
    prepared: Path, write_config: Write, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write_config(tile_size=32, data_module={"data_dir": str(prepared), "num_workers": 0})
    assert main([str(path), "--check"]) == 0
    out, err = capfd.readouterr()
    rows = {line.split("  ")[1].strip(): line.split()[-3:] for line in out.splitlines() if line.startswith("  ")}
    blocks = read_prepared(prepared).blocks
    splits = [[block for block in blocks if block.split == split] for split in ("train", "val", "test")]
    assert rows["images"] == ["2", "2", "2"]
    assert rows["blocks"] == [str(len(found)) for found in splits]
    area = [sum(block.height * block.width for block in found) for found in splits]
    kelp = [sum(b.shares[1] * b.height * b.width for b in found) for found in splits]
    assert "kelp" in out
    shares = [
        float(cell.rstrip("%")) for cell in next(line for line in out.splitlines() if " kelp " in line).split()[1:]
    ]
    assert shares == pytest.approx([100 * k / a for k, a in zip(kelp, area, strict=True)], abs=0.06)
    assert "show the same ground" not in out + err
    (prepared / "labels" / "m0.tif").unlink()
    (prepared.parent / "mosaics" / "m1.tif").unlink()
    assert main([str(path), "--check"]) == 2
    problems = [line for line in capfd.readouterr().err.splitlines() if "run python -m train.prepare again" in line]
    assert len(problems) == 2


def test_parity_is_checked_on_test_blocks(original: Path, write_config: Write) -> None:
    config = load_config(write_config(tile_size=32, data_module={"data_dir": str(original), "num_workers": 0})).config

    class Card:
        bands, dtype = [1, 2, 3], "uint8"

    card: Any = Card()
    found = parity_images([config], card, (32, 32))
    assert found.source == f"the test split of {original}"
    assert found.image.shape == (2, 3, 32, 32)
