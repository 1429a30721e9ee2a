"""Model cards: validation, and reading from every kind of file."""

import json
import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from inference.card import METADATA_KEY, CardError, ModelCard, main
from inference.model.card_files import embedded_card, read_card
from tests.inference.networks import card

CARD = {
    "version": 1,
    "name": "n",
    "task": "t",
    "bands": [1, 2],
    "dtype": "uint16",
    "tile_size": 64,
    "mean": [0.1, 0.2],
    "std": [0.3, 0.4],
    "max_pixel_value": "auto",
    "class_names": ["sea", "kelp"],
    "activation": "sigmoid",
}


def onnx_file(path: Path, metadata: dict[str, str]) -> Path:
    shape = ["n", 2, 4, 4]
    io = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("input", "output")]
    graph = helper.make_graph([helper.make_node("Sigmoid", ["input"], ["output"])], "g", io[:1], io[1:])
    model = helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 18)])
    helper.set_model_props(model, metadata)
    onnx.save(model, path)
    return path


def torchscript_file(path: Path, extra: dict[str, str]) -> Path:
    torch.jit.save(torch.jit.trace(torch.nn.Sigmoid(), torch.zeros(1)), path, _extra_files=extra)
    return path


def test_a_card_is_read_from_every_kind_of_file(tmp_path: Path) -> None:
    card = ModelCard.model_validate(CARD)
    text = card.dumps()
    (tmp_path / "card.json").write_text(text)
    torch.save({"state_dict": {}, "hyper_parameters": {"card": json.loads(text)}}, tmp_path / "m.ckpt")
    onnx_file(tmp_path / "m.onnx", {METADATA_KEY: text})
    torchscript_file(tmp_path / "m.pt", {"model_card.json": text})
    for name in ("card.json", "m.ckpt", "m.onnx", "m.pt", "."):
        assert read_card(tmp_path / name) == card


def test_a_float_models_card_has_no_fields_of_int8() -> None:
    assert not {"precision", "int8_loss"} & set(json.loads(card().dumps()))
    quantised = card(precision="int8", int8_loss=0.004)
    assert ModelCard.loads(quantised.dumps(), "c.json") == quantised


def test_files_without_one(tmp_path: Path) -> None:
    for path in (onnx_file(tmp_path / "m.onnx", {}), torchscript_file(tmp_path / "m.pt", {})):
        assert embedded_card(path) is None
        with pytest.raises(CardError, match="carries no model card"):
            read_card(path)
    torch.save({"state_dict": {}}, tmp_path / "m.ckpt")
    with pytest.raises(CardError, match="carries no model card"):
        read_card(tmp_path / "m.ckpt")


@pytest.mark.parametrize("name", ["m.onnx", "m.pt", "m.ckpt", "m.json"])
@pytest.mark.parametrize("content", [b"", b"<html>", b"\x00\xff" * 40, b"[1]"])
def test_damaged_files_are_one_line(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CardError) as error:
        read_card(tmp_path / name)
    assert str(error.value).startswith(f"{tmp_path / name}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": 2}, "is a model card of version 2 (allowed: up to 1; update hakai-ml-train)"),
        ({"mean": [0.1]}, "bands, mean and std must be equally long: 2, 1, 2"),
        ({"std": [0.0, 1.0]}, "std.0: "),
        ({"class_names": ["a", "b", "c"]}, "a sigmoid model has two classes, found 3 names"),
        ({"background_index": 2}, "background_index is 2, but there are 2 classes"),
        ({"max_pixel_value": 0}, "max_pixel_value"),
        ({"revision": "v1"}, "revision: "),
        ({"surprise": 1}, "surprise: "),
        ({"threshold": 1.0}, "threshold: "),
    ],
)
def test_invalid_cards_are_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(CardError, match=r"^c\.json: ") as error:
        ModelCard.loads(json.dumps(CARD | change), "c.json")
    assert said in str(error.value)


def test_divisor_of_pixels() -> None:
    card = ModelCard.model_validate(CARD)
    assert [card.divisor(t) for t in ("uint8", "int16", "uint16", "int32")] == [255, 32767, 65535, 2**31 - 1]
    with pytest.raises(CardError, match="needs an integer type"):
        card.divisor("float32")
    assert ModelCard.model_validate(CARD | {"max_pixel_value": 1.5}).divisor("float32") == 1.5


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "card.json").write_text(json.dumps(CARD))
    assert main([str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out)["bands"] == [1, 2]
    for wrong in ("none.onnx", "card.txt"):
        assert main([str(tmp_path / wrong)]) == 2
        assert capsys.readouterr().err.startswith(f"{tmp_path / wrong}: no such file")
    (tmp_path / "card.txt").touch()
    assert main([str(tmp_path / "card.txt")]) == 2
    assert "allowed: .onnx, .pt, .ckpt, .json, or a run folder" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["-m", "inference.card"], ["card.py"]], ids=["module", "file"])
def test_it_runs_within_its_folder(command: list[str], tmp_path: Path) -> None:
    """There inference.py lies first on the path, where it would hide the package of the same name."""
    path = tmp_path / "card.json"
    path.write_text(card().dumps())
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    folder = Path(__file__).parents[2] / "inference"
    arguments = [sys.executable, *command, str(path)]
    done = subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert ModelCard.loads(done.stdout, "stdout") == card()
