"""The demo data set: what is in it, and that a cache never holds half of it."""

import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import rasterio

from inference.common.errors import UserError
from train.data import demo
from train.data.demo import MOSAICS, ROUNDS, STALE_AFTER, demo_data_dir

KELP = "demo://kelp"
SPLITS = ("train", "val", "test")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HAKAI_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield demo_data_dir(KELP, progress=False)


@pytest.fixture(scope="module")
def tiles(data):
    """Of each split: name, image (3, H, W), label (H, W), mask of valid pixels (H, W)."""
    read = {}
    for split in SPLITS:
        read[split] = []
        for path in sorted((data / split / "x").iterdir()):
            with rasterio.open(path) as image, rasterio.open(label_of(path)) as label:
                read[split].append((path.stem, image.read(), label.read(1), image.dataset_mask() > 0))
    return read


@pytest.fixture
def small(monkeypatch):
    """A data set of one site, for tests of the cache alone."""
    monkeypatch.setattr(demo, "ROUNDS", ("train",))
    monkeypatch.setattr(demo, "MOSAICS", MOSAICS[4:5])


def label_of(path):
    return path.parents[1] / "y" / f"{path.stem}_label.tif"


def images(data):
    return sorted(data.glob("*/x/*"))


def pixels(path):
    with rasterio.open(path) as raster:
        return raster.read()


def test_every_image_has_its_label_and_every_label_its_image(data):
    for split, least in zip(SPLITS, (40, 10, 10), strict=True):
        names = {path.name for path in (data / split / "x").iterdir()}
        assert len(names) >= least
        expected = {f"{name.removesuffix('.tif')}_label.tif" for name in names}
        assert {path.name for path in (data / split / "y").iterdir()} == expected


def test_images_are_georeferenced_rgb_and_labels_share_their_grid(data):
    for path in images(data):
        with rasterio.open(path) as image, rasterio.open(label_of(path)) as label:
            assert (image.count, image.dtypes[0]) == (3, "uint8")
            assert [band.name for band in image.colorinterp] == ["red", "green", "blue"]
            assert (label.count, label.dtypes[0], label.nodata) == (1, "uint8", None)
            assert image.crs.to_epsg() == 32609
            assert image.res == pytest.approx((0.1, 0.1))
            assert image.profile["tiled"]
            assert image.compression.name == label.compression.name == "deflate"
            assert (label.crs, label.transform, label.shape) == (image.crs, image.transform, image.shape)


def test_no_two_tiles_overlap(data):
    bounds = []
    for path in images(data):
        with rasterio.open(path) as image:
            bounds.append((path.parts[-3], path.parts[-1][:6], image.bounds))
    for number, (split, site, a) in enumerate(bounds):
        for other_split, other_site, b in bounds[:number]:
            # A millimetre, for tiles of one site that touch.
            width, height = min(a.right, b.right) - max(a.left, b.left), min(a.top, b.top) - max(a.bottom, b.bottom)
            assert min(width, height) < 1e-3
            if site == other_site:
                assert split == other_split


def test_tiles_of_a_site_lie_side_by_side_as_they_were_cut(data):
    for first in data.glob("*/x/*_0.tif"):
        with rasterio.open(first) as one, rasterio.open(first.with_name(first.name.replace("_0", "_1"))) as two:
            right = (two.bounds.left, two.bounds.top) == pytest.approx((one.bounds.right, one.bounds.top), abs=1e-6)
            below = (two.bounds.left, two.bounds.top) == pytest.approx((one.bounds.left, one.bounds.bottom), abs=1e-6)
            assert right != below
            # The picture goes on across the cut: no step beyond what neighbouring pixels show.
            axis = 2 if right else 1
            last, before, after = one.read().take(-1, axis), one.read().take(-2, axis), two.read().take(0, axis)
            shared = min(last.shape[1], after.shape[1])
            step = np.abs(last[:, :shared].astype(int) - after[:, :shared]).mean()
            assert step < 2 * np.abs(last.astype(int) - before).mean() + 1


def test_tile_sizes_make_loaders_pad_and_crop(tiles):
    for split in SPLITS:
        shapes = [label.shape for _, _, label, _ in tiles[split]]
        assert shapes.count((256, 256)) > len(shapes) / 2
        assert any(min(shape) < 256 for shape in shapes)
        assert any(max(shape) > 256 and shape[0] % 32 and shape[1] % 32 for shape in shapes)


