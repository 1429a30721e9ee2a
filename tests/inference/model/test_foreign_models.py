"""ONNX models that other tools wrote: types and layouts of the input, several inputs and outputs."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import rasterio
from onnx import TensorProto, helper, numpy_helper

from inference.card import METADATA_KEY, ModelCard
from tests.conftest import write_raster
from tests.inference.commands import refused, run
from tests.inference.networks import card, weights, write_onnx

F, V, N = TensorProto.FLOAT, helper.make_tensor_value_info, helper.make_node
IMAGE, LOGITS = V("input", F, ["n", 3, "h", "w"]), V("logits", F, ["n", 1, "h", "w"])
RAW = {"mean": [0.0] * 3, "std": [1.0] * 3, "max_pixel_value": 1.0}


def write(path: Path, model_card: ModelCard, *nodes: Any, inputs: Any = (IMAGE,), outputs: Any = (LOGITS,)) -> Path:
    """Write an ONNX file in which the constants w and b are those of the tests' convolution."""
    w, b = weights(3, 1)
    constants = [numpy_helper.from_array(w, "w"), numpy_helper.from_array(b, "b")]
    constants.append(numpy_helper.from_array(np.array([2, 3]), "axes"))
    graph = helper.make_graph(nodes, "g", list(inputs), list(outputs), constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, {METADATA_KEY: model_card.dumps()})
    onnx.save(model, path)
    return path


def conv(image: str = "input") -> Any:
    return N("Conv", [image, "w", "b"], ["logits"])


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(("dtype", "kind"), [("uint8", TensorProto.UINT8), ("uint16", TensorProto.UINT16)])
def test_an_integer_input_gets_raw_pixels(dtype: str, kind: int, backend: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 50, 60)).astype(dtype)
    source = write_raster(tmp_path / "in.tif", pixels)
    floats = write_onnx(tmp_path / "f.onnx", card(dtype=dtype, **RAW))
    integers = [V("input", kind, ["n", 3, "h", "w"])]
    model = write(
        tmp_path / "m.onnx", card(dtype=dtype, **RAW), N("Cast", ["input"], ["x"], to=F), conv("x"), inputs=integers
    )
    for name, each in (("f.tif", floats), ("m.tif", model)):
        assert run(source, tmp_path / name, "--model", each, "--backend", backend) == 0
    with rasterio.open(tmp_path / "f.tif") as one, rasterio.open(tmp_path / "m.tif") as other:
        assert 0 < one.read(1).mean() < 1
        np.testing.assert_array_equal(one.read(1), other.read(1))


