"""Maps of classes of any origin: what is read from them, and what they say of themselves."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference.common.errors import UserError
from inference.vector.class_map import open_class_map
from tests.inference.vector.maps import patches, write_map

VALUES = patches(130, 70, 3, 0)


def read(path: Path, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the classes and the invalid pixels of a map."""
    rows = list(open_class_map(str(path), **options).rows())
    invalid = [np.zeros(part.values.shape, bool) if part.invalid is None else part.invalid for part in rows]
    return np.concatenate([part.values for part in rows]), np.concatenate(invalid)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "uint16", "int32", "uint32", "float32", "float64"])
def test_any_type_of_numbers(tmp_path: Path, dtype: str) -> None:
    values, invalid = read(write_map(tmp_path / "m.tif", VALUES.astype(dtype)))
    assert (values == VALUES).all()
    assert not invalid.any()


@pytest.mark.parametrize("nodata", [2, 255, -9999, np.nan])
def test_nodata_is_unmapped(tmp_path: Path, nodata: float) -> None:
    stored = VALUES.astype(np.float32)
    stored[VALUES == 2] = nodata
    values, invalid = read(write_map(tmp_path / "m.tif", stored, nodata=nodata))
    assert (invalid == (VALUES == 2)).all()
    assert (values == np.where(VALUES == 2, 0, VALUES)).all()


def test_nodata_of_zero_is_unmapped_with_a_notice(tmp_path: Path) -> None:
    path = write_map(tmp_path / "m.tif", VALUES, nodata=0)
    assert (read(path)[1] == (VALUES == 0)).all()
    assert not read(path, nodata="none")[1].any()
    (notice,) = open_class_map(str(path)).notices
    assert "--nodata none" in notice


def test_an_alpha_band_marks_unmapped_pixels(tmp_path: Path) -> None:
    bands = np.stack([VALUES, np.where(VALUES == 1, 0, 255).astype(np.uint8)])
    path = write_map(tmp_path / "m.tif", bands, ALPHA="YES")
    assert (read(path)[1] == (VALUES == 1)).all()


def test_names_of_classes(tmp_path: Path) -> None:
    plain = write_map(tmp_path / "m.tif", VALUES)
    assert list(open_class_map(str(plain)).info.names) == ["background", "class 1", "class 2"]
    assert list(open_class_map(str(plain), names={0: "sea", 1: "kelp", 2: "rock"}).info.names) == [
        "sea",
        "kelp",
        "rock",
    ]
    tagged = write_map(tmp_path / "t.tif", VALUES, tags={"CLASS_NAMES": '{"0": "b", "1": "k", "2": "n"}'})
    assert list(open_class_map(str(tagged)).info.names) == ["b", "k", "n"]
    broken = write_map(tmp_path / "b.tif", VALUES, tags={"CLASS_NAMES": '{"0": "b", "2"'})
    assert list(open_class_map(str(broken)).info.names) == ["background", "class 1", "class 2"]


def test_a_value_without_a_class_is_named_with_its_place(tmp_path: Path) -> None:
    values = np.zeros((600, 5), np.int16)
    values[555, 3] = 7
    path = write_map(tmp_path / "m.tif", values)
    assert list(open_class_map(str(path)).info.numbers) == [0, 7]
    for wrong in (7, -1, 256, 300):
        values[555, 3] = wrong
        path = write_map(tmp_path / "m.tif", values)
        with pytest.raises(
            UserError, match=rf"holds the value {wrong} at row 555, column 3 \(allowed: its classes 0, 1;"
        ):
            read(path, names={0: "background", 1: "kelp"})
    stored = values.astype(np.float32)
    stored[555, 3] = 1.5
    with pytest.raises(UserError, match=r"holds the value 1.5 at row 555, column 3 \(allowed: class numbers"):
        open_class_map(str(write_map(tmp_path / "m.tif", stored)))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float32"])
@pytest.mark.parametrize("numbers", [(0, 2), (0, 2, 3), (1, 3), (10, 20, 100), (0, 1, 5)])
def test_values_with_gaps(tmp_path: Path, dtype: str, numbers: tuple[int, ...]) -> None:
    stored = np.array(numbers)[np.minimum(VALUES, len(numbers) - 1)].astype(dtype)
    path = write_map(tmp_path / "m.tif", stored)
    found = open_class_map(str(path)).info
    assert list(found.numbers) == sorted({0, *numbers})
    assert found.background == 0
    assert (found.numbers[read(path)[0]] == stored).all()
    named = open_class_map(str(path), names={value: f"n{value}" for value in numbers}).info
    assert named.background == (0 if 0 in numbers else None)


def test_an_image_is_no_map_of_classes(tmp_path: Path) -> None:
    path = write_map(tmp_path / "m.tif", np.arange(150 * 4, dtype=np.uint16).reshape(150, 4))
    with pytest.raises(UserError, match="has more than 100 different values"):
        open_class_map(str(path))


@pytest.mark.parametrize("block", [16, 64, 576, 1008])
def test_rows_begin_where_areas_of_cells_begin(tmp_path: Path, block: int) -> None:
    values = patches(1100, 40, 3, 1)
    path = write_map(tmp_path / "m.tif", values, tiled=block % 16 == 0 and block < 100, blockxsize=64, blockysize=block)
    rows = list(open_class_map(str(path)).rows())
    assert all(part.row % 64 == 0 for part in rows)
    assert (np.concatenate([part.values for part in rows]) == values).all()


@pytest.mark.parametrize("bands", [1, 2])
def test_probabilities_are_those_of_the_own_class(tmp_path: Path, bands: int) -> None:
    values = (VALUES > 0).astype(np.uint8)
    p = np.random.default_rng(0).random(values.shape, np.float32)
    floats = write_map(tmp_path / "p.tif", np.stack([1 - p, p]) if bands == 2 else p)
    found = open_class_map(str(write_map(tmp_path / "m.tif", values)), probabilities=str(floats))
    probability = np.concatenate([part.probability for part in found.rows() if part.probability is not None])
    np.testing.assert_array_equal(probability, np.where(values == 1, p, 1 - p))
