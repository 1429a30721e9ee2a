"""No ground of one split lies within the guard of another: checked on the written GeoPackage with other code."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import shapely
from hypothesis import HealthCheck, Phase, given, reject, settings
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
ROUNDING = 1e-4
"""Share of the guard that the plane of the check, and straight sides in the file's CRS, may be off by."""
EVERYWHERE = ("EPSG:4326", "EPSG:3857")
PLACES = {
    (-128.1, 51.64): (UTM, UTM, UTM, "EPSG:32610", "EPSG:3005"),
    (32.58, 0.0004): ("EPSG:32636", "EPSG:32636", "EPSG:32635"),  # across the equator
    (179.9995, -17.0): ("EPSG:32760", "EPSG:32760", "EPSG:32701", "EPSG:3832"),  # across 180 degrees
}
"""Longitude and latitude of places, with the CRSs of images there."""


def plane(place: tuple[float, float]) -> Transformer:
    """Return the transformation from degrees to metres around a place."""
    metres = f"+proj=tmerc +lon_0={place[0]} +lat_0={place[1]} +k=1 +ellps=WGS84 +units=m"
    return Transformer.from_crs("EPSG:4326", metres, always_xy=True)


def header(
    number: int,
    place: tuple[float, float],
    east: float,
    north: float,
    size: tuple[int, int],
    pixel: float,
    turn: float,
    crs: str,
) -> Header:
    """Return the header of an image that isn't there: its upper left corner lies some metres from a place."""
    degrees = plane(place).transform(east, north, direction="INVERSE")
    x, y = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(*degrees)
    side = pixel / (111_132 if crs == "EPSG:4326" else 1)  # in degrees, wider than high on the ground
    if crs in {"EPSG:3857", "EPSG:3832"}:
        side /= np.cos(np.radians(place[1]))
    transform = Affine(side, 0, x, 0, -side, y) @ Affine.rotation(turn)
    return Header(
        f"i{number}.tif", *size, (64, 64), 1, "uint8", (None,), (), False, CRS.from_user_input(crs), transform
    )


@st.composite
def surveys(draw: st.DrawFn) -> tuple[tuple[float, float], list[Header]]:
    """Draw a place, and the headers of images there."""
    place = draw(st.sampled_from(sorted(PLACES)))
    return place, [
        header(
            number,
            place,
            draw(st.floats(0, 150)),
            draw(st.floats(0, 150)),
            (draw(st.integers(80, 700)), draw(st.integers(80, 700))),
            draw(st.sampled_from([0.1, 0.1, 0.13, 0.2])),
            draw(st.sampled_from([0, 0, 0, 5, 45, 90, 200])),
            draw(st.sampled_from([*PLACES[place], *EVERYWHERE])),
        )
        for number in range(draw(st.integers(1, 5)))
    ]


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


UNHURRIED = [HealthCheck.too_slow, HealthCheck.filter_too_much]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@settings(max_examples=40, deadline=None, suppress_health_check=UNHURRIED, phases=[Phase.generate])
@given(surveys(), SPLITS)
def test_no_ground_within_the_guard_of_another_split(
    survey: tuple[tuple[float, float], list[Header]], split: dict[str, Any]
) -> None:
    check(*survey, split)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@settings(max_examples=300, deadline=None, suppress_health_check=UNHURRIED, phases=[Phase.generate])
@given(surveys(), SPLITS)
def test_no_ground_within_the_guard_in_many_configurations(
    survey: tuple[tuple[float, float], list[Header]], split: dict[str, Any]
) -> None:
    check(*survey, split)


def check(place: tuple[float, float], headers: list[Header], split: dict[str, Any]) -> None:
    """Plan the blocks, write them, and compare the ground of the splits as it was written."""
    images = [Image(f"i{n}", each, f"site{n // 2}", f"2024-01-0{n % 3 + 1}") for n, each in enumerate(headers)]
    config = SplitConfig.model_validate(split)
    try:
        plan = plan_blocks(images, config, SelectConfig(), 64, ["background", "kelp"], mottled)
    except UserError:  # too few units, or a guard that leaves nothing of a split
        reject()
    names = {each.name: Source(each.name, "", "", None, 1, 1, 1, "uint8", None, None, None, "") for each in images}
    chosen = Settings(("background", "kelp"), 64, plan.guard, plan.guard_pixels, "block", config.folds, 0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "dataset.gpkg"
        write_dataset(path, PreparedSet(Path(folder), chosen, names, plan.blocks), headers)
        table = geopandas.read_file(path, layer="blocks").to_crs("EPSG:4326")
    used = table[table["selected"].astype(bool)]
    metres = plane(place)
    ground = shapely.transform(
        used.geometry.to_numpy(),
        lambda at: np.column_stack(metres.transform(place[0] + (at[:, 0] - place[0] + 180) % 360 - 180, at[:, 1])),
    )
    # No arithmetic of columns: a fold that is missing would make the sum missing, and equal to nothing.
    labels = np.array([f"{split} {fold}" for split, fold in zip(used["split"], used["fold"], strict=True)])
    assert plan.guard is not None
    assert len(set(labels)) > 1
    for label in set(labels):
        near = shapely.union_all(shapely.buffer(ground[labels == label], plan.guard * (1 - ROUNDING), quad_segs=32))
        assert shapely.area(shapely.intersection(near, shapely.union_all(ground[labels != label]))) == 0


def test_blocks_too_close_are_found() -> None:
    """The check itself: distances of blocks of two images in different CRSs, against UTM."""
    place = (-128.1, 51.64)
    headers = {
        "a": header(0, place, 0, 0, (100, 100), 0.1, 0, UTM),
        "b": header(1, place, 12, 0, (100, 100), 0.1, 0, "EPSG:4326"),
    }
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
