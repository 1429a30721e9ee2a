"""Which images show the same ground: neighbours don't, in any projection."""

from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from pyproj import Transformer
from rasterio.crs import CRS
from rasterio.transform import from_origin

from inference.common.raster import Header
from train.data.overlap import overlaps
from train.data.pairs import Pair, Scene

# 2.9 degrees east of its zone's central meridian, where the grid is turned by more than two degrees against north.
EAST, NORTH = 700_000.0, 5_800_000.0


def scene(name: str, crs: str | None, transform: Affine, height: int = 1000, width: int = 1000) -> Scene:
    header = Header(
        path="a.tif",
        height=height,
        width=width,
        block=(1, 1),
        count=3,
        dtype="uint8",
        nodata=(None,) * 3,
        alpha=(),
        masked=False,
        crs=CRS.from_user_input(crs) if crs else None,
        transform=transform,
    )
    return Scene(Pair(Path(f"{name}.tif"), Path(f"{name}_label.tif")), header, header)


def utm(name: str, east: float, north: float, size: int = 1000) -> Scene:
    return scene(name, "EPSG:32609", from_origin(EAST + east, NORTH + north, 0.1, 0.1), size, size)


def at(crs: str, east: float, north: float) -> tuple[float, float]:
    x, y = Transformer.from_crs("EPSG:32609", crs, always_xy=True).transform(EAST + east, NORTH + north)
    return float(x), float(y)


def found(train: list[Scene], val: list[Scene]) -> list[tuple[str, str]]:
    return overlaps({"train": train, "val": val}).get(("train", "val"), [])


def test_neighbours_on_a_grid_do_not_overlap() -> None:
    around = [utm(f"{e}{n}", 100 * e, 100 * n) for e in (-1, 0, 1) for n in (-1, 0, 1) if (e, n) != (0, 0)]
    assert found([utm("a", 0, 0)], around) == []


@pytest.mark.parametrize(("east", "north"), [(99, 0), (0, -99), (-50, 50), (0, 0), (99, 30)])
def test_real_overlaps_are_found(east: float, north: float) -> None:
    assert found([utm("a", 0, 0)], [utm("b", east, north)]) == [("a", "b")]


def test_a_chip_of_a_mosaic_is_found() -> None:
    mosaic = utm("mosaic", -4000, 4000, size=80_000)
    assert found([mosaic], [utm("chip", 10, -10, size=200)]) == [("mosaic", "chip")]
    assert found([utm("chip", 10, -10, size=200)], [mosaic]) == [("chip", "mosaic")]
    assert found([mosaic], [utm("beside", 4000, 10, size=200)]) == []


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:3005", "EPSG:32608"])
def test_other_projections(crs: str) -> None:
    """100 m squares with one corner in the middle of the image, and beyond its corner by a few metres."""
    metre = np.hypot(*np.subtract(at(crs, 50, -49), at(crs, 50, -50)))
    inside, beyond = (
        scene(name, crs, from_origin(*at(crs, shift, -shift), 0.1 * metre, 0.1 * metre))
        for name, shift in (("inside", 50), ("beyond", 106))
    )
    assert found([utm("a", 0, 0)], [inside, beyond]) == [("a", "inside")]
    assert found([inside, beyond], [utm("a", 0, 0)]) == [("inside", "a")]


def test_turned_images() -> None:
    """A square on its corner: the box around it is twice its size."""

    def turned(name: str, east: float, north: float) -> Scene:
        grid = Affine.translation(EAST + east, NORTH + north) @ Affine.rotation(45) @ Affine.scale(0.1, -0.1)
        return scene(name, "EPSG:32609", grid)

    # Its corners: the upper left one here, the others 70.7 m to the right and up or down of it.
    diamond = turned("diamond", 0, 0)
    assert found([diamond], [utm("beside", -80, 160)]) == []  # within the box, outside the diamond
    assert found([diamond], [utm("across", 20, 40)]) == [("diamond", "across")]


def test_across_the_date_line() -> None:
    to = {zone: Transformer.from_crs(4326, f"EPSG:{zone}", always_xy=True) for zone in (32660, 32601)}
    west = scene("west", "EPSG:32660", from_origin(*to[32660].transform(179.9999, 52), 0.1, 0.1))
    east = scene("east", "EPSG:32601", from_origin(*to[32601].transform(-179.9998, 52), 0.1, 0.1))
    away = scene("away", "EPSG:32601", from_origin(*to[32601].transform(-179.9, 52), 0.1, 0.1))
    assert found([west], [east, away]) == [("west", "east")]
    assert found([east, away], [west]) == [("east", "west")]


def test_images_that_are_nowhere_overlap_nothing() -> None:
    grid = from_origin(0, 0, 1, 1)
    nowhere = [
        scene("none", None, grid),
        scene("pixels", "EPSG:32609", Affine.identity()),
        scene("local", 'LOCAL_CS["grid",UNIT["metre",1]]', grid),
        scene("off", "EPSG:32609", from_origin(1e30, 1e30, 1, 1)),
        scene("flat", "EPSG:32609", Affine(0, 0, EAST, 0, 0, NORTH)),
    ]
    assert found(nowhere, [*nowhere, utm("a", 0, 0)]) == []


def test_each_pair_of_splits_is_told_apart() -> None:
    splits = {"train": [utm("a", 0, 0), utm("b", 500, 0)], "val": [utm("c", 10, 0)], "test": [utm("d", 510, 0)]}
    assert overlaps(splits) == {("train", "val"): [("a", "c")], ("train", "test"): [("b", "d")]}
