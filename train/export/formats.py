"""Registry of the file formats that a model is exported to. Importing it doesn't import torch.

To add a format, add its row and the module that it names, with the functions `write(network, card, example, path)` and
`load(path, device)`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from inference.card import ModelCard
    from train.export.export_wrapper import ExportWrapper

    Run = Callable[[Tensor], Tensor]
else:
    Run = Callable[[Any], Any]


@dataclass(frozen=True)
class Format:
    """A row of the registry.

    Attributes:
        name: Name in `--formats`.
        meaning: What reads it.
        stem: Template of the file's stem over model_name, task and score.
        suffix: Suffix of the file.
        module: Dotted path of the module that writes and runs it.
    """

    name: str
    meaning: str
    stem: str
    suffix: str
    module: str

    def write(self, network: ExportWrapper, card: ModelCard, example: Tensor, path: Path) -> None:
        """Write a network and its card; `example` is an input, (2, bands, H, W) float32."""
        import_module(self.module).write(network, card, example, path)

    def load(self, path: Path, device: torch.device) -> Run:
        """Return a function that runs a file: normalised images (N, bands, H, W) to the network's output."""
        return cast(Run, import_module(self.module).load(path, device))


FORMATS: dict[str, Format] = {
    row.name: row
    for row in (
        Format(
            "onnx",
            "ONNX, opset 18: ONNX Runtime, OpenVINO, habitat-mapper, QGIS Deepness",
            "{model_name}_{task}_dice={score:.4f}",
            ".onnx",
            "train.export.onnx_file",
        ),
        Format(
            "torchscript",
            "Traced TorchScript: PyTorch, without this project's code",
            "{model_name}_{task}_jit_dice={score:.4f}",
            ".pt",
            "train.export.torchscript_file",
        ),
    )
}
"""Formats that reproduce the checkpoint; all are written by default."""
INT8 = Format(
    "int8",
    "ONNX in 8-bit integers, only on request: faster on CPUs, with masks that are almost the same",
    "{model_name}_{task}_int8_dice={score:.4f}",
    ".onnx",
    "train.export.int8_file",
)
ALL_FORMATS: dict[str, Format] = FORMATS | {INT8.name: INT8}
"""Everything that `--formats` takes."""
