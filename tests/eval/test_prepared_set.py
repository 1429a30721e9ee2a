"""Evaluation on the blocks of a prepared data set."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from eval.test_new_model import main
from inference.common.raster import read_header
from tests.inference.networks import card, write_onnx
from tests.train.data.prepared_set import SETTINGS, edit, make_prepared
from train.data.read_prepared import read_prepared
from train.preparation.chips import write_chips


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_prepared(tmp_path_factory.mktemp("prepared"), mosaics=3, block=40, nodata=0)
    edit(folder, "UPDATE sources SET site = 'bay' WHERE name IN ('m0', 'm1')")
    return folder


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_onnx(tmp_path_factory.mktemp("model") / "m_kelp_dice=0.9.onnx", card(ignore_index=2))


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "per_image.csv").open() as file:
        return list(csv.DictReader(file))


def test_blocks_are_scored_as_their_chips_and_grouped_by_site(prepared: Path, network: Path, tmp_path: Path) -> None:
    chips = tmp_path / "chips"
    write_chips(read_prepared(prepared), chips)
    blocks, copies = tmp_path / "blocks", tmp_path / "copies"
    assert main([str(network), "--data", str(prepared), "--out", str(blocks)]) == 0
    assert main([str(network), "--data", str(chips), "--out", str(copies)]) == 0
    one, two = rows(blocks), rows(copies)
    expected = [block for block in read_prepared(prepared).blocks if block.split == "test"]
    assert sorted(row["image"] for row in one) == sorted(block.block for block in expected)
    assert {row["group"] for row in one} == {"bay", "m2"}
    assert [row | {"group": ""} for row in one] == [row | {"group": ""} for row in two]
    scores = [json.loads((out / "scores.json").read_text())["scores"] for out in (blocks, copies)]
    assert scores[0] == scores[1]
    mask = read_header(blocks / "masks" / f"{expected[0].block}.tif")
    assert (mask.height, mask.width) == (expected[0].height, expected[0].width)
    mosaic = read_header(prepared.parent / "mosaics" / f"{expected[0].source}.tif")
    assert mask.transform.c == pytest.approx(mosaic.transform.c + 0.1 * expected[0].col)
    assert mask.transform.f == pytest.approx(mosaic.transform.f - 0.1 * expected[0].row)


def test_sites_do_not_replace_a_given_group(prepared: Path, network: Path, tmp_path: Path) -> None:
    assert main([str(network), "--data", str(prepared), "--out", str(tmp_path / "o"), "--group", r"c\d+"]) == 0
    assert {row["group"][0] for row in rows(tmp_path / "o")} == {"c"}


def test_a_split_that_is_not_there(tmp_path: Path, network: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = make_prepared(tmp_path)
    edit(folder, "UPDATE blocks SET selected = 0 WHERE split = 'test'")
    assert main([str(network), "--data", str(folder), "--out", str(tmp_path / "o")]) == 2
    assert "no selected block is in test (choose --split; found train, val)" in capfd.readouterr().err


def test_the_val_fold_of_an_unknown_config(tmp_path: Path, network: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Another fold may be what the model was trained on."""
    folder = make_prepared(tmp_path, settings=replace(SETTINGS, folds=3))
    arguments = [str(network), "--data", str(folder), "--out", str(tmp_path / "o")]
    assert main([*arguments, "--split", "val"]) == 2
    message = "--split: val is one of 3 folds of"
    assert message in capfd.readouterr().err
    assert main(arguments) == 0
    err = capfd.readouterr().err
    assert f"notice: no threshold is suggested: {message}" in err
    assert "doesn't say which one it was validated on (give its YAML as CONFIG)" in err
