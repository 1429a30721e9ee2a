"""Whether an exported file gives the checkpoint's own answers: nothing gets its name before it does.

What is right is what PyTorch answers in float64. PyTorch in float32 differs from that by its rounding, which is the
noise floor; a file may differ by a few times as much, for other libraries add up in another order.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from inference.card import ModelCard
from train.export.formats import Run
from train.export.network import ExportedNetwork

# A difference that no map shows, however exact float32 happens to be.
LEAST = 1e-5
# Other orders of summation, other approximations of the exponential.
TIMES_NOISE = 4.0
# Whatever float32 makes of a network: beyond this two runs of one model would be two models.
MOST = 1e-2


@dataclass(frozen=True)
class Reference:
    """The checkpoint's answers on two windows.

    Attributes:
        image: (2, bands, H, W) float32, normalised.
        exact: (2, channels, H, W) float64: PyTorch's answer in float64.
        usual: (2, channels, H, W) float32: PyTorch's answer in float32.
        noise: Largest difference of the two.
    """

    image: Tensor
    exact: Tensor
    usual: Tensor
    noise: float


@dataclass(frozen=True)
class Agreement:
    """How far a file's answers are from the checkpoint's.

    Attributes:
        size: Height and width of the windows.
        difference: Largest difference in any pixel: at batch 1 from float64, at batch 2 from float32.
        allowed: Largest difference that passes.
        noise: Difference of PyTorch in float32 from float64.
        mask: Share of the mask's pixels that are the same as PyTorch's.
        error: What went wrong, where the file could not be run at all.
    """

    size: tuple[int, int]
    difference: float
    allowed: float
    noise: float
    mask: float
    error: str | None = None

    @property
    def passed(self) -> bool:
        """Whether the file may be given its name; NaN never passes."""
        return self.error is None and self.difference <= self.allowed

    def __str__(self) -> str:
        height, width = self.size
        if self.error is not None:
            return f"{height}x{width}: can't be run: {self.error}"
        return (
            f"{height}x{width}: largest difference {self.difference:.1e} (allowed {self.allowed:.1e}; PyTorch's own "
            f"rounding {self.noise:.1e}), {100 * self.mask:.4f} % of the mask's pixels agree"
        )


def reference(network: ExportedNetwork, image: Tensor, device: torch.device) -> Reference:
    """The checkpoint's answers; float64 one window at a time, as two of a large network take a laptop's memory."""
    with torch.inference_mode(), _without_tf32():
        usual = copy.deepcopy(network).to(device)(image.to(device)).cpu()
        # Apple's GPUs have no float64.
        exact_on = torch.device("cpu") if device.type == "mps" else device
        double = copy.deepcopy(network).to(exact_on).double()
        exact = torch.cat([double(one[None].double().to(exact_on)).cpu() for one in image])
    noise = (usual.double() - exact).abs().max().item()
    return Reference(image, exact, usual, noise)


def agreement(run: Run, wanted: Reference, card: ModelCard) -> Agreement:
    """Compares what a file answers, at batch 1 and at batch 2."""
    scale = 1.0 if card.output == "probabilities" else max(1.0, wanted.exact.abs().max().item())
    allowed = scale * min(MOST, max(LEAST, TIMES_NOISE * wanted.noise / scale))
    size = (wanted.image.shape[-2], wanted.image.shape[-1])
    try:
        with _without_tf32():
            one, two = run(wanted.image[:1]), run(wanted.image)
    except Exception as error:  # whatever a runtime raises for a graph that is wrong at this size
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        return Agreement(size, float("nan"), allowed, wanted.noise, 0.0, reason)
    if one.shape != wanted.usual[:1].shape or two.shape != wanted.usual.shape:
        shapes = f"gives shape {list(two.shape)}, {list(wanted.usual.shape)} was expected"
        return Agreement(size, float("nan"), allowed, wanted.noise, 0.0, shapes)
    differences = torch.stack(
        [(one.double() - wanted.exact[:1]).abs().max(), (two - wanted.usual).abs().max().double()]
    )
    same = (mask(two, card) == mask(wanted.usual, card)).double().mean().item()
    # Of tensors, since Python's max() may lose a NaN.
    return Agreement(size, differences.max().item(), allowed, wanted.noise, same)


def mask(output: Tensor, card: ModelCard) -> Tensor:
    """(N, channels, H, W) of either output to class indices (N, H, W), as inference makes them."""
    if card.channels > 1:
        return output.argmax(dim=1)
    probability = output[:, 0] if card.output == "probabilities" else output[:, 0].sigmoid()
    return (probability > card.threshold).long()


def failures(name: str, found: Sequence[Agreement]) -> list[str]:
    """What to tell the user of a file that did not pass, a line each."""
    lines = []
    for one in found:
        if not one.passed:
            lines.append(f"{name}: does not give the checkpoint's answers at {one}")
            if one.error is None and TIMES_NOISE * one.noise > MOST:
                lines[-1] += "; PyTorch in float32 itself is that far off, as untrained networks may be"
    return lines


class _without_tf32:
    """Float32 is float32, on NVIDIA's GPUs too: their TensorFloat-32 has ten bits of mantissa."""

    def __enter__(self) -> None:
        self.before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False

    def __exit__(self, *_: object) -> None:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = self.before
