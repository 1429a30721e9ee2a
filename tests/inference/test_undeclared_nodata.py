"""Mapping of mosaics that don't declare their nodata, and nodata values that a type can't hold."""

from pathlib import Path

import numpy as np
import pytest
import rasterio

from inference.predict import predict
from tests.conftest import write_raster
from tests.inference.commands import refused, run, texture
from tests.inference.networks import card, write_onnx


@pytest.fixture
def collar(tmp_path: Path) -> Path:
    pixels = np.clip(texture(200, 150), 1, 254)
    pixels[:, :, :50] = 255
    return write_raster(tmp_path / "in.tif", pixels)


def test_it_is_reported_with_its_share_of_each_class(
    tmp_path: Path, collar: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(collar, tmp_path / "out.tif", "--model", model) == 0
    (line,) = capsys.readouterr().err.strip().splitlines()
    with rasterio.open(tmp_path / "out.tif") as file:
        values = file.read(1)
    (name, on), *others = [
        (f"{name} {share:.1%}".replace("%", " %"), value)
        for value, name in enumerate(card().class_names)
        if (share := (values[:, :50] == value).sum() / (values == value).sum()) > 0
    ]
    assert not others
    assert line == (
        f"{collar}: all bands are 255 in 33.3 % of the pixels, which is probably nodata that the file doesn't declare; "
        f"of the map's areas lie on it: {name} (declare it with --nodata=255; if it is data: --nodata none)"
    )
    assert (values[:, :50] == on).all()


@pytest.mark.parametrize("option", ["--nodata=255", "--nodata=none"])
def test_what_is_declared_or_said_to_be_data_is_not_reported(
    tmp_path: Path, collar: Path, model: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    assert run(collar, tmp_path / "out.tif", "--model", model, option) == 0
    assert capsys.readouterr().err == ""
    with rasterio.open(tmp_path / "out.tif") as file:
        assert (file.dataset_mask()[:, :50] == 0).all() == (option == "--nodata=255")


def test_the_cards_value_is_used_where_the_file_declares_none(tmp_path: Path, collar: Path) -> None:
    model = write_onnx(tmp_path / "m.onnx", card(nodata=255))
    summary = predict(collar, tmp_path / "out.tif", model=model)
    assert (summary.invalid, summary.notices) == (200 * 50, ())


@pytest.mark.parametrize(("dtype", "value"), [("float32", -3.4e38), ("int16", -9999)])
def test_values_that_no_image_holds(tmp_path: Path, model: Path, dtype: str, value: float) -> None:
    pixels = texture(100, 90).astype(dtype)
    pixels[:, 30:40, 30:70] = value
    source = write_raster(tmp_path / "in.tif", pixels)
    options = {"model": model, "max_pixel_value": 255.0}
    (notice,) = predict(source, tmp_path / "out.tif", **options).notices
    given = f"{value:.4g}".replace("e+38", "")
    assert f"all bands are {given}" in notice.replace("-3.39999995", "-3.4")
    option = notice.split("--nodata=")[1].split(";")[0]
    assert predict(source, tmp_path / "out2.tif", nodata=float(option), **options).invalid == 400


@pytest.mark.parametrize("value", ["256", "-1", "0.5", "nan", "inf"])
def test_a_value_that_the_type_cannot_hold_is_refused(
    tmp_path: Path, mosaic: Path, model: Path, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    assert refused(capsys, mosaic, tmp_path / "out.tif", "--model", model, f"--nodata={value}") == (
        f"--nodata: {value} is not a value of uint8, the image's type (allowed: whole numbers from 0 to 255, or none)"
    )
    assert not (tmp_path / "out.tif").exists()


def test_a_value_beyond_floats_is_refused(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_raster(tmp_path / "in.tif", texture(50, 50).astype(np.float32))
    line = refused(capsys, source, tmp_path / "o.tif", "--model", model, "--max-pixel-value=255", "--nodata=1e39")
    assert line.startswith("--nodata: 1e+39 is not a value of float32, the image's type (allowed: -3.4028235e+38 to ")
