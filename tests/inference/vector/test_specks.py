"""Small polygons and small holes: an independent answer from labels of the whole map."""

from pathlib import Path

import numpy as np
import pytest
import shapely
from rasterio.features import rasterize
from scipy import ndimage

from inference.vector.polygonize import polygonize
from tests.inference.vector.maps import UTM, patches, read_polygons, write_map

PIXEL = 0.01
"""Ground area of a pixel, m², but for the scale of the projection."""


def drawn(text: str) -> np.ndarray:
    """Return a map from rows of digits."""
    return np.array([[int(digit) for digit in row] for row in text.split()], np.uint8)


def filled(tmp_path: Path, values: np.ndarray, **options: float) -> np.ndarray:
    """Return the map that the polygons show."""
    path = write_map(tmp_path / "m.tif", values)
    polygonize(path, tmp_path / "m.gpkg", overwrite=True, **options)
    found = read_polygons(tmp_path / "m.gpkg")
    shapes = list(zip(found.geometry, found["class"], strict=True))
    return rasterize(shapes, values.shape, transform=UTM, dtype="uint8") if shapes else np.zeros_like(values)


RING = """
    0000000
    0111110
    0100010
    0102010
    0100010
    0111110
    0000000
"""


def test_a_hole_with_another_polygon_stays(tmp_path: Path) -> None:
    assert (filled(tmp_path, drawn(RING), fill_holes=1.0) == drawn(RING)).all()


def test_a_hole_with_nothing_but_what_is_too_small_is_filled(tmp_path: Path) -> None:
    whole = np.where(drawn(RING) == 2, 1, drawn(RING))
    whole[2:5, 2:5] = 1
    assert (filled(tmp_path, drawn(RING), fill_holes=1.0, min_area=2 * PIXEL) == whole).all()
    assert read_polygons(tmp_path / "m.gpkg")["pixels"].tolist() == [25]


def test_a_hole_that_is_too_large_stays(tmp_path: Path) -> None:
    expected = np.where(drawn(RING) == 2, 0, drawn(RING))
    assert (filled(tmp_path, drawn(RING), fill_holes=8.5 * PIXEL, min_area=2 * PIXEL) == expected).all()


def test_a_polygon_is_as_large_as_it_is_with_its_holes_filled(tmp_path: Path) -> None:
    ring = drawn("00000 01110 01010 01110 00000")
    assert filled(tmp_path, ring, fill_holes=1.5 * PIXEL, min_area=8.5 * PIXEL).sum() == 9
    assert filled(tmp_path, ring, min_area=8.5 * PIXEL).sum() == 0


def test_an_invalid_pixel_keeps_a_hole_open(tmp_path: Path) -> None:
    values = drawn("1111 1091 1111")
    path = write_map(tmp_path / "m.tif", values, nodata=9)
    polygonize(path, tmp_path / "m.gpkg", fill_holes=1.0)
    (shape,) = read_polygons(tmp_path / "m.gpkg").geometry
    assert len(shape.interiors) == 1


@pytest.mark.parametrize("seed", range(6))
def test_one_class_against_labels_of_the_whole_map(tmp_path: Path, seed: int) -> None:
    """With one class and nothing dropped, holes are the background regions that don't reach the map's edge."""
    values = (patches(90, 110, 3, seed, smooth=0.8) > 0).astype(np.uint8)
    limit = 6.5 * PIXEL
    labels, count = ndimage.label(values == 0)
    edge = set(np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])))
    expected = values.copy()
    for region in range(1, count + 1):
        inside = labels == region
        around = ndimage.binary_dilation(inside) & ~inside
        one = len(np.unique(ndimage.label(values)[0][around])) == 1
        if region not in edge and one and inside.sum() <= 6:
            expected[inside] = 1
    assert (filled(tmp_path, values, fill_holes=limit) == expected).all()
    assert (expected != values).sum() > 20


@pytest.mark.parametrize("seed", range(3))
def test_what_is_too_small_is_dropped(tmp_path: Path, seed: int) -> None:
    values = patches(90, 110, 3, seed, smooth=0.8)
    expected = values.copy()
    for value in (1, 2):
        labels, count = ndimage.label(values == value)
        sizes = np.bincount(labels.ravel(), minlength=count + 1)
        expected[(labels > 0) & (sizes[labels] < 5)] = 0
    assert (filled(tmp_path, values, min_area=4.5 * PIXEL) == expected).all()
    assert shapely.area(np.array(read_polygons(tmp_path / "m.gpkg").geometry)).min() > 4.4 * PIXEL
