"""Registry of the back ends that run a model.

Imports the standard library only, as `--help` needs it. To add a back end, add its row and the class that it points to,
an `inference.model.backends.Backend`.
"""

from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class BackendRow:
    """A row of the registry.

    Attributes:
        name: Name in `--backend`.
        meaning: What it is for.
        suffixes: Suffixes of the files that it runs.
        library: Module that it needs.
        path: Dotted path of its class.
        precisions: Precisions that it computes in on demand.
        otherwise: Message about other precisions: why not, and what to do.
    """

    name: str
    meaning: str
    suffixes: tuple[str, ...]
    library: str
    path: str
    precisions: tuple[str, ...] = ("fp32", "bf16", "fp16")
    otherwise: str = ""

    @property
    def install(self) -> str:
        """Command that installs the library."""
        return f"pip install {self.library}"

    def load(self) -> Any:
        """Import the class; the library itself is imported when a model is opened."""
        module, _, name = self.path.partition(":")
        return getattr(import_module(module), name)


# `auto` takes the first one that runs the file in the precision.
BACKENDS: dict[str, BackendRow] = {
    row.name: row
    for row in (
        BackendRow(
            "onnxruntime",
            "ONNX Runtime: default for .onnx, on a CPU, CUDA or CoreML",
            (".onnx",),
            "onnxruntime",
            "inference.model.backends:_OnnxRuntime",
            precisions=("fp32",),
            otherwise="ONNX Runtime computes in the precision a model was exported in (use --backend openvino, or the "
            "model's .pt)",
        ),
        BackendRow(
            "torchscript",
            "PyTorch: default for .pt, on a CPU, CUDA or MPS",
            (".pt",),
            "torch",
            "inference.model.backends:_TorchScript",
        ),
        BackendRow(
            "openvino",
            "OpenVINO: faster on Intel's CPUs; default for .onnx in bf16 or fp16",
            (".onnx",),
            "openvino",
            "inference.model.backends:_OpenVino",
        ),
    )
}
SUFFIXES = tuple(dict.fromkeys(suffix for row in BACKENDS.values() for suffix in row.suffixes))
"""Suffixes of the model files that some back end runs."""
