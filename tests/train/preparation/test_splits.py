"""Blocks and splits of several images."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from numpy.typing import NDArray
from rasterio import Affine

from inference.common.errors import UserError
from inference.common.raster import read_header
from tests.conftest import write_raster
from train.data.guard import too_close
from train.preparation.cells import Image, Rectangle
from train.preparation.config import SelectConfig, SplitConfig
from train.preparation.splits import BlockPlan, plan_blocks

CLASSES = ["background", "kelp"]
SIDE = 600  # 60 m


def images(folder: Path, places: Sequence[tuple[float, float]], **more: Any) -> list[Image]:
    """Return images of 60 m with their upper left corners at some places, metres; sites, dates, ... in `more`."""
    found = []
    for number, (east, north) in enumerate(places):
        path = folder / f"i{number}.tif"
        write_raster(path, np.zeros((1, SIDE, SIDE), np.uint8), origin=(5e5 + east, 5.8e6 + north))
        given = {key: values[number] for key, values in more.items()}
        found.append(Image(f"i{number}", read_header(path), **{"site": f"i{number}"} | given))
    return found


def plan(pictures: list[Image], count: Any = None, select: Any = None, tile: int = 32, **split: Any) -> BlockPlan:
    config = SplitConfig.model_validate({"block_size": "10 m", "guard": "2 m"} | split)
    return plan_blocks(pictures, config, SelectConfig(**select or {}), tile, CLASSES, count or uniform)


def uniform(_: int, areas: Sequence[Rectangle]) -> NDArray[np.int64]:
    """Count a tenth of the pixels as kelp, and the others as background."""
    pixels = np.array([(bottom - top) * (right - left) for top, bottom, left, right in areas])
    return np.stack([pixels - pixels // 10, pixels // 10, 0 * pixels, 0 * pixels], axis=1)


def splits_of(result: BlockPlan, source: str) -> set[str]:
    return {block.split for block in result.blocks if block.source == source and block.selected}


def test_blocks_get_their_shares_and_keep_the_guard(tmp_path: Path) -> None:
    pictures = images(tmp_path, [(0, 0), (200, 0)])
    result = plan(pictures)
    assert sum(block.height * block.width for block in result.blocks) < 2 * SIDE**2
    for split, wanted in (("train", 0.7), ("val", 0.15), ("test", 0.15)):
        assert result.achieved[split] == pytest.approx([wanted, wanted], abs=0.06)
    assert 0.02 < result.lost < 0.4
    headers = {image.name: image.header for image in pictures}
    assert too_close(result.blocks, headers, 2.0, 0) == []
    # The guard isn't kept by more than rounding.
    assert too_close(result.blocks, headers, 2.2, 0) != []


@pytest.mark.parametrize("transform", [Affine.identity(), Affine(0.1, 0.02, 5e5, 0.02, -0.1, 5.8e6)])
def test_each_pixel_of_an_image_is_in_one_block(tmp_path: Path, transform: Affine) -> None:
    crs = None if transform.is_identity else "EPSG:32609"
    path = write_raster(tmp_path / "a.tif", np.zeros((1, 211, 307), np.uint8), crs=crs, transform=transform)
    result = plan([Image("a", read_header(path), "a")], guard="0 px", block_size="50 px")
    count = np.zeros((211, 307), np.int64)
    for block in result.blocks:
        count[block.row : block.row + block.height, block.col : block.col + block.width] += 1
    assert (count == 1).all()
    assert all(block.selected for block in result.blocks)
    assert result.lost == 0


def test_overlapping_images_share_their_splits(tmp_path: Path) -> None:
    result = plan(images(tmp_path, [(0, 0), (25, 10)]))
    assert "show the same ground, so that each place of it lands in one split" in result.notices[0]
    at = {}
    for block in result.blocks:
        at.setdefault(block.block.partition("_")[2], set()).add(block.split if block.selected else None)
    shared = [splits - {None} for splits in at.values() if len(splits) > 0]
    assert all(len(splits) <= 1 for splits in shared)
    assert len(result.blocks) > len(at)


@pytest.mark.parametrize("by", ["site", "date"])
def test_sites_and_dates_stay_whole(tmp_path: Path, by: str) -> None:
    places = [(200 * number, 0) for number in range(8)]
    keys = [f"2024-07-0{number // 2 + 1}" for number in range(8)]
    result = plan(images(tmp_path, places, **{by: keys}), by=by)
    for number in range(0, 8, 2):
        both = splits_of(result, f"i{number}") | splits_of(result, f"i{number + 1}")
        assert len(both) == 1
    assert {split for number in range(8) for split in splits_of(result, f"i{number}")} == {"train", "val", "test"}


def test_sites_on_the_same_ground_are_one(tmp_path: Path) -> None:
    places = [(0, 0), (20, 0), (300, 0), (600, 0)]
    result = plan(images(tmp_path, places), by="site")
    assert splits_of(result, "i0") == splits_of(result, "i1")
    assert any(
        'images of "i0" and "i1" show the same ground, so that they are drawn as one' in n for n in result.notices
    )
    with pytest.raises(UserError, match="1 sites with labelled pixels can't fill 3 splits"):
        plan(images(tmp_path, [(0, 0), (20, 0)]), by="site")


def test_given_splits(tmp_path: Path) -> None:
    places = [(0, 0), (200, 0), (400, 0), (61, 0)]
    result = plan(images(tmp_path, places, split=["train", "val", "test", "val"]), by="given")
    assert [splits_of(result, f"i{number}") for number in range(4)] == [{"train"}, {"val"}, {"test"}, {"val"}]
    with pytest.raises(UserError, match=r'"i0" \(train\) and "i1" \(val\) show the same ground'):
        plan(images(tmp_path, [(0, 0), (20, 0)], split=["train", "val"]), by="given")
    with pytest.raises(UserError, match=r"i1.tif has no split \(give it with split"):
        plan(images(tmp_path, [(0, 0), (200, 0)], split=["train", None]), by="given")
    with pytest.raises(UserError, match=r"i0.tif has no date \(give it with date"):
        plan(images(tmp_path, [(0, 0)]), by="date")


def test_values_of_a_column(tmp_path: Path) -> None:
    half = [shapely.box(0, 0, 300, SIDE), shapely.box(300, 0, SIDE, SIDE)]
    pictures = images(tmp_path, [(0, 0)], areas=[np.array(half, object)], values=[("test", "north")])
    result = plan(pictures, by="column", column="part", shares={"train": 1.0})
    for block in result.blocks:
        if block.selected:
            assert block.split == ("test" if block.col + block.width <= 300 else "train")
    off = [np.array([shapely.box(0, 0, 330, SIDE), shapely.box(330, 0, SIDE, SIDE)], object)]
    result = plan(
        images(tmp_path, [(0, 0)], areas=off, values=[("test", "north")]),
        by="column",
        column="part",
        shares={"train": 1.0},
    )
    reasons = {block.reason for block in result.blocks if block.col == 300}
    assert reasons == {"lies in areas of several values of part, or in none"}


def test_areas_that_share_an_outline_of_a_block(tmp_path: Path) -> None:
    """Outlines that were warped meet the grid but for a rounding."""
    half = [shapely.box(0, 0, 300 + 1e-4, SIDE), shapely.box(300 - 1e-4, 0, SIDE, SIDE)]
    pictures = images(tmp_path, [(0, 0)], areas=[np.array(half, object)], values=[("train", "val")])
    result = plan(pictures, by="column", column="part", guard="0 m")
    assert all(block.selected for block in result.blocks)
    assert {block.split for block in result.blocks if block.col < 300} == {"train"}


def test_a_class_that_few_blocks_have_is_named(tmp_path: Path) -> None:
    def count(_: int, areas: Sequence[Rectangle]) -> NDArray[np.int64]:
        counts = uniform(0, areas)
        kelp = np.array([top < 100 and left < 100 for top, _, left, _ in areas])
        counts[:, 0] += np.where(kelp, 0, counts[:, 1])
        counts[:, 1] *= kelp
        return counts

    (notice,) = plan(images(tmp_path, [(0, 0)]), count, guard="0 m").notices
    assert re.fullmatch(
        r'no pixel of "kelp" is in (train, val|train, test|val, test) \(blocks with pixels of it: 1; try another '
        r"split.seed, or smaller blocks with split.block_size, or label more\)",
        notice,
    )
    none = plan(images(tmp_path, [(0, 0)]), lambda n, areas: count(n, areas) * np.array([1, 0, 1, 1]))
    assert none.notices == ('no block that is used has a pixel of "kelp"',)
    assert plan(images(tmp_path, [(0, 0)])).notices == ()


def test_strips_at_the_edge_of_an_image_are_not_used(tmp_path: Path) -> None:
    """Cells of 66 pixels from the first image cut the second one after 6 pixels."""
    result = plan(images(tmp_path, [(0, 0), (6, 0)]), tile=32, block_size="64 px", guard="0 m")
    sizes = {(block.width, block.reason) for block in result.blocks if block.source == "i1"}
    assert {(width, reason) for width, reason in sizes if width < 8} == {(6, "smaller than a quarter of a tile")}
    assert min(width for width, reason in sizes if not reason) >= 8


def test_folds(tmp_path: Path) -> None:
    result = plan(images(tmp_path, [(0, 0), (200, 0)]), folds=3, shares={"train": 0.8, "test": 0.2})
    used = [block for block in result.blocks if block.selected]
    assert {block.fold for block in used if block.split == "test"} == {None}
    assert {(block.split, block.fold) for block in used if block.split != "test"} == {
        ("val", 1),
        ("train", 2),
        ("train", 3),
    }
    assert result.achieved["fold 2"] == pytest.approx([0.267, 0.267], abs=0.06)


def test_a_guard_that_leaves_nothing_of_a_split(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"split.guard: 70 m leaves nothing of the \d+ blocks of (train|val|test)"):
        plan(images(tmp_path, [(0, 0)]), guard="70 m")


def test_thresholds_give_reasons_and_delete_nothing(tmp_path: Path) -> None:
    def count(_: int, areas: Sequence[Rectangle]) -> NDArray[np.int64]:
        counts = uniform(0, areas)
        for number, (top, _, left, _) in enumerate(areas):
            pixels = counts[number].sum()
            if top < 100 and left < 100:
                counts[number] = (0, pixels // 50, 0, pixels - pixels // 50)
            elif top < 100:
                counts[number] = (0, 0, pixels, 0)
            elif left < 100:
                counts[number] = (0, pixels // 200, pixels - pixels // 200, 0)
        return counts

    result = plan(images(tmp_path, [(0, 0)]), count)
    reasons = {(block.row, block.col): block.reason for block in result.blocks if block.row < 100 or block.col < 100}
    assert reasons[0, 0] == "nodata 98 %"
    assert set(reasons.values()) == {"nodata 98 %", "no labelled pixel", "labelled 0.5 %"}
    assert len(result.blocks) == 36
    relaxed = plan(images(tmp_path, [(0, 0)]), count, {"max_nodata": 1.0, "min_labelled": 0.0})
    assert {block.reason for block in relaxed.blocks} - {"guard"} == {"", "no labelled pixel"}


def test_images_without_georeference(tmp_path: Path) -> None:
    pixels = np.zeros((1, SIDE, SIDE), np.uint8)
    path = write_raster(tmp_path / "a.tif", pixels, crs=None, transform=Affine.identity())
    image = Image("a", read_header(path), "a")
    result = plan([image], guard="20 px", block_size="100 px")
    assert (result.guard, result.guard_pixels) == (None, 20)
    assert too_close(result.blocks, {"a": image.header}, None, 20) == []
    for key, value in (("guard", "2 m"), ("block_size", "10 m")):
        with pytest.raises(
            UserError, match=rf"split.{key}: .* can't be measured in .*a.tif, which isn't georeferenced"
        ):
            plan([image], **{"guard": "20 px", "block_size": "100 px"} | {key: value})


def test_the_same_seed_gives_the_same_blocks(tmp_path: Path) -> None:
    pictures = images(tmp_path, [(0, 0), (30, 30), (300, 0)])
    assert plan(pictures, seed=3).blocks == plan(pictures, seed=3).blocks
    assert plan(pictures, seed=3).blocks != plan(pictures, seed=4).blocks
