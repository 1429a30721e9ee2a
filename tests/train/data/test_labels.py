"""Labels of windows: values to classes, nodata and masks, and values that are no class."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rasterio.windows import Window

from inference.common.errors import UserError
from tests.conftest import write_raster
from train.data.labels import LabelRule, map_labels
from train.data.pairs import Pair, Scene, read_scenes
from train.data.reader import Reader

RULE = LabelRule(2, 2)
IGNORED = 2


def labelled(folder: Path, label: np.ndarray, **profile: Any) -> Scene:
    (scene,), problems = read_scenes(
        [
            Pair(
                write_raster(folder / "x.tif", np.ones((1, *label.shape[-2:]), np.uint8)),
                write_raster(folder / "y.tif", label, **profile),
            )
        ]
    )
    assert problems == []
    return scene


def test_ignored_where_labels_say_so(tmp_path: Path) -> None:
    label = np.array([[0, 1, 2, 1], [1, 1, 0, 0]], np.uint8)
    _, found, _ = Reader(RULE).window(labelled(tmp_path, label), (1,), 0, 0, 2)
    assert found.tolist() == [[0, 1], [1, 1]]
    _, found, _ = Reader(RULE).window(labelled(tmp_path, label), (1,), 0, 2, 2)
    assert found.tolist() == [[2, 1], [0, 0]]


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "int32", "uint32", "int64", "float32", "float64"]
)
@pytest.mark.parametrize(
    "rule",
    [
        LabelRule(2, 2),
        LabelRule(2, 2, ((0, 2), (1, 0), (2, 1))),
        LabelRule(5, 255),
        LabelRule(3, 255, ((-1, 255), (100, 2), (7, 0), (700, 1))),
        LabelRule(255, 255),
        LabelRule(254, 254),
    ],
)
def test_values_become_classes(dtype: str, rule: LabelRule) -> None:
    """Against the rule in words: mapped values first, then classes and ignore_index as they are, all else unknown."""
    candidates = np.array([-200, -1, 0, 1, 2, 3, 4, 7, 44, 100, 127, 188, 253, 254, 255, 256, 257, 700, 956, 70000])
    limits = np.iinfo(dtype) if np.dtype(dtype).kind in "iu" else np.finfo(dtype)
    candidates = candidates[(candidates >= limits.min) & (candidates <= limits.max)]
    values = np.resize(candidates, (9, 5)).astype(dtype)
    mapping = {v: v for v in (*range(rule.classes), rule.ignore_index)} | dict(rule.label_map)
    label, unknown = map_labels(values, rule, None)
    for value, found, strange in np.nditer([values, label, np.zeros_like(label) if unknown is None else unknown]):
        assert bool(strange) == (int(value) not in mapping), value
        if not strange:
            assert found == mapping[int(value)], value
    assert label.dtype == np.uint8


@pytest.mark.parametrize("nodata", [3, -9999, 255, -3.4028234663852886e38, -0.5, np.inf, np.nan])
def test_nodata_of_labels_is_ignored(tmp_path: Path, nodata: float) -> None:
    label = np.ones((20, 20), np.float32)
    label[3:5] = nodata
    scene = labelled(tmp_path, label, nodata=nodata)
    found = Reader(RULE).label(scene, Window(0, 0, 20, 20))
    assert (found == np.where(np.arange(20)[:, None] // 2 * 2 == 4, 1, 1)).sum() == 18 * 20
    assert (found[3:5] == IGNORED).all()


@pytest.mark.parametrize(("given", "expected"), [(None, [[0, 1]]), (0, [[2, 1]]), (1, [[0, 2]]), ("none", [[0, 1]])])
def test_nodata_that_is_a_class_stays_it_unless_told_otherwise(
    tmp_path: Path, given: int | str | None, expected: list[list[int]]
) -> None:
    scene = labelled(tmp_path, np.array([[0, 1]], np.uint8), nodata=0)
    found = Reader(LabelRule(2, 2, nodata=given)).label(scene, Window(0, 0, 2, 1))
    assert found.tolist() == expected


def test_no_value_is_nodata_where_the_config_says_so(tmp_path: Path) -> None:
    scene = labelled(tmp_path, np.array([[0, 9]], np.uint8), nodata=9)
    assert Reader(RULE).label(scene, Window(0, 0, 2, 1)).tolist() == [[0, 2]]
    with pytest.raises(UserError, match="label value 9"):
        Reader(LabelRule(2, 2, nodata="none")).label(scene, Window(0, 0, 2, 1))


def test_masked_labels_are_ignored_and_their_nodata_stays_a_class(tmp_path: Path) -> None:
    label = np.zeros((2, 4, 4), np.uint8)
    label[0, :2] = 1
    label[1] = 255
    label[1, :, 0] = 0
    scene = labelled(tmp_path, label, nodata=0, alpha="yes")
    assert scene.label.alpha == (2,)
    found = Reader(RULE).label(scene, Window(0, 0, 4, 4))
    assert found.tolist() == [[2, 1, 1, 1]] * 2 + [[2, 0, 0, 0]] * 2


@pytest.mark.parametrize(
    ("value", "dtype", "shown"),
    [
        (7, "uint8", "7"),
        (-1, "int16", "-1"),
        (258, "uint16", "258"),
        (0.5, "float32", "0.5"),
        (1e30, "float32", "1e+30"),
    ],
)
def test_a_value_that_is_no_class_is_named_with_its_place(tmp_path: Path, value: float, dtype: str, shown: str) -> None:
    label = np.zeros((40, 30), dtype)
    label[33, 17] = value
    scene = labelled(tmp_path, label)
    with pytest.raises(UserError) as caught:
        Reader(RULE).window(scene, (1,), 30, 10, 16)
    assert str(caught.value) == (
        f"{scene.pair.label}: label value {shown} at row 33, column 17 is no class "
        "(allowed: 0, 1, 2; translate others with data_module.label_map)"
    )
    Reader(RULE).window(scene, (1,), 0, 0, 16)  # elsewhere all is well


def test_what_is_allowed_is_said_in_few_words() -> None:
    assert LabelRule(2, 2).allowed() == "0, 1, 2"
    assert LabelRule(3, 255, ((-1, 255), (7, 0))).allowed() == "-1, 0, 1, 2, 7, 255"
    assert LabelRule(40, 255, ((700, 1),)).allowed() == "0 to 39, 255, 700"
    assert LabelRule(2, 2, nodata=99).allowed() == "0, 1, 2, 99"
