"""A damaged mask is one line and exit code 2 in every command that reads rasters."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio

from eval.test_new_model import main as evaluate
from inference.inference import main as infer
from tests.conftest import write_dataset
from tests.inference.networks import card, write_onnx
from train.__main__ import main as train

IMAGE_WIDTH, STRIP_BYTE_COUNTS = 256, 279
"""Tags of the mask's TIFF directory: without the first GDAL can't open it, without the second it can't decode it."""


def damage_mask(image: Path, broken_tag: int) -> None:
    """Add a .msk file to an image, and overwrite the count of one of its tags."""
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(image, "r+") as file:
        file.write_mask(np.full(file.shape, 255, np.uint8))
    path = image.with_name(image.name + ".msk")
    content = bytearray(path.read_bytes())
    (start,) = struct.unpack_from("<I", content, 4)
    (entries,) = struct.unpack_from("<H", content, start)
    for entry in range(start + 2, start + 2 + 12 * entries, 12):
        (tag,) = struct.unpack_from("<H", content, entry)
        if tag == broken_tag:
            struct.pack_into("<I", content, entry + 4, 2**31 - 1)
    path.write_bytes(content)


@pytest.mark.parametrize("broken_tag", [IMAGE_WIDTH, STRIP_BYTE_COUNTS])
@pytest.mark.parametrize("command", ["train --check", "train", "eval", "inference"])
def test_a_damaged_mask_is_one_line(
    command: str, broken_tag: int, write_config: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = write_dataset(tmp_path / "data")
    image = data / ("test" if command in {"eval", "inference"} else "train") / "x" / "s0.tif"
    damage_mask(image, broken_tag)
    if command.startswith("train"):
        config = write_config(data_module={"data_dir": str(data), "num_workers": 0})
        code = train([str(config), *command.split()[1:]])
    else:
        model = str(write_onnx(tmp_path / "m.onnx", card(ignore_index=2)))
        if command == "eval":
            code = evaluate([model, "--data", str(data), "--out", str(tmp_path / "out"), "--no-threshold"])
        else:
            code = infer([str(image), str(tmp_path / "map.tif"), "--model", model])
    err = capfd.readouterr().err
    assert code == 2, err
    assert "Traceback" not in err
    assert sum(f"{image}: can't be read" in line for line in err.splitlines()) == 1, err
