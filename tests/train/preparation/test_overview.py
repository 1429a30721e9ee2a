"""Overview of a data set: splits in their colours over the images."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from inference.common.errors import UserError
from inference.common.raster import read_header
from tests.conftest import write_raster
from train.data.prepared import Block, PreparedSet, Settings, Source
from train.preparation.geopackage import SPLIT_COLOURS, UNUSED_COLOUR
from train.preparation.overview import MOST, draw_overview

SIDE = 200


def prepared(folder: Path, images: int) -> PreparedSet:
    sources, blocks = {}, []
    for number in range(images):
        name = f"site$_{number}"
        write_raster(folder / f"{name}.tif", np.full((3, SIDE, SIDE), 90, np.uint8), nodata=0)
        label = np.zeros((1, SIDE, SIDE), np.uint8)
        label[0, :20] = 255
        write_raster(folder / "labels" / f"{name}.tif", label, nodata=255)
        sources[name] = Source(name, f"{name}.tif", name, None, SIDE, SIDE, 3, "uint8", "EPSG:32609", 0.1, 1, "")
        for at, split in enumerate(("train", "val", "test")):
            blocks.append(Block(f"{name}_{at}", name, 0, 60 * at, SIDE, 50, split, shares=(1.0, 0.0)))
        blocks.append(Block(f"{name}_3", name, 0, 180, SIDE, 20, "train", None, False, "guard", shares=(1.0, 0.0)))
    return PreparedSet(folder, Settings(("background", "kelp"), 32, 1.0, 10, "block", None, 0), sources, blocks)


def has_colour(picture: np.ndarray, colour: str) -> bool:
    return bool((np.abs(picture[..., :3] - to_rgb(colour)).max(axis=-1) < 0.03).sum() > 100)


def test_splits_have_their_colours(tmp_path: Path) -> None:
    data = prepared(tmp_path, 2)
    draw_overview(tmp_path / "o.png", data, [read_header(tmp_path / f"{name}.tif") for name in data.sources])
    picture = imread(tmp_path / "o.png")
    for colour in (*SPLIT_COLOURS.values(), UNUSED_COLOUR):
        assert has_colour(picture, colour)


def test_of_many_images_some_are_drawn(tmp_path: Path) -> None:
    data = prepared(tmp_path, MOST + 3)
    headers = [read_header(tmp_path / f"{name}.tif") for name in data.sources]
    draw_overview(tmp_path / "o.png", data, headers)
    assert imread(tmp_path / "o.png").shape[1] < 2000


def test_a_missing_label_file_is_one_line(tmp_path: Path) -> None:
    data = prepared(tmp_path, 1)
    headers = [read_header(tmp_path / f"{name}.tif") for name in data.sources]
    (tmp_path / "labels" / "site$_0.tif").unlink()
    with pytest.raises(UserError, match="can't be read"):
        draw_overview(tmp_path / "o.png", data, headers)
    assert not (tmp_path / "o.png").exists()
