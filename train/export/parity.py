"""Parity check: an exported file must give the checkpoint's outputs before it gets its final name.

The reference is PyTorch's output in float64. PyTorch's float32 output differs from it by rounding, which is the noise
floor. A file may differ by a few times as much, because other libraries sum in another order.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from inference.card import ModelCard
from inference.common.errors import first_line
from train.export.export_wrapper import ExportWrapper
from train.export.formats import Run

# Tolerances of probabilities, or of logits divided by the largest logit.
# A difference of this size changes no map, however small the noise floor is.
MIN_TOLERANCE = 1e-5
# Room for another order of summation and another approximation of the exponential.
NOISE_FACTOR = 4.0
# With a larger difference two runs of one model would be two models, however large the noise floor is.
MAX_TOLERANCE = 1e-2


@dataclass(frozen=True)
class ReferenceOutput:
    """Outputs of the checkpoint for two windows.

    Attributes:
        image: Normalised windows, (2, bands, H, W) float32.
        float64: PyTorch's output in float64, (2, channels, H, W).
        float32: PyTorch's output in float32, (2, channels, H, W).
        noise_floor: Largest difference between the two.
    """

    image: Tensor
    float64: Tensor
    float32: Tensor
    noise_floor: float


@dataclass(frozen=True)
class ParityResult:
    """Difference between the outputs of an exported file and of its checkpoint.

    Attributes:
        size: Height and width of the windows, pixels.
        difference: Largest difference in any pixel: from float64 at batch size 1, from float32 at batch size 2.
        tolerance: Largest difference that passes.
        noise_floor: Largest difference of PyTorch's float32 output from float64.
        same_class: Share of pixels whose predicted class is PyTorch's, 0 to 1.
        error: Reason why the file could not be run; None where it could.
    """

    size: tuple[int, int]
    difference: float
    tolerance: float
    noise_floor: float
    same_class: float
    error: str | None = None

    @property
    def passed(self) -> bool:
        """True if the file may get its final name; a difference of NaN never passes."""
        return self.error is None and self.difference <= self.tolerance

    def __str__(self) -> str:
        height, width = self.size
        if self.error is not None:
            return f"{height}x{width}: can't be run: {self.error}"
        return (
            f"{height}x{width}: largest difference {self.difference:.1e} (allowed {self.tolerance:.1e}; PyTorch's own "
            f"rounding {self.noise_floor:.1e}), {100 * self.same_class:.4f} % of the mask's pixels agree"
        )


def other_size(tile: int) -> tuple[int, int]:
    """Return a second (height, width) for the check: not square, and no multiple of a stride.

    It is larger than the tile, because a network that works on a tile also works on a larger image (PAN's pyramid does
    not fit into small ones).
    """
    return tile + 33, tile * 5 // 4 + 1


def reference_output(network: ExportWrapper, image: Tensor, device: torch.device) -> ReferenceOutput:
    """Run the checkpoint's network in float32 and in float64.

    Float64 runs one window at a time, because two windows of a large network exceed a laptop's memory.

    Args:
        network: Network in evaluation mode.
        image: Normalised windows, (2, bands, H, W) float32.
        device: Device of the computation; float64 runs on the CPU where the device is "mps".
    """
    with torch.inference_mode(), _tf32_disabled():
        float32 = copy.deepcopy(network).to(device)(image.to(device)).cpu()
        # Apple's GPUs have no float64.
        float64_device = torch.device("cpu") if device.type == "mps" else device
        double = copy.deepcopy(network).to(float64_device).double()
        float64 = torch.cat([double(one[None].double().to(float64_device)).cpu() for one in image])
    noise_floor = (float32.double() - float64).abs().max().item()
    return ReferenceOutput(image, float64, float32, noise_floor)


def check_parity(run: Run, reference: ReferenceOutput, card: ModelCard) -> ParityResult:
    """Compare the outputs of an exported file with the reference, at batch sizes 1 and 2.

    Args:
        run: Function that runs the file.
        reference: Outputs of the checkpoint.
        card: Card of the file.
    """
    scale = 1.0 if card.output == "probabilities" else max(1.0, reference.float64.abs().max().item())
    noise_floor = reference.noise_floor
    tolerance = scale * min(MAX_TOLERANCE, max(MIN_TOLERANCE, NOISE_FACTOR * noise_floor / scale))
    size = (reference.image.shape[-2], reference.image.shape[-1])
    try:
        with _tf32_disabled():
            one, two = run(reference.image[:1]), run(reference.image)
    except Exception as error:  # runtimes raise many types for a graph that is wrong at this size
        reason = first_line(error)
        return ParityResult(size, float("nan"), tolerance, noise_floor, 0.0, reason)
    if one.shape != reference.float32[:1].shape or two.shape != reference.float32.shape:
        shapes = f"its output has shape {list(two.shape)}, {list(reference.float32.shape)} was expected"
        return ParityResult(size, float("nan"), tolerance, noise_floor, 0.0, shapes)
    differences = torch.stack(
        [(one.double() - reference.float64[:1]).abs().max(), (two - reference.float32).abs().max().double()]
    )
    same = (predicted_classes(two, card) == predicted_classes(reference.float32, card)).double().mean().item()
    # Tensor.max, since Python's max() may drop a NaN.
    return ParityResult(size, differences.max().item(), tolerance, noise_floor, same)


def predicted_classes(output: Tensor, card: ModelCard) -> Tensor:
    """Return the class indices (N, H, W) int64 that inference derives from an output (N, channels, H, W)."""
    if card.channels > 1:
        return output.argmax(dim=1)
    probability = output[:, 0] if card.output == "probabilities" else output[:, 0].sigmoid()
    return (probability > card.threshold).long()


def failure_messages(name: str, results: Sequence[ParityResult]) -> list[str]:
    """Return one line for each result that did not pass.

    Args:
        name: Name of the file.
        results: Results at one size or more.
    """
    lines = []
    for result in results:
        if not result.passed:
            lines.append(f"{name}: its outputs differ from the checkpoint's at {result}")
            if result.error is None and NOISE_FACTOR * result.noise_floor > MAX_TOLERANCE:
                lines[-1] += "; PyTorch's float32 differs as much from float64, as happens with untrained networks"
    return lines


class _tf32_disabled:
    """Context in which NVIDIA GPUs compute in float32 proper: TensorFloat-32 has ten bits of mantissa."""

    def __enter__(self) -> None:
        self.before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False

    def __exit__(self, *_: object) -> None:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = self.before
