"""Mosaics in VRT format: several source files, and metadata that a GeoTIFF can't hold."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from inference.common.errors import UserError
from inference.predict import predict
from tests.conftest import write_raster
from tests.inference.networks import card, write_onnx

POINTS = "".join(
    f'<GCP Id="" Pixel="{x}" Line="{y}" X="{9e5 + x}" Y="{5.9e6 - y}"/>'
    for x, y in ((0, 0), (90, 0), (0, 70), (90, 70))
)


@pytest.fixture
def pixels() -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(1, 250, (3, 70, 90)).astype(np.uint8)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_onnx(tmp_path / "m.onnx", card())


def write_vrt(path: Path, source: Path, nodata: tuple[int | None, ...] = (None,) * 3, points: str = "") -> Path:
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{number}">'
        + ("" if value is None else f"<NoDataValue>{value}</NoDataValue>")
        + f'<SimpleSource><SourceFilename relativeToVRT="1">{source.name}</SourceFilename>'
        f"<SourceBand>{number}</SourceBand></SimpleSource></VRTRasterBand>"
        for number, value in enumerate(nodata, 1)
    )
    path.write_text(
        '<VRTDataset rasterXSize="90" rasterYSize="70"><SRS>EPSG:32609</SRS>'
        f"<GeoTransform>500000,0.1,0,5800000,0,-0.1</GeoTransform>{points}{bands}</VRTDataset>"
    )
    return path


def test_source_files_are_not_replaced(pixels: Any, model: Path, tmp_path: Path) -> None:
    part = write_raster(tmp_path / "part.tif", pixels)
    mosaic = write_vrt(tmp_path / "mosaic.vrt", part)
    before = part.read_bytes()
    with pytest.raises(UserError, match=r"part.tif: is a part of .*mosaic.vrt \(choose another OUT.tif\)"):
        predict(mosaic, part, model=model, overwrite=True)
    with pytest.raises(UserError, match="choose another --probabilities"):
        predict(mosaic, tmp_path / "o.tif", model=model, probabilities=part, overwrite=True)
    assert part.read_bytes() == before
    assert not (tmp_path / "o.tif").exists()


def test_one_file_under_two_names_is_one_file(pixels: Any, model: Path, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    source = write_raster(tmp_path / "in.tif", pixels)
    with pytest.raises(UserError, match="is the map itself"):
        predict(source, tmp_path / "o.tif", model=model, probabilities=tmp_path / "sub" / ".." / "o.tif")
    assert not (tmp_path / "o.tif").exists()


def test_a_transform_takes_precedence_over_control_points(pixels: Any, model: Path, tmp_path: Path) -> None:
    """A GeoTIFF can hold only one of them, and QGIS uses the transform."""
    source = write_raster(tmp_path / "part.tif", pixels)
    points = f'<GCPList Projection="EPSG:32610">{POINTS}</GCPList>'
    mosaic = write_vrt(tmp_path / "mosaic.vrt", source, points=points)
    predict(mosaic, tmp_path / "o.tif", model=model)
    with rasterio.open(mosaic) as file, rasterio.open(tmp_path / "o.tif") as made:
        assert made.transform == file.transform
        assert made.crs.to_epsg() == 32609
        assert made.gcps[0] == []


def test_different_nodata_values_are_reported(pixels: Any, model: Path, tmp_path: Path) -> None:
    source = write_raster(tmp_path / "part.tif", pixels)
    mosaic = write_vrt(tmp_path / "mosaic.vrt", source, (0, 255, None))
    (notice,) = predict(mosaic, tmp_path / "o.tif", model=model).notices
    assert "nodata values differ (0, 255, none); a pixel is invalid where all bands have 0" in notice
    same = write_vrt(tmp_path / "same.vrt", source, (0, 0, 0))
    assert predict(same, tmp_path / "o2.tif", model=model).notices == ()


def test_a_part_that_is_gone_is_named(pixels: Any, model: Path, tmp_path: Path) -> None:
    part = write_raster(tmp_path / "part.tif", pixels)
    mosaic = write_vrt(tmp_path / "mosaic.vrt", part)
    part.unlink()
    with pytest.raises(UserError) as caught:
        predict(mosaic, tmp_path / "o.tif", model=model)
    assert str(caught.value) == (
        f"{mosaic}: refers to {part}, which doesn't exist (put the file there, or make the mosaic anew)"
    )
