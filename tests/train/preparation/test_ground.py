"""Groups of images and their frames; cells as whole pixels of each image."""

from pathlib import Path

import numpy as np
import pytest
import shapely
from pyproj import Transformer
from rasterio import Affine

from inference.common.raster import Header, read_header
from tests.conftest import write_raster
from train.data.guard import near_images, too_close
from train.data.prepared import Block
from train.preparation.ground import extent, find_groups, rectangles

EAST, NORTH = 562_000.0, 5_722_000.0
UTM = "EPSG:32609"


def image(
    folder: Path, name: str, east: float = 0, north: float = 0, size: int = 400, pixel: float = 0.1, turn: float = 0,
    crs: str | None = "EPSG:32609",
) -> Header:  # fmt: skip
    x, y = EAST + east, NORTH + north
    if crs not in {None, "EPSG:32609"}:
        x, y = Transformer.from_crs("EPSG:32609", crs, always_xy=True).transform(x, y)
        pixel *= {"EPSG:4326": 1e-5}.get(crs, 1)
    transform = Affine(pixel, 0, x, 0, -pixel, y) @ Affine.rotation(turn)
    if crs is None:
        transform = Affine.identity()
    pixels = np.zeros((1, size, size), np.uint8)
    return read_header(write_raster(folder / f"{name}.tif", pixels, transform=transform, crs=crs))


def outline(header: Header, rows: tuple[int, int], cols: tuple[int, int]) -> shapely.Polygon:
    """Return a rectangle of pixels in UTM, with many points on its sides."""
    ring = shapely.segmentize(shapely.box(cols[0], rows[0], cols[1], rows[1]), 1.0)
    there = Transformer.from_crs(header.crs.to_wkt(), "EPSG:32609", always_xy=True)
    return shapely.transform(ring, lambda at: np.column_stack(there.transform(*(header.transform @ tuple(at.T)))))


def rectangle(header: Header, frame: Header, cell: tuple[int, int, int, int]) -> tuple[int, ...] | None:
    (area,), _ = rectangles(header, frame, np.array([cell]))
    return tuple(area.tolist()) if area[0] < area[1] and area[2] < area[3] else None


def test_images_within_the_guard_share_a_frame(tmp_path: Path) -> None:
    headers = [
        image(tmp_path, "a"),
        image(tmp_path, "far", east=500),
        image(tmp_path, "over", east=20, north=5),
        image(tmp_path, "near", east=65),
        image(tmp_path, "none", crs=None),
    ]
    assert [group.members for group in find_groups(headers, 10)] == [(0, 2, 3), (1,), (4,)]
    assert [group.members for group in find_groups(headers, 0)] == [(0, 2), (1,), (3,), (4,)]
    assert len(find_groups(headers, 1000)) == 2


def test_the_frame_is_the_first_image_continued(tmp_path: Path) -> None:
    (group,) = find_groups([image(tmp_path, "a"), image(tmp_path, "b", east=20, north=5, size=100, pixel=0.3)], 0)
    assert group.bounds == (-50, 400, 0, 500)
    assert group.sides == pytest.approx((0.1, 0.1), rel=1e-3)
    assert group.margin == (0, 0)
    (alone,) = find_groups([image(tmp_path, "c", turn=20)], 0)
    assert (alone.bounds, alone.margin) == ((0, 400, 0, 400), (0, 0))


def test_a_cell_is_whole_pixels_of_parallel_images(tmp_path: Path) -> None:
    frame, other = image(tmp_path, "a"), image(tmp_path, "b", east=10.05, size=100, pixel=0.3)
    assert rectangle(frame, frame, (100, 200, 50, 150)) == (100, 200, 50, 150)
    assert rectangle(frame, frame, (-50, 20, 390, 450)) == (0, 20, 390, 400)
    # Columns 100.5 to 150 of the frame: 0 to 16.5 pixels of 0.3 m.
    assert rectangle(other, frame, (30, 60, 50, 150)) == (10, 20, 0, 16)
    assert rectangle(other, frame, (0, 60, 0, 100)) is None


