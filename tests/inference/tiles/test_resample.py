"""Resampling to another ground sample distance and back."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.transform import from_origin

from inference.options import Options
from inference.plan import make_plan
from inference.predict import predict
from inference.tiles.resample import FilterWeights, ResampledGrid, RowResampler
from inference.tiles.strips import Strip
from tests.conftest import write_raster
from tests.inference.networks import card, untiled, write_onnx


@pytest.mark.parametrize(("old", "new"), [(1, 1), (1, 5), (5, 1), (40, 40), (40, 17), (40, 97), (41, 20), (20, 21)])
def test_filter_weights_are_those_of_pillow(old: int, new: int) -> None:
    row = np.random.default_rng(0).random((1, old)).astype(np.float32)
    expected = np.array(Image.fromarray(row).resize((new, 1), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(FilterWeights(old, new).columns(row), expected, atol=1e-5)


@pytest.mark.parametrize(("old", "new"), [(40, 40), (40, 17), (40, 97), (3, 50), (50, 3)])
@pytest.mark.parametrize("step", [1, 2, 7, 100])
def test_rows_in_pieces_are_the_rows_of_the_whole(old: int, new: int, step: int) -> None:
    image = np.random.default_rng(0).random((2, old, 5)).astype(np.float32)
    rows = RowResampler(FilterWeights(old, new))
    found = np.concatenate([rows.push(image[:, i : i + step]) for i in range(0, old, step)], axis=1)
    expected = FilterWeights(old, new).columns(image.transpose(0, 2, 1)).transpose(0, 2, 1)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("factor", [(f, f) for f in (0.31, 0.5, 1.0, 1.7, 3.0)] + [(0.5, 1.7)])
def test_invalid_pixels_have_no_weight(factor: tuple[float, float]) -> None:
    image = np.full((1, 60, 50), 7.0, np.float32)
    invalid = np.random.default_rng(0).random((60, 50)) < 0.5
    invalid[20:50, 10:40] = True
    image[0, invalid] = -1e6
    grid = ResampledGrid(60, 50, factor, fill_value=-1.0)
    strips = [Strip(r, image[:, r : r + 16], invalid[r : r + 16]) for r in range(0, 60, 16)]
    found = list(grid.from_mosaic(strips))
    pixels = np.concatenate([s.pixels for s in found], axis=1)
    assert pixels.shape == (1, grid.height, grid.width)
    nothing = pixels[0] == -1
    assert nothing.any()
    np.testing.assert_allclose(pixels[0, ~nothing], 7, rtol=1e-5)
    # On the way back, no valid pixel depends on an empty one.
    marked = np.where(nothing, 1.0, 0.0).astype(np.float32)[None]
    back = grid.to_mosaic(marked)
    assert back.shape == (1, 60, 50)
    assert (back[0, ~invalid] == 0).all()


@pytest.mark.parametrize("distance", [0.04, 0.1, 0.23])
def test_a_map_of_a_resampled_mosaic_is_on_the_mosaics_grid(tmp_path: Path, distance: float) -> None:
    """In large uniform areas the map is the same at any ground sample distance."""
    rng = np.random.default_rng(4)
    pixels = np.kron(rng.integers(1, 256, (3, 4, 5)), np.ones((1, 30, 30))).astype(np.uint8)
    pixels[:, :20, :70] = 0
    source = write_raster(tmp_path / "in.tif", pixels, nodata=0, transform=from_origin(5e5, 5.8e6, 0.1, 0.1))
    made = card(ground_sample_distance=distance)
    summary = predict(
        source,
        tmp_path / "o.tif",
        model=write_onnx(tmp_path / "m.onnx", made),
        resample=True,
        probabilities=tmp_path / "p.tif",
    )
    with rasterio.open(tmp_path / "o.tif") as file, rasterio.open(source) as src:
        assert (file.shape, file.transform) == (src.shape, src.transform)
        valid = file.dataset_mask() > 0
        np.testing.assert_array_equal(valid, ~(pixels == 0).all(axis=0))
        classes = file.read(1)
        assert ("RESAMPLED_BY" in file.tags()) == (distance != 0.1)
    assert summary.notices == ()
    expected = untiled(pixels, made)[1] > 0.5
    inner = np.kron(np.ones((4, 5)), np.pad(np.ones((18, 18)), 6)).astype(bool) & valid
    np.testing.assert_array_equal(classes[inner], expected[inner])


def test_pixels_that_are_not_square_are_resampled_by_a_factor_for_each_axis(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    pixels = np.kron(rng.integers(1, 256, (3, 4, 5)), np.ones((1, 30, 60))).astype(np.uint8)
    source = write_raster(tmp_path / "in.tif", pixels, transform=from_origin(5e5, 5.8e6, 0.1, 0.2))
    made = card(ground_sample_distance=0.1)
    model = write_onnx(tmp_path / "m.onnx", made)
    plan = make_plan(source, tmp_path / "o.tif", Options(model=model, resample=True))
    assert (plan.rows.length, plan.cols.length) == (240, 300)
    predict(source, tmp_path / "o.tif", model=model, resample=True)
    with rasterio.open(tmp_path / "o.tif") as file:
        classes = file.read(1)
        rows, cols = map(float, file.tags()["RESAMPLED_BY"].split(" x "))
        assert (rows, cols) == pytest.approx((2, 1), rel=1e-3)
    inner = np.kron(np.ones((4, 5)), np.pad(np.ones((18, 48)), 6)).astype(bool)
    np.testing.assert_array_equal(classes[inner], (untiled(pixels, made)[1] > 0.5)[inner])
    (notice,) = predict(source, tmp_path / "o2.tif", model=model).notices
    assert notice == (
        f"{source}: a pixel is 0.2001 m high and 0.1 m wide on the ground, the model was trained on 0.1 m (read it at "
        "the model's with --resample)"
    )


def test_degrees_at_high_latitude(tmp_path: Path) -> None:
    step = 1e-6
    where = {"crs": "EPSG:4326", "transform": from_origin(20, 70, step, step)}
    source = write_raster(tmp_path / "in.tif", np.ones((3, 300, 400), np.uint8), **where)
    high = 111_562 * step  # metres in a degree of the meridian at 70 degrees north
    wide = 38_188 * step  # of the parallel
    model = write_onnx(tmp_path / "m.onnx", card(ground_sample_distance=0.05))
    plan = make_plan(source, tmp_path / "o.tif", Options(model=model, resample=True))
    assert plan.factor == pytest.approx((high / 0.05, wide / 0.05), rel=1e-3)
