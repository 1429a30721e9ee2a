"""The file formats that a model leaves in, and what runs them: one row of `FORMATS` each."""

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from inference.card import EXTRA_FILE, METADATA_KEY, ModelCard
from inference.common.errors import UserError
from train.export.consumers import deepness
from train.export.network import ExportedNetwork

# Read by everything in the field: QGIS Deepness pins a runtime that refuses a later IR.
OPSET = 18
IR_VERSION = 9

Run = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Format:
    """A file format.

    Attributes:
        stem: Template of the file's stem.
        suffix: Of the file.
        write: Writes a network and its card: (network, card, example, path). The example is (2, bands, H, W) float32.
        load: Makes what runs a file: (path, device) to a function from normalised images to the network's output.
    """

    stem: str
    suffix: str
    write: Callable[[ExportedNetwork, ModelCard, Tensor, Path], None]
    load: Callable[[Path, torch.device], Run]


def write_onnx(network: ExportedNetwork, card: ModelCard, example: Tensor, path: Path) -> None:
    """Writes an ONNX file: one file, opset 18, IR 9, batch free, height and width free where the card says so.

    Raises:
        UserError: PyTorch can't write this network down for any size.
    """
    free = {0: "batch"} | ({2: "height", 3: "width"} if card.any_size else {})
    exportable = network.exportable()
    # With size-dependent padding PyTorch's newer exporter reasons about free sizes without end; the older one is right.
    newer = not (card.any_size and _pads_by_size(exportable))
    settings: dict[str, Any] = {"dynamo": newer, "opset_version": OPSET, "input_names": ["input"]}
    settings |= {"dynamic_shapes": (free,), "external_data": False} if newer else {}
    settings |= {} if newer else {"dynamic_axes": {"input": free, card.output: free}}
    try:
        with _silence(), torch.no_grad():
            torch.onnx.export(exportable, (example,), path, output_names=[card.output], verbose=False, **settings)
    except Exception as error:  # whatever an exporter meets in a network
        if not card.any_size:
            raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"--dynamic: PyTorch can't write this network down for every size: {reason} (leave --dynamic out)"
        ) from None
    model = onnx.load(path)
    _strip(model.graph)
    del model.functions[:], model.metadata_props[:]
    model.ir_version = IR_VERSION
    model.doc_string = ""
    onnx.helper.set_model_props(model, {METADATA_KEY: card.dumps()} | deepness(card))
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def _strip(graph: Any) -> None:
    """Removes the exporter's notes: source lines and paths of the machine, which IR 9 has no place for."""
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


def load_onnx(path: Path, device: torch.device) -> Run:
    """Runs an ONNX file with ONNX Runtime, in float32 throughout."""
    import onnxruntime

    providers: list[Any] = ["CPUExecutionProvider"]
    if device.type == "cuda" and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        # TensorFloat-32, its default, has ten bits of mantissa.
        providers.insert(0, ("CUDAExecutionProvider", {"use_tf32": "0"}))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(path, options, providers=providers)

    def run(image: Tensor) -> Tensor:
        (output,) = session.run(None, {"input": np.ascontiguousarray(image.float().cpu().numpy())})
        return torch.from_numpy(output)

    return run


def write_torchscript(network: ExportedNetwork, card: ModelCard, example: Tensor, path: Path) -> None:
    """Writes a traced TorchScript archive that `torch.jit.load` reads without any code of ours."""
    with _silence(), torch.no_grad():
        traced = torch.jit.trace(network, example, check_trace=False)  # type: ignore[no-untyped-call]
        torch.jit.save(traced, path, _extra_files={EXTRA_FILE: card.dumps()})


def load_torchscript(path: Path, device: torch.device) -> Run:
    """Runs a TorchScript archive."""
    with _silence():
        module = torch.jit.load(path, map_location=device).eval()  # type: ignore[no-untyped-call]

    def run(image: Tensor) -> Tensor:
        with torch.inference_mode():
            output: Tensor = module(image.float().to(device))
        return output.cpu()

    return run


def _pads_by_size(network: nn.Module) -> bool:
    """Whether convolutions pad by the size of their input, as TensorFlow's "same" does."""
    return any(
        "Same" in type(module).__name__ or "StaticPadding" in type(module).__name__ for module in network.modules()
    )


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keeps the exporters' chatter from the user: they print, log and warn about what they do."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export", "torch")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


FORMATS: dict[str, Format] = {
    "onnx": Format("{model_name}_{task}_dice={score:.4f}", ".onnx", write_onnx, load_onnx),
    "torchscript": Format("{model_name}_{task}_jit_dice={score:.4f}", ".pt", write_torchscript, load_torchscript),
}