def test_an_integer_input_with_a_card_that_normalises(
    tmp_path: Path, mosaic: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    integers = [V("input", TensorProto.UINT8, ["n", 3, "h", "w"])]
    model = write(tmp_path / "m.onnx", card(), N("Cast", ["input"], ["x"], to=F), conv("x"), inputs=integers)
    message = refused(capsys, mosaic, tmp_path / "o.tif", "--model", model)
    assert message.startswith(f"{model}: takes raw pixels of type uint8 and normalises them itself")
    assert "dtype: uint8, mean: all 0, std: all 1, max_pixel_value: 1" in message


def test_the_card_chooses_one_of_several_outputs(
    tmp_path: Path, mosaic: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mean = N("ReduceMean", ["logits", "axes"], ["score"], keepdims=0)
    outputs = [V("score", F, ["n", 1]), LOGITS]
    unnamed = write(tmp_path / "u.onnx", card(), conv(), mean, outputs=outputs)
    assert refused(capsys, mosaic, tmp_path / "o.tif", "--model", unnamed) == (
        f"{unnamed}: its output \"score\" has shape ['n', 1], so it is no map (allowed: a tensor of batch, classes, "
        'rows, columns; name another in the card as output_name: "score", "logits")'
    )
    wrong = write(tmp_path / "w.onnx", card(output_name="map"), conv(), mean, outputs=outputs)
    assert '(allowed: "score", "logits")' in refused(capsys, mosaic, tmp_path / "o.tif", "--model", wrong)
    named = write(tmp_path / "n.onnx", card(output_name="logits"), conv(), mean, outputs=outputs)
    for backend in ("onnxruntime", "openvino"):
        assert run(mosaic, tmp_path / f"{backend}.tif", "--model", named, "--backend", backend) == 0
    assert run(mosaic, tmp_path / "one.tif", "--model", model) == 0
    maps = []
    for name in ("one", "onnxruntime", "openvino"):
        with rasterio.open(tmp_path / f"{name}.tif") as file:
            maps.append(file.read(1))
    np.testing.assert_array_equal(maps[0], maps[1])
    np.testing.assert_array_equal(maps[0], maps[2])


NHWC = V("input", F, ["n", "h", "w", 3])
SQUARE = V("input", F, [1, 64, 64, 3])
TRANSPOSE = N("Transpose", ["input"], ["x"], perm=[0, 3, 1, 2])


@pytest.mark.parametrize(
    ("nodes", "inputs", "outputs", "says"),
    [
        ([TRANSPOSE, conv("x")], [NHWC], [LOGITS], "batch, rows, columns, bands, NHWC (allowed: batch, bands, rows,"),
        ([TRANSPOSE, conv("x")], [SQUARE], [LOGITS], "takes an input of shape [1, 64, 64, 3]: batch, rows, columns"),
        (
            [conv(), N("Add", ["logits", "size"], ["sum"])],
            [IMAGE, V("size", F, [1])],
            [V("sum", F, ["n", 1, "h", "w"])],
            'takes 2 inputs ("input", "size") (allowed: one, a batch of images',
        ),
        (
            [conv(), N("ReduceMean", ["logits"], ["s"], keepdims=0)],
            [IMAGE],
            [V("s", F, [])],
            'its output "s" has shape () for 1 tiles, so it is no map',
        ),
        (
            [conv(), N("SequenceConstruct", ["logits"], ["s"])],
            [IMAGE],
            [helper.make_tensor_sequence_value_info("s", F, None)],
            'its output "s" is a sequence of tensors, so it is no map',
        ),
        (
            [N("Identity", ["input"], ["s"])],
            [V("input", TensorProto.STRING, ["n", 3, "h", "w"])],
            [V("s", TensorProto.STRING, ["n", 3, "h", "w"])],
            "takes an input of type string (allowed: float, float16, double, uint8, uint16, int16)",
        ),
    ],
)
def test_models_that_cannot_map(
    nodes: Any,
    inputs: Any,
    outputs: Any,
    says: str,
    tmp_path: Path,
    mosaic: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = write(tmp_path / "m.onnx", card(), *nodes, inputs=inputs, outputs=outputs)
    message = refused(capsys, mosaic, tmp_path / "o.tif", "--model", model)
    assert message.startswith(f"{model}: ")
    assert says in message
    assert "--batch-size" not in message
    assert not (tmp_path / "o.tif").exists()


def test_a_tile_size_that_the_card_rules_out(tmp_path: Path, mosaic: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = write_onnx(tmp_path / "m.onnx", card(any_size=False), size=32)
    message = refused(capsys, mosaic, tmp_path / "o.tif", "--model", model, "--tile-size", "64")
    assert "takes tiles of 32 pixels only, not of 64" in message
    assert "any_size: true" in message


def test_names_that_are_not_utf8(tmp_path: Path, mosaic: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = write_onnx(tmp_path / "m.onnx", card())
    model.write_bytes(model.read_bytes().replace(b"input", b"inp\xb1t"))
    message = refused(capsys, mosaic, tmp_path / "o.tif", "--model", model)
    assert message.startswith(f"{model}: a name in it can't be read: ")


def test_the_card_chooses_an_output_of_a_torchscript_dictionary(
    tmp_path: Path, mosaic: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    class Network(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"aux": x[:, :1] * 0 - 1, "out": x[:, :1] * 0 + 1}

    traced = torch.jit.trace(Network(), torch.zeros(1, 3, 32, 32), strict=False)  # type: ignore[no-untyped-call]
    for name in ("aux", "out", "map"):
        extra = {"model_card.json": card(output_name=name).dumps()}
        torch.jit.save(traced, tmp_path / f"{name}.pt", _extra_files=extra)
    for name, value in (("aux", 0), ("out", 1)):
        assert run(mosaic, tmp_path / f"{name}.tif", "--model", tmp_path / f"{name}.pt") == 0
        with rasterio.open(tmp_path / f"{name}.tif") as file:
            assert (file.read(1) == value).all()
    assert 'has no output "map", which its card names as output_name (allowed: "aux", "out")' in refused(
        capsys, mosaic, tmp_path / "o.tif", "--model", tmp_path / "map.pt"
    )
