"""Mosaics whose bands state what they are: colours, alpha, a colour table, several images in a file."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp

from inference.card import CardError, ModelCard
from inference.common.bands import AlphaSurvey
from inference.common.raster import read_header
from inference.predict import predict
from tests.conftest import write_raster
from tests.inference.commands import refused, run, texture
from tests.inference.networks import card, write_onnx

BGR = (ColorInterp.blue, ColorInterp.green, ColorInterp.red)
RGB = ["red", "green", "blue"]


@pytest.fixture
def rgb_model(tmp_path: Path) -> Path:
    return write_onnx(tmp_path / "rgb.onnx", card(band_colours=RGB))


def tagged(path: Path, pixels: np.ndarray, colours: Any = None, names: Any = None, **profile: Any) -> Path:
    write_raster(path, pixels, **profile)
    with rasterio.open(path, "r+") as file:
        if colours is not None:
            file.colorinterp = colours
        if names is not None:
            file.descriptions = names
    return path


def test_other_colours_are_refused_with_the_bands_to_read(
    tmp_path: Path, rgb_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = texture(60, 50)
    source = tagged(tmp_path / "bgr.tif", pixels, BGR)
    assert refused(capsys, source, tmp_path / "out.tif", "--model", rgb_model) == (
        f"{source}: bands 1,2,3 are blue, green, red, the model was trained on red, green, blue (read them in that "
        "order with --bands 3,2,1; as they lie: --bands 1,2,3)"
    )
    assert run(source, tmp_path / "fixed.tif", "--model", rgb_model, "--bands", "3,2,1") == 0
    assert run(write_raster(tmp_path / "rgb.tif", pixels[::-1]), tmp_path / "rgb_map.tif", "--model", rgb_model) == 0
    assert run(source, tmp_path / "as_it_lies.tif", "--model", rgb_model, "--bands", "1,2,3") == 0
    fixed, rgb, lies = (rasterio.open(tmp_path / f"{name}.tif").read() for name in ("fixed", "rgb_map", "as_it_lies"))
    np.testing.assert_array_equal(fixed, rgb)
    assert (lies != rgb).any()


def test_descriptions_come_before_default_interpretations(
    tmp_path: Path, rgb_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tagged(tmp_path / "in.tif", texture(60, 50, 4), names=("Blue", "Green", "Red", "NIR"))
    assert read_header(source).colours == ("blue", "green", "red", "nir")
    line = refused(capsys, source, tmp_path / "out.tif", "--model", rgb_model)
    assert "--bands 3,2,1" in line
    other = tagged(tmp_path / "other.tif", texture(60, 50), names=("NIR", "Red", "Green"))
    line = refused(capsys, other, tmp_path / "out.tif", "--model", rgb_model)
    assert "(choose bands with --bands; as they lie: --bands 1,2,3)" in line


@pytest.mark.parametrize("names", [None, ("Band 1", "x", "")])
def test_what_states_nothing_contradicts_nothing(tmp_path: Path, names: Any) -> None:
    model = write_onnx(tmp_path / "m.onnx", card(band_colours=RGB, dtype="uint16", max_pixel_value=255.0))
    source = tagged(tmp_path / "in.tif", texture(60, 50).astype(np.uint16), names=names)
    assert read_header(source).colours == (None, None, None)
    assert predict(source, tmp_path / "out.tif", model=model).notices == ()


def test_the_card_has_a_colour_for_each_band() -> None:
    old = card().model_dump(mode="json")
    del old["band_colours"], old["band_descriptions"]
    assert ModelCard.parse(old, "a card").band_colours is None
    with pytest.raises(CardError, match="band_colours has 2 of 3"):
        ModelCard.parse(old | {"band_colours": ["red", None]}, "a card")


def test_an_alpha_band_that_holds_data_is_reported(tmp_path: Path, model: Path) -> None:
    pixels = texture(300, 250, 4)
    pixels[3, :40] = 0
    summary = predict(write_raster(tmp_path / "in.tif", pixels), tmp_path / "out.tif", model=model)
    assert summary.invalid == 40 * 250
    (notice,) = summary.notices
    assert "in.tif: band 4 is marked as alpha (transparency) but has " in notice
    assert "--bands 1,2,3,4; to drop the mark: gdal_edit.py -colorinterp_4 undefined)" in notice
    mask = np.where(np.arange(250) < 100, 0, 255) - np.zeros((300, 1), int)
    mask[:, 100:120] = np.linspace(0, 255, 20).astype(int)  # a smoothed edge
    pixels[3] = mask
    assert predict(write_raster(tmp_path / "in.tif", pixels), tmp_path / "out2.tif", model=model).notices == ()


def test_only_many_values_make_a_mask_data() -> None:
    survey = AlphaSurvey()
    survey.add(np.array([[0, 255], [255, 128]], np.uint8))
    assert not survey.holds_data
    survey.add(np.arange(200, dtype=np.uint8))
    assert survey.holds_data


def test_a_colour_table_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = write_onnx(tmp_path / "m.onnx", card(bands=1))
    source = write_raster(tmp_path / "in.tif", texture(60, 50, 1))
    with rasterio.open(source, "r+") as file:
        file.write_colormap(1, {0: (0, 0, 0), 1: (255, 0, 0)})
    assert refused(capsys, source, tmp_path / "out.tif", "--model", model) == (
        f"{source}: its values are indices into a colour table, not colours (expand it with gdal_translate "
        "-expand rgb; to map the indices themselves: --bands 1)"
    )
    assert run(source, tmp_path / "out.tif", "--model", model, "--bands", "1") == 0


def test_the_first_of_several_images_is_named(tmp_path: Path, model: Path) -> None:
    path = write_raster(tmp_path / "in.tif", texture(60, 50))
    write_raster(tmp_path / "second.tif", texture(60, 50))
    with rasterio.open(path) as file:
        profile = file.profile
    with rasterio.open(path, "w", **profile | {"APPEND_SUBDATASET": "YES"}) as file:
        file.write(texture(60, 50))
    assert read_header(path).pages == 2
    (notice,) = predict(path, tmp_path / "out.tif", model=model).notices
    assert notice == f"{path}: holds 2 images, the first of which is mapped (another one: GTIFF_DIR:2:{path})"