def test_labels_hold_a_fair_share_of_kelp_and_little_doubt(tiles):
    for split in SPLITS:
        counts = sum(np.bincount(label[valid], minlength=3) for _, _, label, valid in tiles[split])
        assert counts.size == 3
        background, kelp, ignored = counts / counts.sum()
        assert 0.15 < kelp < 0.3
        assert 0 < ignored < 0.05
        assert background > 0.6
        assert any(not (label == 1).any() for _, _, label, _ in tiles[split]), "a tile without kelp"


def test_missing_pixels_are_marked_both_ways_and_labelled_ignore(data):
    kinds = {"nodata": 0, "mask": 0, "none": 0}
    for path in images(data):
        with rasterio.open(path) as image:
            inside = image.dataset_mask() > 0
            kind = "none"
            if image.nodata is not None:
                kind = "nodata"
                assert image.nodata == 0
                assert not image.read()[:, ~inside].any()
                assert image.read()[:, inside].all()
            elif not inside.all():
                kind = "mask"
                assert (image.read()[:, ~inside] == 255).all()
            kinds[kind] += not inside.all() or kind == "none"
        assert inside.mean() > 0.5
        assert (pixels(label_of(path))[0][~inside] == 2).all()
    assert min(kinds["nodata"], kinds["mask"]) >= len(SPLITS)
    assert kinds["none"] > len(images(data)) / 2


def test_black_ground_is_not_taken_for_missing(monkeypatch, tmp_path):
    def black(rng, site, height, width):
        return np.zeros((height, width, 3), np.uint8), np.zeros((height, width), np.uint8)

    monkeypatch.setattr(demo, "draw_scene", black)
    monkeypatch.setattr(demo, "ROUNDS", ("train",))
    for path in images(demo_data_dir(KELP, tmp_path, progress=False)):
        with rasterio.open(path) as image:
            np.testing.assert_array_equal(image.dataset_mask() > 0, pixels(label_of(path))[0] == 0)


def test_colour_alone_does_not_find_the_kelp(tiles):
    def colours(split):
        chosen = [(image[:, label < 2], label[label < 2]) for _, image, label, _ in tiles[split]]
        rgb, kelp = (np.concatenate(parts, axis=-1)[..., ::5] for parts in zip(*chosen, strict=True))
        red, green, blue = rgb.astype(np.float64) / 255
        terms = (red, green, blue, red**2, green**2, blue**2, red * green, red * blue, green * blue)
        return np.stack([np.ones_like(red), *terms], axis=1), kelp == 1

    features, kelp = colours("train")
    weights, *_ = np.linalg.lstsq(features, kelp, rcond=None)
    features, kelp = colours("test")
    scores = features @ weights
    found = [scores > threshold for threshold in np.quantile(scores, np.linspace(0.3, 0.95, 40))]
    best = max((kelp & guess).sum() / (kelp | guess).sum() for guess in found)
    assert 0.3 < best < 0.75  # kelp's colour tells something, but not enough


def test_drawing_again_gives_the_same_pixels(data, monkeypatch, tmp_path):
    monkeypatch.setattr(demo, "ROUNDS", ROUNDS[:1])
    again = images(demo_data_dir(KELP, tmp_path, progress=False))
    assert len(again) == 2 * len(MOSAICS)
    for path in again:
        twin = data / path.relative_to(path.parents[2])
        np.testing.assert_array_equal(pixels(path), pixels(twin))
        np.testing.assert_array_equal(pixels(label_of(path)), pixels(label_of(twin)))


def test_sites_differ(tiles):
    first = [image[:, :200, :200].tobytes() for _, image, _, _ in tiles["train"]]
    assert len(set(first)) == len(first)


def test_a_second_call_draws_nothing(small, monkeypatch, tmp_path, capsys):
    first = demo_data_dir(KELP, tmp_path)
    assert str(first) in capsys.readouterr().err
    written = {path: path.stat().st_mtime_ns for path in first.rglob("*")}
    monkeypatch.setattr(demo, "_draw_site", lambda folder, index: pytest.fail("drew again"))
    assert demo_data_dir(KELP, tmp_path) == first
    assert {path: path.stat().st_mtime_ns for path in first.rglob("*")} == written
    assert not capsys.readouterr().err


