"""No ground of one split lies within the guard of another: checked on the written GeoPackage with other code."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import shapely
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio import Affine
from rasterio.crs import CRS

from inference.common.errors import UserError
from inference.common.raster import Header
from train.data.guard import near_images, too_close
from train.data.prepared import Block, PreparedSet, Settings, Source
from train.preparation.cells import Image, Rectangle
from train.preparation.config import SelectConfig, SplitConfig
from train.preparation.geopackage import write_dataset
from train.preparation.splits import plan_blocks

UTM = "EPSG:32609"
# A metre of UTM is up to 0.05 % less on the ground here, and rectangles have straight sides in the file's CRS.
ROUNDING = 2e-3
PIXELS = {UTM: 1.0, "EPSG:32610": 1.0, "EPSG:3857": 1.6, "EPSG:4326": 1.3e-5, "EPSG:3005": 1.0}


def header(
    number: int, east: float, north: float, size: tuple[int, int], pixel: float, turn: float, crs: str
) -> Header:
    x, y = Transformer.from_crs(UTM, crs, always_xy=True).transform(562_000 + east, 5_722_000 + north)
    side = pixel * PIXELS[crs]
    transform = Affine(side, 0, x, 0, -side, y) @ Affine.rotation(turn)
    return Header(
        f"i{number}.tif", *size, (64, 64), 1, "uint8", (None,), (), False, CRS.from_user_input(crs), transform
    )


IMAGES = st.builds(
    lambda east, north, height, width, pixel, turn, crs: (east, north, (height, width), pixel, turn, crs),
    st.floats(0, 150),
    st.floats(0, 150),
    st.integers(80, 700),
    st.integers(80, 700),
    st.sampled_from([0.1, 0.1, 0.13, 0.2]),
    st.sampled_from([0, 0, 0, 5, 45, 200]),
    st.sampled_from([UTM, UTM, UTM, *PIXELS]),
)
SPLITS = st.fixed_dictionaries(
    {
        "by": st.sampled_from(["block", "block", "site", "date"]),
        "block_size": st.one_of(
            st.floats(4, 40).map(lambda size: f"{size:.2f} m"), st.integers(60, 300).map(lambda size: f"{size} px")
        ),
        "guard": st.one_of(
            st.floats(0.5, 12).map(lambda size: f"{size:.2f} m"), st.integers(1, 90).map(lambda size: f"{size} px")
        ),
        "seed": st.integers(0, 99),
        "folds": st.sampled_from([None, None, 2, 3]),
        "shares": st.sampled_from([{"train": 0.7, "val": 0.15, "test": 0.15}, {"train": 0.5, "val": 0.5}]),
    }
)


def mottled(number: int, areas: Sequence[Rectangle]) -> NDArray[np.int64]:
    """Count pixels of two classes in shares that differ from place to place, and some blocks without a label."""
    counts = []
    for top, bottom, left, right in areas:
        rng = np.random.default_rng([number, top // 50, left // 50])
        pixels = (bottom - top) * (right - left)
        kelp = int(pixels * rng.random() * 0.3)
        labelled = pixels if rng.random() < 0.9 else 0
        counts.append([max(0, labelled - kelp), min(kelp, labelled), pixels - labelled, 0])
    return np.array(counts, np.int64).reshape(-1, 4)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow], phases=[Phase.generate])
@given(st.lists(IMAGES, min_size=1, max_size=5), SPLITS)
def test_no_ground_within_the_guard_of_another_split(places: list[Any], split: dict[str, Any]) -> None:
    check(places, split)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow], phases=[Phase.generate])
@given(st.lists(IMAGES, min_size=1, max_size=5), SPLITS)
def test_no_ground_within_the_guard_in_many_configurations(places: list[Any], split: dict[str, Any]) -> None:
    check(places, split)


def check(places: list[Any], split: dict[str, Any]) -> None:
    """Plan the blocks, write them, and compare the ground of the splits as it was written."""
    headers = [header(number, *place) for number, place in enumerate(places)]
    images = [Image(f"i{n}", each, f"site{n // 2}", f"2024-01-0{n % 3 + 1}") for n, each in enumerate(headers)]
    config = SplitConfig.model_validate(split)
    try:
        plan = plan_blocks(images, config, SelectConfig(), 64, ["background", "kelp"], mottled)
    except UserError:  # too few units, or a guard that leaves nothing of a split
        return
    names = {each.name: Source(each.name, "", "", None, 1, 1, 1, "uint8", None, None, None, "") for each in images}
    chosen = Settings(("background", "kelp"), 64, plan.guard, plan.guard_pixels, "block", config.folds, 0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "dataset.gpkg"
        write_dataset(path, PreparedSet(Path(folder), chosen, names, plan.blocks), headers)
        table = geopandas.read_file(path, layer="blocks").to_crs(UTM)
    used = table[table["selected"].astype(bool)]
    labels = used["split"] + used["fold"].astype(str)
    assert plan.guard is not None
    for label in labels.unique():
        ground = shapely.union_all(used[labels == label].geometry.buffer(plan.guard * (1 - ROUNDING), quad_segs=32))
        others = shapely.union_all(used[labels != label].geometry)
        assert shapely.area(shapely.intersection(ground, others)) == 0


def test_blocks_too_close_are_found() -> None:
    """The check itself: distances of blocks of two images in different CRSs, against UTM."""
    headers = {"a": header(0, 0, 0, (100, 100), 0.1, 0, UTM), "b": header(1, 12, 0, (100, 100), 0.1, 0, "EPSG:4326")}
    blocks = [Block("a0", "a", 0, 0, 100, 100, "train"), Block("b0", "b", 0, 0, 100, 100, "val")]
    (pair,) = too_close(blocks, headers, 3.0, 0)
    assert (pair.first, pair.second) == (0, 1)
    assert pair.distance == pytest.approx(2.0, abs=0.05)
    assert too_close(blocks, headers, 1.9, 0) == []
    assert too_close([blocks[0], Block("b0", "b", 0, 0, 100, 100, "train")], headers, 3.0, 0) == []
    assert too_close([blocks[0], Block("b0", "b", 0, 0, 100, 100, "val", selected=False)], headers, 3.0, 0) == []
    folds = [Block("a0", "a", 0, 0, 50, 100, "train", 1), Block("a1", "a", 50, 0, 50, 100, "train", 2)]
    assert len(too_close(folds, headers, 1.0, 0)) == 1
    assert too_close(folds, headers, 0.0, 0) == []
    overlapping = [folds[0], Block("a1", "a", 40, 0, 50, 100, "train", 2)]
    assert len(too_close(overlapping, headers, 0.0, 0)) == 1


def test_images_across_the_antimeridian_are_near() -> None:
    transforms = [Affine(1e-5, 0, 179.9995, 0, -1e-5, 51), Affine(1e-5, 0, -180.0, 0, -1e-5, 51)]
    headers = [
        Header(f"{n}.tif", 50, 50, (64, 64), 1, "uint8", (None,), (), False, CRS.from_epsg(4326), transform)
        for n, transform in enumerate(transforms)
    ]
    assert near_images(headers, 1.0) == [[0, 1]]
    shifted = [Affine(1e-5, 0, 10.0, 0, -1e-5, 51), Affine(1e-5, 0, -10.0, 0, -1e-5, 51)]
    apart = [
        Header(f"{n}.tif", 50, 50, (64, 64), 1, "uint8", (None,), (), False, CRS.from_epsg(4326), transform)
        for n, transform in enumerate(shifted)
    ]
    assert near_images(apart, 1000.0) == [[0], [1]]
