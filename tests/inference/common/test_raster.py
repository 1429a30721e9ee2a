"""Headers and GDAL settings."""

from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.env import getenv

from inference.common.errors import UserError
from inference.common.raster import STREAM_CACHE, WINDOW_CACHE, environment, open_raster, read_header
from tests.conftest import write_raster


@pytest.mark.parametrize("cache", [STREAM_CACHE, WINDOW_CACHE])
def test_gdals_cache_is_capped(cache: int) -> None:
    with environment(cache):
        assert getenv()["GDAL_CACHEMAX"] == cache
    with environment():
        assert getenv()["GDAL_CACHEMAX"] == 32 * 2**20


def test_ground_control_points_alone_are_no_georeference(tmp_path: Path) -> None:
    plain = read_header(write_raster(tmp_path / "plain.tif", np.zeros((1, 8, 8), np.uint8)))
    assert plain.georeferenced
    points = [GroundControlPoint(r, c, 5e5 + c, 5.8e6 - r) for r, c in ((0, 0), (0, 8), (8, 0))]
    path = tmp_path / "gcps.tif"
    with open_raster(
        path, "w", driver="GTiff", height=8, width=8, count=1, dtype="uint8", gcps=points, crs="EPSG:32609"
    ) as file:
        file.write(np.zeros((1, 8, 8), np.uint8))
    header = read_header(path)
    assert len(header.gcps) == 3
    assert header.crs.to_epsg() == 32609
    assert header.transform == Affine.identity()
    assert not header.georeferenced


def test_the_error_names_the_kind_and_the_fix(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_text("text")
    with pytest.raises(UserError, match=r"a\.tif: can't be read as a GeoTIFF: .* \(replace it\)$"):
        read_header(path, "a GeoTIFF", "replace it")
    with pytest.raises(UserError, match=r"b\.tif: can't be read as an image: no such file$"):
        read_header(tmp_path / "b.tif")
