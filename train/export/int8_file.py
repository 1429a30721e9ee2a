"""ONNX files in 8-bit integers: a float ONNX file, quantised after training by ONNX Runtime.

The file holds pairs of QuantizeLinear and DequantizeLinear (QDQ), which ONNX Runtime and OpenVINO replace by integer
kernels. Weights are int8 with a scale for each channel. Activations are uint8 between the means of their smallest and
largest values on the calibration windows. The last convolution and what follows it stay in float32, so that
probabilities are not rounded to 256 values; so may the first convolutions.
"""

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from torch import Tensor

from inference.card import METADATA_KEY, ModelCard
from train.export import onnx_file
from train.export.consumers import deepness_metadata
from train.export.export_wrapper import ExportWrapper
from train.export.onnx_file import load as load  # the same runtime runs it
from train.export.silence import silence

_PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@contextmanager
def prepared(network: ExportWrapper, card: ModelCard, window: Tensor) -> Iterator[Path]:
    """Write a network as a float ONNX file that is ready to be quantised, and delete it afterwards.

    Args:
        network: Network.
        card: Model card.
        window: A normalised window, (bands, H, W) float32.
    """
    with tempfile.TemporaryDirectory() as folder:
        exact, ready = Path(folder) / "float.onnx", Path(folder) / "prepared.onnx"
        with silence():
            onnx_file.write(network, card, window[None].repeat(2, 1, 1, 1), exact)
            prepare(exact, ready)
        yield ready


def prepare(exact: Path, ready: Path) -> None:
    """Write a float ONNX file anew, ready to be quantised."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    quant_pre_process(str(exact), str(ready), skip_symbolic_shape=True)


def products(exact: Path) -> int:
    """Return the number of convolutions and matrix products of a prepared network, without the last one."""
    graph = onnx.load(exact).graph
    last = set(_last_nodes(graph))
    return sum(node.op_type in _PRODUCTS and node.name not in last for node in graph.node)


def write(exact: Path, card: ModelCard, windows: Sequence[Tensor], path: Path, float_first: int = 0) -> None:
    """Write a network in int8; the caller must check its masks.

    Args:
        exact: Prepared float file of the network.
        card: Model card, embedded in the file.
        windows: Calibration windows, normalised, each (bands, H, W) float32.
        path: File to write.
        float_first: Number of first convolutions or matrix products that stay in float32.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    graph = onnx.load(exact).graph
    first = [node.name for node in graph.node if node.op_type in _PRODUCTS][:float_first]
    before = logging.root.level
    logging.root.setLevel(logging.ERROR)  # its advice on options that were chosen here
    try:
        with silence():
            quantize_static(
                str(exact),
                str(path),
                _Windows(windows),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
                # The mean over the windows of the smallest and largest value, which one odd window can't stretch.
                extra_options={"CalibMovingAverage": True},
                nodes_to_exclude=list(dict.fromkeys([*first, *_last_nodes(graph)])),
            )
    finally:
        logging.root.setLevel(before)
    write_card(path, card)


def write_card(path: Path, card: ModelCard) -> None:
    """Embed a card in a quantised file, in place of the one that it has."""
    model = onnx.load(path)
    used = {node.domain for node in model.graph.node} | {""}
    kept = [one for one in model.opset_import if one.domain in used]
    del model.opset_import[:], model.metadata_props[:]
    model.opset_import.extend(kept)
    model.ir_version = onnx_file.IR_VERSION
    model.producer_name = model.producer_version = ""
    onnx.helper.set_model_props(model, {METADATA_KEY: card.dumps()} | deepness_metadata(card))
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def _last_nodes(graph: Any) -> list[str]:
    """Return the names of the nodes from the last convolution or matrix product to the output."""
    makers = {name: node for node in graph.node for name in node.output}
    pending, found = [one.name for one in graph.output], []
    while pending:
        node = makers.get(pending.pop())
        if node is None or node.name in found:
            continue
        found.append(node.name)
        if node.op_type not in _PRODUCTS:
            pending.extend(node.input)
    return found


class _Windows:
    """Calibration windows as ONNX Runtime reads them, one at a time."""

    def __init__(self, windows: Sequence[Tensor]) -> None:
        self._feeds: Iterator[dict[str, NDArray[np.float32]]] = (
            {"input": np.ascontiguousarray(window[None].numpy())} for window in windows
        )

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """Return the next input, or None after the last one."""
        return next(self._feeds, None)