@pytest.mark.parametrize(("turn", "crs"), [(3, UTM), (45, UTM), (90, UTM), (170, UTM), (180, UTM), (0, "EPSG:4326")])
def test_a_cell_holds_the_pixels_of_an_image_that_is_turned(tmp_path: Path, turn: float, crs: str) -> None:
    frame = image(tmp_path, "a", size=600)
    other = image(tmp_path, "b", east=30, north=-30, size=300, turn=turn, crs=crs)
    shares = []
    for cell in ((100, 300, 250, 450), (280, 380, 280, 380), (300, 500, 300, 400)):
        found = rectangle(other, frame, cell)
        ground = outline(frame, (cell[0], cell[1]), (cell[2], cell[3]))
        if found is None:
            continue
        inside = outline(other, (found[0], found[1]), (found[2], found[3]))
        assert ground.buffer(1e-3).contains(inside)
        whole = outline(other, (0, 300), (0, 300)).intersection(ground)
        shares.append(inside.area / whole.area)
    assert shares
    assert max(shares) > {3: 0.9, 170: 0.45, 0: 0.95, 45: 0.45, 90: 0.99, 180: 0.99}[turn]


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:32601"])
@pytest.mark.parametrize("other", ["EPSG:4326", "EPSG:3857"])
def test_a_frame_across_the_antimeridian_is_small(tmp_path: Path, crs: str, other: str) -> None:
    """Images of 50 m on both sides of 180 degrees, the first one continued across it in its own coordinates."""
    headers = []
    for number, (name, east) in enumerate(((crs, 179.9998), (other, -180.0))):
        x, y = Transformer.from_crs("EPSG:4326", name, always_xy=True).transform(east, 51)
        pixel = 1e-6 if name == "EPSG:4326" else 0.1
        path = tmp_path / f"{number}.tif"
        write_raster(path, np.zeros((1, 500, 500), np.uint8), transform=Affine(pixel, 0, x, 0, -pixel, y), crs=name)
        headers.append(read_header(path))
    (group,) = find_groups(headers, 1.0)
    assert group.bounds[1] - group.bounds[0] < 1500
    assert group.bounds[3] - group.bounds[2] < 1500
    top, bottom, left, right = extent(headers[1], headers[0])
    middle = round((top + bottom) / 2), round((left + right) / 2)
    assert rectangle(headers[1], headers[0], (middle[0] - 50, middle[0] + 50, middle[1] - 50, middle[1] + 50))


def test_distances_at_the_equator(tmp_path: Path) -> None:
    """9.98 m apart where a degree of latitude is shortest, 110,574 m."""
    headers = []
    for number, latitude in enumerate((0.0, 9.98 / 110_574.3)):
        path = tmp_path / f"{number}.tif"
        transform = Affine(1e-6, 0, 32.5, 0, -1e-6, latitude + 1e-4 * number)
        write_raster(path, np.zeros((1, 100, 100), np.uint8), transform=transform, crs="EPSG:4326")
        headers.append(read_header(path))
    assert near_images(headers, 10.0) == [[0, 1]]
    assert near_images(headers, 9.9) == [[0], [1]]


def test_datums_that_are_related_in_two_ways_keep_a_margin(tmp_path: Path) -> None:
    """GDA94 and GDA2020 are 1.8 m apart, and PROJ takes both for WGS 84."""
    headers = []
    for crs in ("EPSG:28355", "EPSG:7855"):
        path = tmp_path / f"{crs[5:]}.tif"
        write_raster(path, np.zeros((1, 300, 300), np.uint8), transform=Affine(0.1, 0, 5e5, 0, -0.1, 5.35e6), crs=crs)
        headers.append(read_header(path))
    (group,) = find_groups(headers, 1.0)
    assert 14 < np.hypot(*group.margin) < 20
    (cell,), _ = rectangles(headers[1], headers[0], np.array([[100, 200, 100, 200]]))
    blocks = [Block("a", "a", 100, 100, 100, 100, "train"), Block("b", "b", *cell[[0, 2]].tolist(), 100, 100, "val")]
    (pair,) = too_close(blocks, dict(zip("ab", headers, strict=True)), 1.0, 0)
    assert pair.distance == 0  # the same place
