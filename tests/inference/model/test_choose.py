"""Choice of the model, and of its card or habitat-mapper configuration."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from inference.common.errors import UserError
from inference.inference import main
from inference.model import choose as models
from inference.model.choose import card_for, choose_model
from tests.conftest import write_raster
from tests.inference.networks import card, untiled, write_onnx


def touch(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def test_the_one_model_as_onnx_before_torchscript(tmp_path: Path) -> None:
    names = ["k_kelp_rgb_dice=0.9123.onnx", "k_kelp_rgb_jit_dice=0.9123.pt", "k_kelp_rgb_dice=0.9123.json", ".gitkeep"]
    folder = touch(tmp_path, *names)
    assert choose_model(folder).name == names[0]
    assert choose_model(folder, "openvino").name == names[0]
    assert choose_model(folder, "torchscript").name == names[1]
    (folder / names[0]).unlink()
    assert choose_model(folder).name == names[1]


def test_several_different_models_are_listed(tmp_path: Path) -> None:
    folder = touch(tmp_path, "kelp_dice=0.9.onnx", "mussel_dice=0.9.onnx")
    with pytest.raises(UserError, match=r"different.*kelp_dice=0.9.onnx, mussel_dice=0.9.onnx"):
        choose_model(folder)


def test_two_scores_are_two_models(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="different"):
        choose_model(touch(tmp_path, "kelp_dice=0.9.onnx", "kelp_jit_dice=0.8.pt"))


def test_no_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="convert_checkpoint"):
        choose_model(tmp_path)


def test_the_command_takes_the_model_in_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from inference import plan

    monkeypatch.setattr(plan, "choose_model", lambda backend: choose_model(tmp_path / "weights", backend))
    write_onnx(tmp_path / "weights" / "tiny_kelp_dice=0.9.onnx", card())
    source = write_raster(tmp_path / "in.tif", np.ones((3, 20, 20), np.uint8))
    assert main([str(source), str(tmp_path / "o.tif")]) == 0
    with rasterio.open(tmp_path / "o.tif") as file:
        assert file.tags()["MODEL_FILE"] == "tiny_kelp_dice=0.9.onnx"
    assert Path(models.__file__).parents[1] / "weights" == models.WEIGHTS


def habitat(folder: Path, **changes: Any) -> Path:
    values: dict[str, Any] = {
        "name": "kelp-rgb",
        "revision": "20250101",
        "dependencies": ["m.onnx"],
        "model_filename": "m.onnx",
        "activation": "sigmoid",
        "max_pixel_value": 255,
    }
    path = folder / "habitat.json"
    path.write_text(json.dumps({k: v for k, v in (values | changes).items() if v != "absent"}))
    return path


def test_a_habitat_mapper_configuration_is_applied(tmp_path: Path) -> None:
    model = write_onnx(tmp_path / "m.onnx", None, size=48)
    found = card_for(model, habitat(tmp_path), "uint8")
    assert (found.tile_size, found.any_size, found.channels, found.revision) == (48, False, 1, "20250101")
    assert found.mean == [0.485, 0.456, 0.406]
    assert (found.output, found.max_pixel_value, found.dtype) == ("logits", 255, "uint8")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 90, 70)).astype(np.uint8)
    source = write_raster(tmp_path / "in.tif", pixels)
    options = ["--model", model, "--card", tmp_path / "habitat.json"]
    assert main([str(a) for a in (source, tmp_path / "o.tif", *options)]) == 0
    with rasterio.open(tmp_path / "o.tif") as file:
        np.testing.assert_array_equal(file.read(1), untiled(pixels, found)[1] > 0.5)
        assert file.tags()["MODEL"] == "kelp-rgb"


def test_habitat_mappers_defaults(tmp_path: Path) -> None:
    model = write_onnx(tmp_path / "m.onnx", None, channels=3)
    found = card_for(
        model, habitat(tmp_path, activation="absent", max_pixel_value="absent", normalization=None), "uint16"
    )
    assert (found.tile_size, found.any_size) == (1024, True)
    assert (found.output, found.activation, len(found.class_names)) == ("probabilities", "softmax", 3)
    assert (found.mean, found.std) == ([0, 0, 0], [1, 1, 1])
    assert found.divisor("uint16") == 65535


@pytest.mark.parametrize(
    ("changes", "channels", "says"),
    [
        ({"normalization": "image"}, 1, "neighbouring tiles differ"),
        ({"normalization": "image_per_channel"}, 1, "neighbouring tiles differ"),
        ({"model_cls": "habitat_mapper.model.Other"}, 1, "LegacyKelpRGBModel"),
        ({"model_cls": "habitat_mapper.model.LegacyKelpRGBModel", "activation": None}, 4, "takes 3 channels"),
        ({"model_cls": "habitat_mapper.model.LegacyKelpRGBModel"}, 3, "applies its own"),
        ({"mean": [0.1]}, 1, "1 and 3 values for 3 input_channels"),
        ({}, 2, "sigmoid of 2 channels"),
        ({"activation": "softmax"}, 1, "softmax of one channel"),
        ({"revision": "new"}, 1, "revision"),
        ({"max_pixel_value": 0}, 1, "max_pixel_value"),
    ],
)
def test_habitat_mapper_configurations_that_are_refused(
    tmp_path: Path, changes: dict[str, Any], channels: int, says: str
) -> None:
    model = write_onnx(tmp_path / "m.onnx", None, channels=channels)
    with pytest.raises(UserError, match=says):
        card_for(model, habitat(tmp_path, **changes), "uint8")


def test_a_given_card_replaces_the_embedded_one(tmp_path: Path) -> None:
    model = write_onnx(tmp_path / "m.onnx", card())
    (tmp_path / "c.json").write_text(card(threshold=0.3).dumps())
    assert card_for(model, None, "uint8").threshold == 0.5
    assert card_for(model, tmp_path / "c.json", "uint8").threshold == 0.3
    (tmp_path / "c.json").write_text("[1]")
    with pytest.raises(UserError, match="isn't a model card"):
        card_for(model, tmp_path / "c.json", "uint8")
