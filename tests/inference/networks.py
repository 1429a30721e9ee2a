"""Tiny networks with cards, as ONNX and TorchScript, and their outputs computed by NumPy."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from inference.card import METADATA_KEY, ModelCard


def card(bands: int = 3, classes: int = 2, **changes: Any) -> ModelCard:
    """Return a card; with two classes the model has one channel unless `activation` is softmax."""
    values: dict[str, Any] = {
        "name": "tiny",
        "task": "kelp",
        "revision": "20260101",
        "licence": "MIT",
        "bands": list(range(1, bands + 1)),
        "dtype": "uint8",
        "tile_size": 32,
        "mean": [0.45 - 0.02 * i for i in range(bands)],
        "std": [0.22 + 0.01 * i for i in range(bands)],
        "max_pixel_value": 255.0,
        "class_names": ["background", *(f"kelp{i}" for i in range(1, classes))],
        "activation": "sigmoid" if classes == 2 else "softmax",
        "any_size": True,
    }
    return ModelCard.model_validate(values | changes)


def weights(bands: int, channels: int, kernel: int = 1, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return random weights, (channels, bands, kernel, kernel), and biases, (channels,), float32."""
    rng = np.random.default_rng(seed)
    w = rng.normal(0, 1.5 / kernel, (channels, bands, kernel, kernel)).astype(np.float32)
    return w, rng.normal(0, 0.3, channels).astype(np.float32)


def write_onnx(
    path: Path,
    model_card: ModelCard | None,
    *,
    kernel: int = 1,
    size: int | None = None,
    batch: int | None = None,
    end: str = "logits",
    seed: int = 0,
    bands: int = 3,
    channels: int = 1,
) -> Path:
    """Write one convolution as ONNX; `end` is logits, probabilities (for sigmoid) or argmax."""
    if model_card is not None:
        bands, channels = len(model_card.bands), model_card.channels
    w, b = weights(bands, channels, kernel, seed)
    nodes = [helper.make_node("Conv", ["input", "w", "b"], ["logits"], pads=[kernel // 2] * 4)]
    kind, shape = TensorProto.FLOAT, [batch or "batch", channels, size or "height", size or "width"]
    if end == "probabilities":
        nodes.append(helper.make_node("Sigmoid", ["logits"], ["probabilities"]))
    if end == "argmax":
        nodes.append(helper.make_node("ArgMax", ["logits"], ["argmax"], axis=1, keepdims=0))
        kind, shape = TensorProto.INT64, [shape[0], *shape[2:]]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            helper.make_tensor_value_info(
                "input", TensorProto.FLOAT, [batch or "batch", bands, size or "height", size or "width"]
            )
        ],
        [helper.make_tensor_value_info(end, kind, shape)],
        [numpy_helper.from_array(w, "w"), numpy_helper.from_array(b, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    if model_card is not None:
        entry = model.metadata_props.add()
        entry.key, entry.value = METADATA_KEY, model_card.dumps()
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def write_torchscript(path: Path, model_card: ModelCard | None, *, kernel: int = 1, seed: int = 0) -> Path:
    """Write the convolution of `write_onnx` as TorchScript."""
    import torch

    from inference.card import EXTRA_FILE

    assert model_card is not None
    bands, channels = len(model_card.bands), model_card.channels
    w, b = weights(bands, channels, kernel, seed)
    network = torch.nn.Conv2d(bands, channels, kernel, padding=kernel // 2)
    with torch.no_grad():
        network.weight.copy_(torch.from_numpy(w))
        assert network.bias is not None
        network.bias.copy_(torch.from_numpy(b))
    traced = torch.jit.trace(network.eval(), torch.zeros(1, bands, 32, 32))  # type: ignore[no-untyped-call]
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.jit.save(traced, path, _extra_files={EXTRA_FILE: model_card.dumps()})
    return path


def untiled(pixels: np.ndarray, model_card: ModelCard, *, divisor: float | None = None, seed: int = 0) -> np.ndarray:
    """Compute the pointwise network on a whole image, (bands, H, W); return (classes, H, W) float64 probabilities."""
    w, b = weights(len(model_card.bands), model_card.channels, 1, seed)
    scale = divisor if divisor is not None else float(model_card.max_pixel_value)
    mean, std = (np.array(v)[:, None, None] for v in (model_card.mean, model_card.std))
    x = (pixels.astype(np.float64) / scale - mean) / std
    logits = np.einsum("cb,bhw->chw", w[..., 0, 0].astype(np.float64), x) + b[:, None, None]
    if model_card.channels == 1:
        p = 1 / (1 + np.exp(-logits))
        return np.concatenate([1 - p, p])
    e = np.exp(logits - logits.max(axis=0))
    shares: np.ndarray = e / e.sum(axis=0)
    return shares
