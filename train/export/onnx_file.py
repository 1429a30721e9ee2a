"""ONNX files: written by PyTorch's exporters, run by ONNX Runtime."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from inference.card import METADATA_KEY, ModelCard
from inference.common.cpu import EXACT_INT8_SUMS
from inference.common.errors import UserError, first_line
from train.export.consumers import deepness_metadata
from train.export.export_wrapper import ExportWrapper
from train.export.formats import Run
from train.export.silence import silence

# Read by everything in the field: QGIS Deepness pins a runtime that refuses a later IR.
OPSET = 18
IR_VERSION = 9


def write(network: ExportWrapper, card: ModelCard, example: Tensor, path: Path) -> None:
    """Write an ONNX file: one file, opset 18, IR 9, batch free, height and width free where the card says so.

    Args:
        network: Network to write.
        card: Model card, embedded in the file.
        example: Input, (2, bands, H, W) float32.
        path: File to write.

    Raises:
        UserError: PyTorch can't export this network for any size.
    """
    free = {0: "batch"} | ({2: "height", 3: "width"} if card.any_size else {})
    exportable = network.exportable()
    # With size-dependent padding PyTorch's newer exporter reasons about free sizes without end; the older one is right.
    newer = not (card.any_size and _pads_by_size(exportable))
    settings: dict[str, Any] = {"dynamo": newer, "opset_version": OPSET, "input_names": ["input"]}
    settings |= {"dynamic_shapes": (free,), "external_data": False} if newer else {}
    settings |= {} if newer else {"dynamic_axes": {"input": free, card.output: free}}
    try:
        with silence(), torch.no_grad():
            torch.onnx.export(exportable, (example,), path, output_names=[card.output], verbose=False, **settings)
    except Exception as error:  # whatever an exporter meets in a network
        if not card.any_size:
            raise
        reason = first_line(error)
        raise UserError(
            f"--dynamic: PyTorch can't write this network down for every size: {reason} (leave --dynamic out)"
        ) from None
    model = onnx.load(path)
    _strip(model.graph)
    del model.functions[:], model.metadata_props[:]
    model.ir_version = IR_VERSION
    model.doc_string = ""
    onnx.helper.set_model_props(model, {METADATA_KEY: card.dumps()} | deepness_metadata(card))
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def _strip(graph: Any) -> None:
    """Remove the exporter's notes: source lines and paths of the machine, for which IR 9 has no place."""
    for node in graph.node:
        node.doc_string = ""
        node.ClearField("metadata_props")
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                _strip(attribute.g)
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.doc_string = ""
        value.ClearField("metadata_props")
    graph.doc_string = ""
    graph.ClearField("metadata_props")
    del graph.value_info[:]


def load(path: Path, device: torch.device) -> Run:
    """Return a function that runs an ONNX file with ONNX Runtime, in float32 throughout."""
    import onnxruntime

    providers: list[Any] = ["CPUExecutionProvider"]
    if device.type == "cuda" and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        # TensorFloat-32, its default, has ten bits of mantissa.
        providers.insert(0, ("CUDAExecutionProvider", {"use_tf32": "0"}))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry(*EXACT_INT8_SUMS)
    session = onnxruntime.InferenceSession(path, options, providers=providers)

    def run(image: Tensor) -> Tensor:
        (output,) = session.run(None, {"input": np.ascontiguousarray(image.float().cpu().numpy())})
        return torch.from_numpy(output)

    return run


def _pads_by_size(network: nn.Module) -> bool:
    """Say whether convolutions pad by the size of their input, as TensorFlow's "same" does."""
    return any(
        "Same" in type(module).__name__ or "StaticPadding" in type(module).__name__ for module in network.modules()
    )
