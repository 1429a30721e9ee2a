"""TorchScript archives."""

import io
from pathlib import Path

import torch
from torch import Tensor

from inference.card import EXTRA_FILE, ModelCard
from train.export.export_wrapper import ExportWrapper
from train.export.formats import Run
from train.export.silence import silence


def write(network: ExportWrapper, card: ModelCard, example: Tensor, path: Path) -> None:
    """Write a traced TorchScript archive that `torch.jit.load` reads without this project's code.

    Args:
        network: Network to write.
        card: Model card, embedded in the file.
        example: Input, (2, bands, H, W) float32.
        path: File to write.
    """
    with silence(), torch.no_grad():
        traced = torch.jit.trace(network, example, check_trace=False)  # type: ignore[no-untyped-call]
        # Through memory: on a full disk PyTorch's own writer aborts the process.
        content = io.BytesIO()
        torch.jit.save(traced, content, _extra_files={EXTRA_FILE: card.dumps()})
        path.write_bytes(content.getbuffer())


def load(path: Path, device: torch.device) -> Run:
    """Return a function that runs a TorchScript archive."""
    with silence():
        module = torch.jit.load(path, map_location=device).eval()  # type: ignore[no-untyped-call]

    def run(image: Tensor) -> Tensor:
        with torch.inference_mode():
            output: Tensor = module(image.float().to(device))
        return output.cpu()

    return run