def test_the_cache_lies_where_the_user_says(small, monkeypatch, tmp_path):
    monkeypatch.setattr(demo.platformdirs, "user_cache_dir", lambda *args, **kwargs: str(tmp_path / "system"))
    monkeypatch.delenv("HAKAI_CACHE_DIR", raising=False)
    assert demo_data_dir(KELP, progress=False) == tmp_path / "system" / "demo" / "kelp-v1"
    monkeypatch.setenv("HAKAI_CACHE_DIR", str(tmp_path / "environment"))
    assert demo_data_dir(KELP, progress=False) == tmp_path / "environment" / "demo" / "kelp-v1"
    assert demo_data_dir(KELP, tmp_path / "given", progress=False) == tmp_path / "given" / "demo" / "kelp-v1"


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_drawing_leaves_nothing(monkeypatch, tmp_path, interruption):
    draw = demo._draw_site

    def draw_one_and_stop(folder: Path, index: int):
        if index:
            raise interruption
        draw(folder, index)

    monkeypatch.setattr(demo, "_draw_site", draw_one_and_stop)
    with pytest.raises(interruption):
        demo_data_dir(KELP, tmp_path, progress=False)
    assert not list((tmp_path / "demo").iterdir())


def test_leftovers_of_killed_processes_are_cleared_and_live_drawings_are_not(small, tmp_path):
    stale, live = tmp_path / "demo" / ".kelp-v1.a.tmp", tmp_path / "demo" / ".kelp-v1.b.tmp"
    for folder in (stale, live):
        (folder / "train").mkdir(parents=True)
    long_ago = time.time() - STALE_AFTER - 1
    os.utime(stale, (long_ago, long_ago))
    folder = demo_data_dir(KELP, tmp_path, progress=False)
    assert set(folder.parent.iterdir()) == {folder, live}


def test_a_leftover_that_vanishes_meanwhile_is_no_error(small, monkeypatch, tmp_path):
    monkeypatch.setattr(Path, "glob", lambda self, pattern: [self / ".kelp-v1.gone.tmp"])
    assert demo_data_dir(KELP, tmp_path, progress=False).is_dir()


def test_the_slower_of_two_processes_keeps_the_faster_ones_drawing(small, monkeypatch, tmp_path):
    draw = demo._draw_site
    folder = tmp_path / "demo" / "kelp-v1"

    def draw_while_another_finishes(temporary: Path, index: int):
        draw(temporary, index)
        shutil.copytree(temporary, folder)
        (folder / "from-another-process").touch()

    monkeypatch.setattr(demo, "_draw_site", draw_while_another_finishes)
    assert demo_data_dir(KELP, tmp_path, progress=False) == folder
    assert {path.name for path in folder.iterdir()} == {"train", "from-another-process"}
    assert list(folder.parent.iterdir()) == [folder]


def test_many_at_once_all_get_a_whole_data_set(small, tmp_path):
    def names_seen(_):
        return [path.name for path in images(demo_data_dir(KELP, tmp_path, progress=False))]

    with ThreadPoolExecutor(4) as pool:
        seen = list(pool.map(names_seen, range(4)))
    assert seen == [["site00_0.tif", "site00_1.tif"]] * 4
    assert [path.name for path in (tmp_path / "demo").iterdir()] == ["kelp-v1"]


def test_colleagues_may_read_a_shared_cache(small, tmp_path):
    before = os.umask(0o022)
    try:
        folder = demo_data_dir(KELP, tmp_path, progress=False)
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o055 == 0o055


@pytest.mark.parametrize("name", ["demo://mussels", "demo://", "kelp", "demo://kelp/"])
def test_an_unknown_name_says_what_is_allowed(name, tmp_path):
    with pytest.raises(UserError, match=f"'{name}'.*allowed: 'demo://kelp'"):
        demo_data_dir(name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_cache_that_cannot_be_written_names_the_remedy(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/demo/kelp-v1.*HAKAI_CACHE_DIR"):
        demo_data_dir(KELP, tmp_path / "file", progress=False)


def test_a_disk_that_fills_up_names_the_remedy_and_leaves_nothing(monkeypatch, tmp_path):
    def no_space(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(demo.rasterio, "open", no_space)
    with pytest.raises(UserError, match=r"No space left.*HAKAI_CACHE_DIR"):
        demo_data_dir(KELP, tmp_path, progress=False)
    assert not list((tmp_path / "demo").iterdir())
