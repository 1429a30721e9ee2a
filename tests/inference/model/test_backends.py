"""Back ends: ONNX Runtime, TorchScript and OpenVINO return the same values."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from inference.common.errors import UserError
from inference.model.backends import Request, choose_backend, open_backend
from inference.model.card_files import read_card
from inference.model.probabilities import class_probabilities, classify, probabilities
from inference.model.signature import inspection_session, read_signature
from tests.inference.networks import card, weights, write_onnx, write_torchscript

BACKENDS = [
    "onnxruntime",
    "torchscript",
    pytest.param(
        "openvino", marks=pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO isn't installed")
    ),
]


def opened(folder: Path, name: str, *, size: int | None = None, batch: int | None = None, **changes: Any) -> Any:
    if name == "torchscript":
        path = write_torchscript(folder / "m.pt", card(), kernel=3)
    else:
        path = write_onnx(folder / "m.onnx", card(), kernel=3, size=size, batch=batch)
    values: dict[str, Any] = {
        "path": path,
        "bands": 3,
        "tile": 32,
        "batch": batch or 4,
        "any_size": True,
        "own_tile": 32,
    }
    return open_backend(name, Request(**(values | changes)))


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("count", [1, 3, 4])
def test_all_back_ends_agree(tmp_path: Path, name: str, count: int) -> None:
    x = np.random.default_rng(0).normal(size=(count, 3, 32, 32)).astype(np.float32)
    w, b = weights(3, 1, 3)
    expected = torch.nn.functional.conv2d(torch.from_numpy(x), torch.from_numpy(w), torch.from_numpy(b), padding=1)
    backend = opened(tmp_path, name)
    found = backend(x)
    again = backend(x * 0)  # what was given before mustn't change
    assert found.shape == again.shape == (count, 1, 32, 32)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.numpy(), atol=2e-5)
    assert name in backend.title
    assert "fp32" in backend.title


@pytest.mark.parametrize("name", [b for b in BACKENDS if b != "torchscript"])
def test_a_batch_of_fixed_size_is_filled_up(tmp_path: Path, name: str) -> None:
    backend = opened(tmp_path, name, size=32, batch=4)
    x = np.random.default_rng(0).normal(size=(3, 3, 32, 32)).astype(np.float32)
    found = backend(x)
    assert len(found) == 3
    np.testing.assert_allclose(found[2:], backend(x[2:]), atol=1e-6)


@pytest.mark.skipif(not torch.cpu._is_avx512_bf16_supported(), reason="this CPU has no bfloat16")
@pytest.mark.parametrize("name", [b for b in BACKENDS if b != "onnxruntime"])
def test_bf16_is_used_on_request(tmp_path: Path, name: str) -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 64, 64)).astype(np.float32)
    full = opened(tmp_path, name, tile=64, batch=2)(x)
    half = opened(tmp_path, name, tile=64, batch=2, precision="bf16")
    assert "bf16" in half.title
    difference = np.abs(half(x) - full).max()
    assert 1e-4 < difference < 0.2


def test_a_half_precision_graph_is_fed_half_precision(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    io = [helper.make_tensor_value_info(n, TensorProto.FLOAT16, ["n", 1, "h", "w"]) for n in ("input", "output")]
    graph = helper.make_graph([helper.make_node("Sigmoid", ["input"], ["output"])], "g", io[:1], io[1:])
    model = helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 18)])
    onnx.save(model, tmp_path / "h.onnx")
    backend = open_backend("onnxruntime", Request(path=tmp_path / "h.onnx", bands=1, tile=8))
    out = backend(np.zeros((1, 1, 8, 8), np.float32))
    assert (out == 0.5).all()
    assert "fp16" in backend.title


def test_outputs_in_containers(tmp_path: Path) -> None:
    class Network(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"out": x[:, :1] * 2}

    torch.jit.save(torch.jit.trace(Network().eval(), torch.zeros(1, 3, 8, 8), strict=False), tmp_path / "d.pt")
    backend = open_backend("torchscript", Request(path=tmp_path / "d.pt", bands=3, tile=8, any_size=True))
    np.testing.assert_array_equal(backend(np.ones((2, 3, 8, 8), np.float32)), 2)


def test_torchscript_takes_other_sizes_only_if_its_card_allows(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--tile-size 48"):
        opened(tmp_path, "torchscript", tile=48, any_size=False)
    opened(tmp_path, "torchscript", tile=48)
    opened(tmp_path, "torchscript", tile=32, any_size=False)


@pytest.mark.parametrize("name", BACKENDS)
def test_files_that_are_not_models(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"can't be (loaded|read)"):
        open_backend(name, Request(path=path, bands=3, tile=32, any_size=True))


def test_a_model_that_fails_on_tiles(tmp_path: Path) -> None:
    class Network(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.reshape(1, 1, 8, 8)

    torch.jit.save(torch.jit.trace(Network(), torch.zeros(1, 1, 8, 8)), tmp_path / "d.pt")
    backend = open_backend("torchscript", Request(path=tmp_path / "d.pt", bands=1, tile=9, any_size=True))
    with pytest.raises(UserError, match=r"failed on tiles of shape \(1, 1, 9, 9\).*shape"):
        backend(np.zeros((1, 1, 9, 9), np.float32))


def test_choice_of_the_back_end(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_backend(Path("m.onnx"), "auto", "fp32") == "onnxruntime"
    assert choose_backend(Path("m.pt"), "auto", "bf16") == "torchscript"
    with pytest.raises(UserError, match="can't be run as a model"):
        choose_backend(Path("m.ckpt"), "auto", "fp32")
    with pytest.raises(UserError, match=r"allowed for \.pt: torchscript"):
        choose_backend(Path("m.pt"), "openvino", "fp32")
    monkeypatch.setattr("inference.model.backends.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install openvino"):
        choose_backend(Path("m.onnx"), "auto", "bf16")


def test_missing_devices_are_refused(tmp_path: Path) -> None:
    for name in ("onnxruntime", "torchscript"):
        for device in ("cuda", "mps"):
            if device == "cuda" and torch.cuda.is_available():
                continue
            with pytest.raises(UserError, match=f"--device {device}"):
                opened(tmp_path, name, device=device)
    with pytest.raises(UserError, match="--precision fp16"):
        opened(tmp_path, "torchscript", device="cpu", precision="fp16")


def test_card_and_signature_are_read_in_one_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[Path] = []

    def recorded(path: Path) -> Any:
        loaded.append(path)
        return inspection_session(path)

    monkeypatch.setattr("inference.model.signature.inspection_session", recorded)
    path = write_onnx(tmp_path / "m.onnx", card(), size=32)
    assert read_card(path) == card()
    assert read_signature(path).tile == 32
    assert loaded == [path]
    assert read_signature(write_onnx(path, card(classes=3), size=32)).channels == 3  # another file of this name


def test_signature_of_a_model(tmp_path: Path) -> None:
    fixed = read_signature(write_onnx(tmp_path / "a.onnx", card(classes=3), size=32, batch=2))
    assert (fixed.batch, fixed.bands, fixed.tile, fixed.channels) == (2, 3, 32, 3)
    free = read_signature(write_onnx(tmp_path / "b.onnx", card()))
    assert (free.batch, free.bands, free.tile, free.channels) == (None, 3, None, 1)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_probabilities_are_softmax_and_classes_the_largest(classes: int) -> None:
    made = card(classes=classes, activation="softmax")
    logits = np.random.default_rng(0).normal(0, 30, (2, classes, 8, 8)).astype(np.float32)
    expected = torch.softmax(torch.from_numpy(logits.astype(np.float64)), 1).numpy()
    found = probabilities(logits.copy(), made, 8)
    for tile, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(class_probabilities(tile), wanted, atol=1e-6)
        out = np.empty((8, 8), np.uint8)
        classify(tile, 0.5, out)
        np.testing.assert_array_equal(out, wanted.argmax(axis=0))


def test_of_equals_the_first_class_wins() -> None:
    out = np.empty((1, 3), np.uint8)
    classify(np.array([[[0.4, 0.2, 0.3]], [[0.4, 0.4, 0.3]], [[0.2, 0.4, 0.4]]], np.float32), 0.5, out)
    assert out.tolist() == [[0, 1, 2]]


def test_extreme_logits_raise_no_warning() -> None:
    logits = np.array([-1e4, -90, 0, 90, 1e4], np.float32).reshape(1, 1, 1, 5).repeat(5, axis=2)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        found = probabilities(logits, card(), 5)
    np.testing.assert_allclose(found[0, 0, 0], [0, 0, 0.5, 1, 1], atol=1e-6)


def test_class_indices_become_one_hot() -> None:
    numbers = np.array([[[0, 2], [1, 1]]])
    found = probabilities(numbers, card(classes=3), 2)
    np.testing.assert_array_equal(found[0].argmax(axis=0), numbers[0])
    np.testing.assert_array_equal(found.sum(axis=1), 1)
    with pytest.raises(UserError, match="output has class 2"):
        probabilities(numbers, card(), 2)
    with pytest.raises(UserError, match="output has class -1"):
        probabilities(numbers - 1, card(classes=3), 2)


def test_torchscript_leaves_the_settings_of_the_process_alone(tmp_path: Path) -> None:
    """Otherwise training in the same process would sum in another order."""
    import torch

    before = torch.get_num_threads(), torch.backends.cudnn.allow_tf32
    backend = opened(tmp_path, "torchscript", threads=before[0] + 1)
    backend(np.zeros((1, 3, 32, 32), np.float32))
    assert (torch.get_num_threads(), torch.backends.cudnn.allow_tf32) == before


def test_an_attribute_that_the_code_of_a_torchscript_file_lacks(tmp_path: Path) -> None:
    """PyTorch raises an IndexError of its C++ library for it, no RuntimeError."""
    path = write_torchscript(tmp_path / "m.pt", card())
    attribute = b"X\x08\x00\x00\x00training"  # in a pickle: a text of eight characters
    content = path.read_bytes()
    assert attribute in content
    path.write_bytes(content.replace(attribute, attribute.replace(b"training", b"tratning")))
    with pytest.raises(UserError, match="can't be loaded as TorchScript"):
        open_backend("torchscript", Request(path=path, bands=3, tile=32, any_size=True))
