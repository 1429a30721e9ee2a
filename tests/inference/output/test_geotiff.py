"""Writing: whole or not at all, and what killed runs left is cleared."""

import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.rpc import RPC

from inference.common.errors import UserError
from inference.common.raster import environment, read_header
from inference.output.geotiff import Output
from tests.conftest import write_raster


def test_a_file_has_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    header = read_header(str(write_raster(tmp_path / "in.tif", np.ones((1, 700, 30), np.uint8))))
    target = tmp_path / "o.tif"
    with environment():
        output = Output(target, header, overwrite=False, bands=1, dtype="uint8")
        output.write(0, np.ones((1, 512, 30), np.uint8), None)
        assert not target.exists()
        output.discard()
        assert sorted(p.name for p in tmp_path.iterdir()) == ["in.tif"]
        # Rows that were never written would be taken for background.
        output = Output(target, header, overwrite=False, bands=1, dtype="uint8", cog=False)
        output.write(0, np.ones((1, 512, 30), np.uint8), None)
        output.write(512, np.ones((1, 188, 30), np.uint8), None)
        output.complete()
        output.publish()
    with rasterio.open(target) as file:
        assert file.read().all()


@pytest.mark.parametrize("points_crs", ["EPSG:32609", None])
def test_ground_control_points_are_kept(tmp_path: Path, points_crs: str | None) -> None:
    points = [GroundControlPoint(r, c, 5e5 + c, 5.8e6 - r) for r, c in ((0, 0), (0, 20), (20, 0), (20, 20))]
    path = tmp_path / "in.tif"
    with rasterio.open(path, "w", driver="GTiff", height=20, width=20, count=1, dtype="uint8") as file:
        file.gcps = points, CRS.from_user_input(points_crs) if points_crs else CRS()
        file.write(np.ones((1, 20, 20), np.uint8))
    header = read_header(str(path))
    assert len(header.gcps) == 4
    with environment():
        output = Output(tmp_path / "o.tif", header, overwrite=False, bands=1, dtype="uint8")
        output.write(0, np.ones((1, 20, 20), np.uint8), None)
        output.complete()
        output.publish()
    with rasterio.open(tmp_path / "o.tif") as file:
        found, crs = file.gcps
        assert [(p.row, p.col, p.x, p.y) for p in found] == [(p.row, p.col, p.x, p.y) for p in points]
        assert crs == (CRS.from_user_input(points_crs) if points_crs else None)


def test_rational_polynomial_coefficients_are_kept(tmp_path: Path) -> None:
    coefficients = RPC(
        height_off=10, height_scale=100, lat_off=49, lat_scale=0.1, line_off=10, line_scale=10, long_off=-125,
        long_scale=0.1, samp_off=10, samp_scale=10, line_num_coeff=[0.5] * 20, line_den_coeff=[1.0] * 20,
        samp_num_coeff=[0.25] * 20, samp_den_coeff=[1.0] * 20, err_bias=0.5, err_rand=0.5,
    )  # fmt: skip
    path = tmp_path / "in.tif"
    with rasterio.open(path, "w", driver="GTiff", height=20, width=20, count=1, dtype="uint8") as file:
        file.rpcs = coefficients
        file.write(np.ones((1, 20, 20), np.uint8))
    header = read_header(str(path))
    for cog in (True, False):
        target = tmp_path / f"{cog}.tif"
        with environment():
            output = Output(target, header, overwrite=False, bands=1, dtype="uint8", cog=cog)
            output.write(0, np.ones((1, 20, 20), np.uint8), None)
            output.complete()
            output.publish()
        with rasterio.open(target) as file:
            assert file.rpcs.to_gdal() == header.rpcs.to_gdal()


@pytest.mark.parametrize("full", ["while rows are written", "before the copy"])
def test_a_disk_that_fills_up_is_reported_before_libtiff_does(
    full: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    header = read_header(str(write_raster(tmp_path / "in.tif", np.ones((1, 700, 30), np.uint8))))
    usage = shutil.disk_usage(tmp_path)
    with environment():
        output = Output(tmp_path / "o.tif", header, overwrite=False, bands=1, dtype="uint8")
        output.write(0, np.ones((1, 512, 30), np.uint8), None)
        if full == "before the copy":
            output.write(512, np.ones((1, 188, 30), np.uint8), None)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
        rest = np.ones((1, 188, 30), np.uint8)
        step = output.complete if full == "before the copy" else partial(output.write, 512, rest, None)
        with pytest.raises(UserError) as caught:
            step()
        output.discard()
    assert str(caught.value) == (
        f"{tmp_path / 'o.tif'}: can't be written: the disk is almost full (0 MiB are free in its folder)"
    )
    assert capfd.readouterr().err == ""
    assert [path.name for path in tmp_path.iterdir()] == ["in.tif"]
