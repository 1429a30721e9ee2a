"""Outputs that aren't what the card declares: no map is written."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from inference.card import METADATA_KEY, ModelCard
from inference.common.errors import UserError
from inference.model.output_check import OutputCheck
from tests.conftest import write_raster
from tests.inference.commands import leftovers, refused, run
from tests.inference.networks import card, weights, write_onnx

from .test_choose import habitat


def three_classes(path: Path, model_card: ModelCard, end: str) -> Path:
    """Write a convolution with three channels that end in an activation."""
    w, b = weights(3, 3)
    nodes = [
        helper.make_node("Conv", ["input", "w", "b"], ["logits"]),
        helper.make_node(end, ["logits"], ["end"], **({"axis": 1} if end == "Softmax" else {})),
    ]
    io = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 3, "h", "w"]) for n in ("input", "end")]
    constants = [numpy_helper.from_array(w, "w"), numpy_helper.from_array(b, "b")]
    graph = helper.make_graph(nodes, "g", io[:1], io[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, {METADATA_KEY: model_card.dumps()})
    onnx.save(model, path)
    return path


def says(capsys: pytest.CaptureFixture[str], mosaic: Path, model: Path, *options: Any, target: str = "out.tif") -> str:
    out = mosaic.with_name(target)
    message = refused(capsys, mosaic, out, "--model", model, *options)
    assert not out.exists()
    assert leftovers(mosaic.parent) == []
    assert "\n" not in message
    return message


def test_logits_declared_as_probabilities(tmp_path: Path, mosaic: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = write_onnx(tmp_path / "m.onnx", card(output="probabilities"), end="logits")
    message = says(capsys, mosaic, model)
    assert message.startswith(f"{model}: its outputs reach from -")
    assert "its card says probabilities (allowed: 0 to 1; for logits set output: logits in the card" in message


def test_probabilities_declared_as_logits(tmp_path: Path, mosaic: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = write_onnx(tmp_path / "m.onnx", card(output="logits"), end="probabilities")
    message = says(capsys, mosaic, model)
    assert message.startswith(f"{model}: all outputs lie between 0.")
    assert "sigmoid would be applied once more (set output: probabilities in the card" in message


def test_a_card_that_contradicts_the_card_inside(
    tmp_path: Path, mosaic: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_onnx(tmp_path / "m.onnx", card(output="probabilities"), end="probabilities")
    (tmp_path / "c.json").write_text(card(output="logits").dumps())
    assert says(capsys, mosaic, model, "--card", tmp_path / "c.json") == (
        f"{tmp_path / 'c.json'}: output: declares that m.onnx returns logits, but the card inside the model says "
        "probabilities (allowed: output: probabilities)"
    )
    (tmp_path / "h.json").write_text(
        '{"name": "k", "revision": "20250101", "model_filename": "m.onnx", "activation": "sigmoid"}'
    )
    assert "activation: declares" in (message := says(capsys, mosaic, model, "--card", tmp_path / "h.json"))
    assert message.endswith("(allowed: activation: null)")


def test_a_habitat_mapper_configuration_that_promises_probabilities(
    tmp_path: Path, mosaic: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_onnx(tmp_path / "m.onnx", None, size=32)
    config = habitat(tmp_path, activation=None)
    message = says(capsys, mosaic, model, "--card", config)
    assert f"but {config} says probabilities" in message
    assert "in a habitat-mapper configuration activation: sigmoid" in message


def test_classes_that_do_not_add_up_to_one(tmp_path: Path, mosaic: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sound = three_classes(tmp_path / "s.onnx", card(classes=3, output="probabilities"), "Softmax")
    assert run(mosaic, tmp_path / "sound.tif", "--model", sound) == 0
    capsys.readouterr()
    model = three_classes(tmp_path / "m.onnx", card(classes=3, output="probabilities"), "Sigmoid")
    assert "for the 3 classes of a pixel add up to 1 only within" in says(capsys, mosaic, model)
    twice = three_classes(tmp_path / "t.onnx", card(classes=3, output="logits"), "Softmax")
    assert "and those of the classes add up to 1: they are probabilities already" in says(capsys, mosaic, twice)


def test_rounding_and_small_logits_are_accepted() -> None:
    check = OutputCheck(card(output="probabilities"), "m")
    check.add(np.array([[[[-0.0005, 1.0005]]]], np.float16))
    unsure = OutputCheck(
        card(software={"torch": "2"}), "m"
    )  # logits of a network that is sure of nothing, exported by us
    unsure.add(np.full((100, 1, 2, 2), 0.3, np.float32))
    unsure.add(np.full((100, 1, 2, 2), 0.7, np.float32))
    constant = OutputCheck(card(), "m")
    constant.add(np.zeros((100, 1, 2, 2), np.float32))
    for each in (check, unsure, constant):
        each.finish()


def test_probabilities_of_an_unsure_network_declared_as_logits() -> None:
    check = OutputCheck(card(), "m")
    check.add(np.array([[[[0.3, 0.6]]]], np.float32))
    with pytest.raises(UserError, match=r"all outputs lie between 0\.3 and 0\.6"):
        check.finish()


def test_a_map_that_cannot_be_right_stops_early() -> None:
    check = OutputCheck(card(), "m")
    tile = np.linspace(0, 1, 16, dtype=np.float32).reshape(1, 1, 4, 4)
    check.add(tile)
    with pytest.raises(UserError, match="probabilities already"):
        check.add(tile.repeat(100, axis=0))


def test_a_sound_mosaic_of_one_value(tmp_path: Path) -> None:
    source = write_raster(tmp_path / "flat.tif", np.full((3, 40, 40), 128, np.uint8))
    assert run(source, tmp_path / "o.tif", "--model", write_onnx(tmp_path / "m.onnx", card())) == 0
