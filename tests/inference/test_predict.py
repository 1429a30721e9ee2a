"""Maps of mosaics, compared with the network applied to the whole mosaic at once."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.enums import ColorInterp

from inference.common.errors import UserError
from inference.predict import Mapper, predict
from tests.conftest import write_raster
from tests.inference.networks import card, untiled, write_onnx, write_torchscript

TILE = 16
SIZES = (1, 2, 7, 8, 15, 16, 17, 23, 31, 33, 47, 61)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("maps")


def network(folder: Path, **changes: Any) -> tuple[Path, Any]:
    """Write a pointwise network, once for each card."""
    made = card(tile_size=TILE, **changes)
    path = folder / f"{abs(hash(made.dumps()))}.onnx"
    return (path if path.is_file() else write_onnx(path, made)), made


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read the values, (bands, H, W), and the validity by mask or nodata, (H, W) bool."""
    with rasterio.open(path) as file:
        return file.read(), file.dataset_mask() > 0


def check(
    folder: Path, source: Path, pixels: np.ndarray, invalid: np.ndarray, model: Path, made: Any, **options: Any
) -> None:
    """Map a mosaic with the given pixels and compare the map with the untiled prediction."""
    target, floats = folder / "map.tif", folder / "p.tif"
    summary = predict(source, target, model=model, probabilities=floats, overwrite=True, **options)
    expected = untiled(pixels, made, divisor=options.get("max_pixel_value"))
    found, valid = read(target)
    p, _ = read(floats)
    np.testing.assert_array_equal(valid, ~invalid)
    assert p.shape == expected.shape
    np.testing.assert_allclose(p[:, ~invalid], expected[:, ~invalid], atol=1e-5)
    assert np.isnan(p[:, invalid]).all()
    if len(expected) == 2:
        classes = (expected[1] > made.threshold).astype(np.uint8)
        close = np.abs(expected[1] - made.threshold) < 1e-6
    else:
        ordered = np.sort(expected, axis=0)
        classes, close = expected.argmax(axis=0).astype(np.uint8), ordered[-1] - ordered[-2] < 1e-6
    classes[invalid] = 0
    # Where float64 and float32 may round to different sides of the threshold, either class is right.
    wrong = (found[0] != classes) & ~(close & ~invalid)
    assert wrong.sum() == 0
    assert summary.invalid == invalid.sum()
    assert [total.pixels for total in summary.classes] == [
        int((found[0][~invalid] == value).sum()) for value in range(len(expected))
    ]


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    height=st.sampled_from(SIZES),
    width=st.sampled_from(SIZES),
    overlap=st.sampled_from([0.0, 0.25, 0.5, 0.75]),
    batch=st.integers(1, 8),
    dtype=st.sampled_from(["uint8", "uint16", "float32"]),
    bands=st.sampled_from([1, 3, 4, 8]),
    classes=st.sampled_from([2, 3]),
    holes=st.sampled_from(["none", "pixels", "outline", "stripe", "all", "block"]),
    window=st.sampled_from(["bartlett-hann", "hann", "none"]),
    tiled=st.booleans(),
    interleave=st.sampled_from(["pixel", "band"]),
    cog=st.booleans(),
    seed=st.integers(0, 9),
)
def test_the_map_of_a_pointwise_network_is_the_untiled_one(
    folder: Path,
    height: int,
    width: int,
    overlap: float,
    batch: int,
    dtype: str,
    bands: int,
    classes: int,
    holes: str,
    window: str,
    tiled: bool,
    interleave: str,
    cog: bool,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    largest = {"uint8": 255.0, "uint16": 4000.0, "float32": 1.0}[dtype]
    model, made = network(folder, bands=bands, classes=classes, dtype=dtype, max_pixel_value=largest)
    pixels = (rng.random((bands, height, width)) * (largest - 1) + 1).astype(dtype)
    invalid = hole(holes, height, width, rng)
    pixels[:, invalid] = 0
    layout = {"tiled": True, "blockxsize": 16, "blockysize": 16} if tiled else {}
    source = write_raster(
        folder / "in.tif", pixels, interleave=interleave, nodata=0 if invalid.any() else None, **layout
    )
    check(folder, source, pixels, invalid, model, made, overlap=overlap, batch_size=batch, window=window, cog=cog)


def hole(kind: str, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    invalid = np.zeros((height, width), bool)
    if kind == "pixels":
        invalid = rng.random((height, width)) < 0.1
    elif kind == "outline":  # a valid disc remains
        rows, cols = np.mgrid[:height, :width]
        invalid = ((rows - height / 2) / height) ** 2 + ((cols - width / 2) / width) ** 2 > 0.2
    elif kind == "stripe":
        invalid[height // 3 : height // 3 + TILE + 3] = True
    elif kind == "block":
        invalid[: TILE * 2, width // 2 :] = True
    elif kind == "all":
        invalid[:] = True
    return invalid


def test_the_default_tile_of_a_large_mosaic(folder: Path) -> None:
    """More blocks, strips and rows of tiles than the queues hold."""
    made = card(tile_size=64)
    model = write_onnx(folder / "large.onnx", made)
    pixels = np.random.default_rng(3).integers(1, 256, (3, 1301, 707)).astype(np.uint8)
    pixels[:, 300:800, 100:600] = 0
    source = write_raster(folder / "large.tif", pixels, nodata=0, compress="deflate")
    check(folder, source, pixels, (pixels == 0).all(axis=0), model, made)


def test_jpeg_in_ycbcr(folder: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = np.kron(rng.integers(0, 256, (3, 5, 6)), np.ones((1, 12, 12))).astype(np.uint8)
    source = write_raster(
        folder / "jpeg.tif", pixels, compress="jpeg", photometric="ycbcr", tiled=True, blockxsize=16, blockysize=16
    )
    with rasterio.open(source) as file:
        decoded = file.read()
    model, made = network(folder)
    check(folder, source, decoded, np.zeros(decoded.shape[1:], bool), model, made)


@pytest.mark.parametrize("kind", ["alpha", "internal mask", "mask file"])
def test_masks_and_alpha_are_honoured_per_pixel(folder: Path, kind: str) -> None:
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (3, 50, 41)).astype(np.uint8)
    invalid = hole("outline", 50, 41, rng)
    path = folder / f"{kind.replace(' ', '_')}.tif"
    if kind == "alpha":
        write_raster(
            path, np.concatenate([pixels, np.where(invalid, 0, 255)[None]]).astype(np.uint8), photometric="RGB"
        )
        with rasterio.open(path, "r+") as file:
            file.colorinterp = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
    else:
        write_raster(path, pixels)
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=kind == "internal mask"), rasterio.open(path, "r+") as file:
            file.write_mask(np.where(invalid, 0, 255).astype(np.uint8))
        assert path.with_suffix(".tif.msk").exists() == (kind == "mask file")
    model, made = network(folder)
    check(folder, path, pixels, invalid, model, made)


def test_pixels_that_are_not_finite_are_invalid(folder: Path) -> None:
    rng = np.random.default_rng(1)
    pixels = rng.random((3, 40, 37)).astype(np.float32)
    pixels[0, 5, 6], pixels[2, 20:, 3] = np.nan, np.inf
    invalid = ~np.isfinite(pixels).all(axis=0)
    model, made = network(folder, dtype="float32", max_pixel_value=1.0)
    check(folder, write_raster(folder / "nan.tif", pixels), np.nan_to_num(pixels, posinf=0), invalid, model, made)


def test_one_band_with_data_makes_a_pixel_valid(folder: Path) -> None:
    pixels = np.zeros((3, 20, 20), np.uint8)
    pixels[1, 3:9, 3:9] = 7
    model, made = network(folder)
    check(folder, write_raster(folder / "part.tif", pixels, nodata=0), pixels, pixels[1] == 0, model, made)


def test_a_valid_tile_of_one_colour_is_predicted(folder: Path) -> None:
    pixels = np.full((3, 40, 40), 255, np.uint8)
    model, made = network(folder)
    check(folder, write_raster(folder / "white.tif", pixels), pixels, np.zeros((40, 40), bool), model, made)


def test_the_network_sees_what_it_saw_in_training(folder: Path) -> None:
    """Invalid pixels have the card's fill value; beyond the border the image is reflected."""
    rng = np.random.default_rng(5)
    made = card(tile_size=TILE, fill_value=100.0)
    model = write_onnx(folder / "conv.onnx", made, kernel=3)
    pixels = rng.integers(1, 200, (3, 11, 9)).astype(np.uint8)
    pixels[:, 4, 4] = 255
    source = write_raster(folder / "hole.tif", pixels, nodata=255)
    predict(source, folder / "o.tif", model=model, probabilities=folder / "p.tif", overwrite=True)
    filled = pixels.copy()
    filled[:, 4, 4] = 100
    around = np.pad(filled, ((0, 0), (0, TILE - 11), (0, TILE - 9)), mode="reflect")
    around = np.pad(around, ((0, 0), (0, 0), (0, 0)))
    from tests.inference.networks import weights

    w, b = weights(3, 1, 3)
    x = (around / 255.0 - np.array(made.mean)[:, None, None]) / np.array(made.std)[:, None, None]
    x = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    logits = b[0] + sum(
        (w[0, :, r, c][:, None, None] * x[:, r : r + TILE, c : c + TILE]).sum(axis=0)
        for r, c in itertools.product(range(3), range(3))
    )
    expected = (1 / (1 + np.exp(-logits)))[:11, :9]
    found = read(folder / "p.tif")[0][1]
    valid = ~np.isnan(found)
    assert (~valid).sum() == 1
    np.testing.assert_allclose(found[valid], expected[valid], atol=1e-5)


def test_torchscript_and_onnx_agree(folder: Path) -> None:
    made = card(tile_size=TILE)
    pixels = np.random.default_rng(2).integers(0, 256, (3, 45, 38)).astype(np.uint8)
    source = write_raster(folder / "both.tif", pixels)
    found = []
    for model in (
        write_onnx(folder / "k3.onnx", made, kernel=3),
        write_torchscript(folder / "k3.pt", made, kernel=3),
    ):
        predict(source, folder / "o.tif", model=model, probabilities=folder / "p.tif", overwrite=True, batch_size=3)
        found.append(read(folder / "p.tif")[0])
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)


@pytest.mark.parametrize(("end", "output"), [("probabilities", "probabilities"), ("argmax", "logits")])
def test_models_that_end_in_probabilities_or_classes(folder: Path, end: str, output: str) -> None:
    activation = "softmax" if end == "argmax" else "sigmoid"
    made = card(tile_size=TILE, activation=activation, output=output)
    model = write_onnx(folder / f"{end}.onnx", made, end=end)
    pixels = np.random.default_rng(2).integers(0, 256, (3, 45, 38)).astype(np.uint8)
    predict(write_raster(folder / "e.tif", pixels), folder / "o.tif", model=model, overwrite=True)
    expected = untiled(pixels, made)
    np.testing.assert_array_equal(read(folder / "o.tif")[0][0], expected[1] > 0.5)


def test_output_that_is_not_finite_is_an_error(folder: Path) -> None:
    import onnx
    from onnx import numpy_helper

    made = card(tile_size=TILE)
    model = write_onnx(folder / "nan.onnx", made)
    graph = onnx.load(model)
    for tensor in graph.graph.initializer:
        if tensor.name == "b":
            tensor.CopyFrom(numpy_helper.from_array(np.array([np.nan], np.float32), "b"))
    onnx.save(graph, model)
    source = write_raster(folder / "n.tif", np.full((3, 20, 20), 9, np.uint8))
    with pytest.raises(UserError, match="NaN or infinite at 256 of 256 values"):
        predict(source, folder / "broken.tif", model=model)
    assert not (folder / "broken.tif").exists()


def test_a_replaced_model_file_is_loaded_again(folder: Path) -> None:
    made = card(tile_size=TILE)
    source = write_raster(folder / "r.tif", np.random.default_rng(8).integers(0, 256, (3, 30, 30)).astype(np.uint8))
    mapper, model = Mapper(), folder / "replaced.onnx"
    maps = []
    for seed in (0, 5, 5):
        write_onnx(model, made, seed=seed)
        mapper.predict(source, folder / "replaced.tif", model=model, overwrite=True)
        maps.append(read(folder / "replaced.tif")[0])
    predict(source, folder / "replaced.tif", model=model, overwrite=True)
    np.testing.assert_array_equal(maps[1], read(folder / "replaced.tif")[0])
    np.testing.assert_array_equal(maps[1], maps[2])
    assert (maps[0] != maps[1]).any()


def test_flips_and_turns_change_nothing_for_a_pointwise_network(folder: Path) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (3, 45, 38)).astype(np.uint8)
    model, made = network(folder)
    check(folder, write_raster(folder / "t.tif", pixels), pixels, np.zeros((45, 38), bool), model, made, tta=True)


def test_flips_and_turns_are_averaged(folder: Path) -> None:
    """For a square image in one tile, the map of the turned image is the turned map."""
    made = card(tile_size=TILE)
    model = write_onnx(folder / "k3.onnx", made, kernel=3)
    pixels = np.random.default_rng(2).integers(0, 256, (3, TILE, TILE)).astype(np.uint8)
    found = []
    for image in (pixels, np.rot90(pixels, 1, (1, 2)), pixels[:, ::-1]):
        source = write_raster(folder / "t.tif", np.ascontiguousarray(image))
        predict(source, folder / "o.tif", model=model, probabilities=folder / "p.tif", overwrite=True, tta=True)
        found.append(read(folder / "p.tif")[0][1])
    np.testing.assert_allclose(np.rot90(found[0]), found[1], atol=1e-6)
    np.testing.assert_allclose(found[0][::-1], found[2], atol=1e-6)


def test_a_model_without_background_marks_invalid_pixels_by_nodata(folder: Path) -> None:
    made = card(classes=3, tile_size=TILE, background_index=None, class_names=["sand", "rock", "kelp"])
    model = write_onnx(folder / "three.onnx", made)
    pixels = np.random.default_rng(2).integers(1, 256, (3, 45, 38)).astype(np.uint8)
    pixels[:, :9] = 0
    predict(write_raster(folder / "b.tif", pixels, nodata=0), folder / "o.tif", model=model, overwrite=True)
    with rasterio.open(folder / "o.tif") as file:
        values = file.read(1)
        assert file.nodata == 255
    assert (values[:9] == 255).all()
    np.testing.assert_array_equal(values[9:], untiled(pixels, made).argmax(axis=0)[9:])


def test_the_threshold_is_strict(folder: Path) -> None:
    """A probability of exactly one half isn't above the threshold, for any number of overlapping tiles."""
    made = card(bands=1, tile_size=TILE, mean=[0.0], std=[1.0], max_pixel_value=1.0)
    model = write_onnx(folder / "half.onnx", made)
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(model)
    for tensor in graph.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(np.zeros_like(numpy_helper.to_array(tensor)), tensor.name))
    onnx.save(graph, model)
    source = write_raster(folder / "h.tif", np.zeros((1, 47, 53), np.uint8))
    predict(source, folder / "o.tif", model=model, overwrite=True, overlap=0.75)
    assert not read(folder / "o.tif")[0].any()
    predict(source, folder / "o.tif", model=model, overwrite=True, threshold=0.4999)
    assert read(folder / "o.tif")[0].all()
