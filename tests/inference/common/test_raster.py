"""Headers and GDAL settings."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.env import getenv

from inference.common.errors import UserError
from inference.common.raster import STREAM_CACHE, WINDOW_CACHE, environment, open_raster, read_header
from tests.conftest import write_raster

ROOT = Path(__file__).parents[3]


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


TWO_THREADS = """
import sys, threading
from inference.common import raster

first, leave, open_file = threading.Event(), threading.Event(), raster.rasterio.open

def opening(*arguments, **options):
    if threading.current_thread() is other:
        first.set()
        leave.wait(30)
    else:
        leave.set()
        other.join()
    return open_file(*arguments, **options)

raster.rasterio.open = opening
other = threading.Thread(target=raster.open_raster, args=sys.argv[1:2])
other.start()
first.wait(30)
raster.open_raster(sys.argv[2])
"""


def test_a_file_without_georeference_is_opened_while_another_thread_opens_one(tmp_path: Path) -> None:
    """The other thread ends in between, which must not bring the warning back."""
    pixels = np.zeros((1, 4, 4), np.uint8)
    placed = write_raster(tmp_path / "a.tif", pixels)
    plain = write_raster(tmp_path / "b.tif", pixels, crs=None, transform=None)
    command = [sys.executable, "-W", "error::UserWarning", "-c", TWO_THREADS, str(placed), str(plain)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
