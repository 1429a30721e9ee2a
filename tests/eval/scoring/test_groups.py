"""Groups of images that are independent of each other."""

from pathlib import Path
from typing import Any

import numpy as np
import rasterio

from tests.conftest import write_raster


def test_footprints_that_touch_are_one_group(tmp_path: Path) -> None:
    from eval.scoring.groups import group_images
    from train.data.pairs import find_pairs, read_scenes

    # Two neighbours, a third one a metre off, a fourth one nowhere on the Earth.
    for name, east, crs in (("a", 0.0, True), ("b", 4.0, True), ("c", 9.0, True), ("d", 0.0, False)):
        place: dict[str, Any] = {"origin": (5e5 + east, 5.8e6)}
        more: dict[str, Any] = {} if crs else {"crs": None, "transform": rasterio.Affine.identity()}
        write_raster(tmp_path / "test" / "x" / f"{name}.tif", np.ones((3, 40, 40), np.uint8), **place, **more)
        write_raster(tmp_path / "test" / "y" / f"{name}.tif", np.ones((40, 40), np.uint8), **place, **more)
    scenes, _ = read_scenes(find_pairs(tmp_path, "test").pairs)
    assert group_images(scenes, None) == ["a", "a", "c", "d"]
    assert group_images(scenes, "[ab]|.") == ["a", "b", "c", "d"]
    assert group_images(scenes, "(?:a|b|c|(d))") == ["", "", "", "d"]
