"""Windows against whole-file reads with plain rasterio and NumPy: every type, layout, mask and edge."""

import multiprocessing
import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from inference.common.errors import UserError
from tests.conftest import write_raster
from train.data import reader as geotiff
from train.data.pairs import Pair, Scene, read_scenes
from train.data.reader import LabelRule, Reader

RULE = LabelRule(2, 2)
IGNORED = 2
TILED = {"tiled": True, "blockxsize": 16, "blockysize": 16}


def made(
    folder: Path, image: np.ndarray, label: np.ndarray | None = None, mask: np.ndarray | None = None, **profile: Any
) -> Scene:
    """A scene of these pixels; the mask is written beside the file or into it, as GDAL is told."""
    path = write_raster(folder / "x.tif", image, **profile)
    if mask is not None:
        with rasterio.open(path, "r+") as file:
            file.write_mask(mask)
    label = np.zeros(image.shape[1:], np.uint8) if label is None else label
    (scene,), problems = read_scenes([Pair(path, write_raster(folder / "y.tif", label))])
    assert problems == []
    return scene


def noise(dtype: str, bands: int, height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(bands * height + width)
    if dtype == "float32":
        return rng.normal(0, 1000, (bands, height, width)).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, (bands, height, width), dtype, endpoint=True)


def windows(height: int, width: int, size: int) -> list[tuple[int, int]]:
    """Corners of windows that lie inside, across each edge, and around the whole image."""
    inside = [(0, 0), (height // 2, width // 3), (height - 1, width - 1)]
    return [
        *inside,
        (1 - size, 0),
        (0, 1 - size),
        (height - size // 2, -3),
        ((height - size) // 2, (width - size) // 2),
    ]


def expected(
    pixels: np.ndarray, label: np.ndarray, valid: np.ndarray, row: int, col: int, size: int, fill: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A window cut out of the whole image after NumPy has reflected it, as (H, W, bands), (H, W) and (H, W)."""
    pad = ((size, size), (size, size))
    image = np.where(valid, pixels, fill).astype(np.uint8 if pixels.dtype == np.uint8 else np.float32)
    cut = np.s_[row + size : row + 2 * size, col + size : col + 2 * size]
    return (
        np.pad(image, ((0, 0), *pad), mode="reflect")[:, *cut].transpose(1, 2, 0),
        np.pad(np.where(valid, label, IGNORED), pad, constant_values=IGNORED)[cut],
        ~np.pad(valid, pad, mode="reflect")[cut],
    )


def check(scene: Scene, pixels: np.ndarray, label: np.ndarray, valid: np.ndarray, size: int, fill: float = 0) -> None:
    reader = Reader(RULE, fill)
    bands = range(1, len(pixels) + 1)
    for row, col in windows(scene.height, scene.width, size):
        image, found, invalid = reader.window(scene, bands, row, col, size)
        one, two, three = expected(pixels, label, valid, row, col, size, fill)
        np.testing.assert_array_equal(image, one, str((row, col)))
        np.testing.assert_array_equal(found, two, str((row, col)))
        np.testing.assert_array_equal(np.zeros_like(three) if invalid is None else invalid, three, str((row, col)))
        assert image.dtype == one.dtype
        assert found.dtype == np.uint8
        assert (invalid is None) == (not three.any())
        assert image.flags.c_contiguous
        assert image.flags.writeable
    reader.close()


@pytest.mark.parametrize("size", [(1, 1), (1, 37), (41, 1), (2, 3), (31, 23), (64, 50)])
@pytest.mark.parametrize(
    ("dtype", "bands", "profile"),
    [
        ("uint8", 3, {"photometric": "RGB"}),
        ("uint8", 1, TILED),
        ("uint8", 2, {}),
        ("uint8", 12, {"interleave": "band", "photometric": "MINISBLACK"}),
        ("uint16", 5, TILED | {"interleave": "pixel", "compress": "deflate"}),
        ("int16", 4, {"interleave": "band", "compress": "lzw", "predictor": 2, "photometric": "MINISBLACK"}),
        ("float32", 3, TILED | {"interleave": "band", "compress": "deflate", "predictor": 3}),
        ("float32", 8, {}),
        ("int32", 2, {}),
        ("int8", 2, TILED),
    ],
)
def test_any_size_type_band_count_and_layout(
    tmp_path: Path, size: tuple[int, int], dtype: str, bands: int, profile: dict[str, Any]
) -> None:
    pixels = noise(dtype, bands, *size)
    label = np.random.default_rng(1).integers(0, 3, size, np.uint8)
    check(made(tmp_path, pixels, label, **profile), pixels, label, np.ones(size, bool), 19)


@pytest.mark.parametrize("size", [(33, 47), (64, 64)])
def test_jpeg_in_tiff(tmp_path: Path, size: tuple[int, int]) -> None:
    """What the file holds is what GDAL decodes: RGB, though stored as YCbCr."""
    pixels = np.kron(noise("uint8", 3, 4, 4), np.ones((1, 16, 16), np.uint8))[:, : size[0], : size[1]]
    scene = made(tmp_path, pixels, compress="jpeg", photometric="YCBCR", **TILED)
    with rasterio.open(scene.pair.image) as file:
        assert file.photometric.name == "ycbcr"
        decoded = file.read()
    assert np.abs(decoded.astype(int) - pixels).mean() < 20
    check(scene, decoded, np.zeros(size, np.uint8), np.ones(size, bool), 19)


def hole(height: int, width: int) -> np.ndarray:
    """Where pixels are valid: not in a corner, a row and a single pixel."""
    valid = np.ones((height, width), bool)
    valid[: height // 3, : width // 2] = valid[height // 2] = valid[-1, -1] = False
    return valid


@pytest.mark.parametrize("fill", [0, 37])
@pytest.mark.parametrize(
    ("dtype", "nodata"),
    [
        ("uint8", 0),
        ("uint8", 255),
        ("uint16", 0),
        ("uint16", 65535),
        ("int16", -9999),
        ("float32", -9999),
        ("float32", -3.4e38),
        ("float32", -3.4028234663852886e38),
        ("float32", np.nan),
        ("float64", -1.7976931348623157e308),
        ("float64", 0.1),
        ("int32", -(2**31)),
    ],
)
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_nodata(tmp_path: Path, dtype: str, nodata: float, fill: float) -> None:
    pixels = np.random.default_rng(0).integers(1, 200, (3, 31, 23)).astype(dtype)
    valid = hole(31, 23)
    with np.errstate(over="ignore"):
        pixels[:, ~valid] = nodata
    if abs(nodata) < 1e300:  # which no float32 is
        pixels[0, -1] = nodata  # not all bands
    label = np.random.default_rng(1).integers(0, 2, (31, 23), np.uint8)
    check(made(tmp_path, pixels, label, nodata=nodata), pixels, label, valid, 19, fill)


def test_nodata_that_the_type_cannot_hold_is_nowhere(tmp_path: Path) -> None:
    pixels = noise("uint8", 3, 20, 20)
    scene = made(tmp_path, pixels)
    scene = Scene(scene.pair, scene.image.__class__(**(vars(scene.image) | {"nodata": -9999.0})), scene.label)
    check(scene, pixels, np.zeros((20, 20), np.uint8), np.ones((20, 20), bool), 19)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_in_any_band_is_invalid(tmp_path: Path, value: float) -> None:
    pixels = np.abs(noise("float32", 3, 31, 23))
    valid = hole(31, 23)
    pixels[1, ~valid] = value
    check(made(tmp_path, pixels), np.where(valid, pixels, 0), np.zeros((31, 23), np.uint8), valid, 19, 5)


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("profile", [{}, {"compress": "jpeg", "photometric": "YCBCR", **TILED}])
def test_masks(tmp_path: Path, inside: bool, profile: dict[str, Any]) -> None:
    pixels = np.full((3, 31, 23), 90, np.uint8)
    valid = hole(31, 23)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=inside):
        scene = made(tmp_path, pixels, mask=valid, **profile)
    assert (tmp_path / "x.tif.msk").exists() != inside
    with rasterio.open(scene.pair.image) as file:
        pixels = file.read()
    check(scene, pixels, np.zeros((31, 23), np.uint8), valid, 19)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_alpha(tmp_path: Path, dtype: str) -> None:
    pixels = noise(dtype, 4, 31, 23)
    valid = hole(31, 23)
    pixels[3] = np.where(valid, np.where(pixels[3] == 0, 1, pixels[3]), 0)  # half transparent is not missing
    scene = made(tmp_path, pixels, photometric="RGB", alpha="YES")
    assert scene.image.alpha == (4,)
    check(scene, pixels[:3], np.zeros((31, 23), np.uint8), valid, 19)


def test_alpha_and_nodata_and_mask_add_up(tmp_path: Path) -> None:
    """GDAL's own mask is that of one of them."""
    pixels = np.full((4, 20, 20), 200, np.uint8)
    pixels[:, :5] = 0  # nodata
    pixels[3, :5] = 255
    pixels[3, 10:12] = 0  # transparent
    valid = np.ones((20, 20), bool)
    valid[:5] = valid[10:12] = False
    check(
        made(tmp_path, pixels, photometric="RGB", alpha="YES", nodata=0),
        pixels[:3], np.zeros((20, 20), np.uint8), valid, 19,
    )  # fmt: skip
    mask = np.ones((20, 20), bool)
    mask[:, 3] = False
    scene = made(tmp_path / "masked", pixels[:3], mask=mask, nodata=0, photometric="RGB")
    valid = mask.copy()
    valid[:5] = False
    check(scene, pixels[:3], np.zeros((20, 20), np.uint8), valid, 19)


def test_a_band_that_is_marked_as_alpha_and_asked_for_is_data(tmp_path: Path) -> None:
    """Four bands of bytes are written as RGB and alpha by default, also where the fourth is near infrared."""
    pixels = noise("uint8", 4, 20, 20)
    pixels[3, :7] = 0
    scene = made(tmp_path, pixels)
    assert scene.image.alpha == (4,)
    check(scene, pixels, np.zeros((20, 20), np.uint8), np.ones((20, 20), bool), 19)


def test_bands_in_any_order_and_twice(tmp_path: Path) -> None:
    pixels = noise("uint16", 5, 20, 21)
    scene = made(tmp_path, pixels)
    image, _, _ = Reader(RULE).window(scene, (4, 1, 1), 2, 3, 16)
    np.testing.assert_array_equal(image, pixels[[3, 0, 0], 2:18, 3:19].transpose(1, 2, 0))


def test_of_a_damaged_file_the_rest_is_read(tmp_path: Path) -> None:
    """Only the blocks that a window touches are read at all."""
    pixels = noise("uint8", 3, 64, 64)
    scene = made(tmp_path, pixels, compress="deflate", photometric="RGB", **TILED)
    with rasterio.open(scene.pair.image) as file:
        start, size = (
            int(file.get_tag_item(f"BLOCK_{what}_3_2", "TIFF", bidx=1)) for what in ("OFFSET", "SIZE")
        )  # fmt: skip
    content = bytearray(scene.pair.image.read_bytes())
    content[start : start + size] = b"\xff" * size
    scene.pair.image.write_bytes(bytes(content))
    reader = Reader(RULE)
    for row, col in ((0, 0), (16, 48), (48, 32), (32, 0)):
        image, _, _ = reader.window(scene, (1, 2, 3), row, col, 16)
        np.testing.assert_array_equal(image, pixels[:, row : row + 16, col : col + 16].transpose(1, 2, 0))
    with pytest.raises(UserError) as caught:
        reader.window(scene, (1, 2, 3), 20, 40, 16)
    assert str(caught.value).startswith(f"{scene.pair.image}: can't be read from row 20, column 40, 16x16 pixels: ")
    assert "the file is damaged or cut short" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("compress", ["none", "deflate", "lzw", "jpeg"])
def test_a_file_that_is_cut_short(tmp_path: Path, compress: str, capfd: pytest.CaptureFixture[str]) -> None:
    scene = made(tmp_path, noise("uint8", 3, 128, 128), compress=compress, photometric="RGB", **TILED)
    content = scene.pair.image.read_bytes()
    scene.pair.image.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"x\.tif: can't be read from row 0, column 0, 128x128 pixels: "):
        Reader(RULE, threads=2).window(scene, (1, 2, 3), 0, 0, 128)
    assert capfd.readouterr().err == ""


def handles(reader: Reader) -> OrderedDict[Path, Any]:
    return reader._open


def test_files_are_opened_when_needed_and_no_more_than_so_many(tmp_path: Path) -> None:
    count = geotiff.OPEN_FILES + 10
    scenes = [made(tmp_path / str(number), np.full((1, 4, 4), number, np.uint8)) for number in range(count)]
    reader = Reader(RULE)
    assert not handles(reader)
    before = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0
    for _ in range(2):
        for number, scene in enumerate(scenes):
            image, _, _ = reader.window(scene, (1,), 0, 0, 4)
            assert (image == number).all()
            assert len(handles(reader)) <= geotiff.OPEN_FILES
    assert len(handles(reader)) == geotiff.OPEN_FILES
    if before:
        assert len(list(Path("/proc/self/fd").iterdir())) <= before + geotiff.OPEN_FILES
    again = handles(reader)[scenes[-1].pair.image]
    reader.window(scenes[-1], (1,), 0, 0, 4)
    assert handles(reader)[scenes[-1].pair.image] is again
    reader.close()
    assert again.closed


def read_in_child(reader: Reader, scene: Scene, answer: Any) -> None:
    inherited = dict(handles(reader))
    image, _, _ = reader.window(scene, (1, 2, 3), 3, 5, 16)
    own = handles(reader)[scene.pair.image]
    answer.put((image, all(own is not other for other in inherited.values()), len(handles(reader))))
    answer.close()
    answer.join_thread()
    os._exit(0)


def test_a_forked_process_opens_files_of_its_own(tmp_path: Path) -> None:
    pixels = noise("uint8", 3, 40, 40)
    scene = made(tmp_path, pixels, photometric="RGB")
    reader = Reader(RULE)
    reader.window(scene, (1, 2, 3), 0, 0, 16)
    context = multiprocessing.get_context("fork")
    answer = context.Queue()
    child = context.Process(target=read_in_child, args=(reader, scene, answer))
    child.start()
    image, own, count = answer.get(timeout=60)
    child.join()
    assert own
    assert count == 2
    np.testing.assert_array_equal(image, pixels[:, 3:19, 5:21].transpose(1, 2, 0))
    assert not any(dataset.closed for dataset in handles(reader).values())


def test_a_reader_travels_without_its_files(tmp_path: Path) -> None:
    scene = made(tmp_path, noise("uint8", 3, 40, 40))
    reader = Reader(LabelRule(2, 2, ((5, 1),)), fill_value=3)
    reader.window(scene, (1, 2, 3), 0, 0, 16)
    other = pickle.loads(pickle.dumps(reader))
    assert len(handles(reader)) == 2
    assert not handles(other)
    assert (other.rule, other.fill_value) == (reader.rule, 3)
    assert pickle.loads(pickle.dumps(scene)) == scene


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_the_block_cache_is_capped(tmp_path: Path) -> None:
    """A mosaic far larger than what many processes may each keep is read through; its memory isn't kept."""

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    shape = {"height": 16384, "width": 16384, "count": 1, "dtype": "uint8"}
    for name in ("x", "y"):
        path = tmp_path / f"{name}.tif"
        with rasterio.open(
            path, "w", driver="GTiff", tiled=True, blockxsize=1024, blockysize=1024, sparse_ok=True, **shape
        ):
            pass
    (scene,), _ = read_scenes([Pair(tmp_path / "x.tif", tmp_path / "y.tif")])
    reader = Reader(RULE, processes=16)
    reader.window(scene, (1,), 0, 0, 1024)
    before = resident()
    for row in range(0, 16384, 1024):
        for col in range(0, 16384, 1024):
            reader.window(scene, (1,), row, col, 1024)
    assert resident() - before < 128 * 2**20  # of 512 MiB
