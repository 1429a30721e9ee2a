"""Writing and check of a file in int8: its masks on the val split against the float model's, before it gets its name.

The measure is the IoU of the two masks over all pixels that count, for each class and pooled over the classes (the
background is left out where there is one). It needs no labels: 1 - IoU is a metric, so by the triangle inequality the
IoU with any labels falls by no more than this loss.

Networks differ in how much of them 8 bits carry. Their first layers are the most sensitive and, with few channels,
among the cheapest, so more and more of them stay in float32 until the file passes.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from inference.card import ModelCard
from inference.common.errors import CheckFailed, UserError
from inference.common.text import print_line
from train.export import int8_file
from train.export.export_wrapper import ExportWrapper
from train.export.int8_windows import Int8Windows
from train.export.parity import predicted_classes
from train.model import SegmentationModel, SMPSegmentationModel

MAX_LOSS = 0.005
"""Largest loss of IoU that passes."""
FLOAT_FIRST = 0, 3, 9, 27
"""Numbers of first convolutions or matrix products in float32, tried in this order."""


def int8_refusal(model: SegmentationModel, dynamic: bool) -> str | None:
    """Return the reason why a network is not written in int8; None where it is."""
    if not isinstance(model, SMPSegmentationModel):
        return f"not available for {type(model).__name__}: attention gains next to nothing in int8"
    if dynamic:
        return "calibrated and checked at the tile size, so not available with --dynamic"
    return None


def write_int8(
    network: ExportWrapper, card: ModelCard, windows: Int8Windows, target: Path, temporary: Path, device: torch.device
) -> ModelCard:
    """Write a network in int8 under a temporary name, check its masks, and return the card in the file.

    Raises:
        CheckFailed: The masks of a class lose more than `MAX_LOSS` however many first layers stay in float32.
    """
    count = len(windows.calibration)
    print_line(f"writing {target.name}, calibrated on {count} windows of the train split of {windows.folder}")
    card = card.model_copy(update={"precision": "int8"})
    check = MaskCheck(network, card, windows, device)
    found: list[Mapping[str, float]] = []
    with int8_file.prepared(network, card, windows.calibration[0]) as exact:
        most = int8_file.products(exact)
        for first in (number for number in FLOAT_FIRST if number < most):
            try:
                int8_file.write(exact, card, windows.calibration, temporary, first)
            except OSError as error:
                raise UserError(f"{target}: can't be written: {error.strerror or error}") from None
            losses = check.losses(temporary)
            if not losses:
                raise CheckFailed(
                    f"{target.name}: not written: on the labelled pixels of the val split neither it nor the float "
                    "model shows any class but the background, so they can't be compared (use a val split with the "
                    "target, or leave int8 out)"
                )
            found.append(losses)
            kept = f" with the first {first} layers in float32" if first else ""
            print_line(f"  IoU lost on the val split{kept}: {_shown(losses)} (allowed {MAX_LOSS:.1%})")
            if _passes(losses):
                card = card.model_copy(update={"int8_loss": round(max(losses.values()), 6)})
                int8_file.write_card(temporary, card)
                return card
    best = min(found, key=lambda losses: max(losses.values()))
    raise CheckFailed(
        f"{target.name}: not written: its masks lose IoU with the float model's on the val split: "
        f"{_shown({name: loss for name, loss in best.items() if not loss <= MAX_LOSS})} at best (allowed: "
        f"{MAX_LOSS:.1%}; use the float file, in bf16 with --backend openvino where the CPU has it)"
    )


def _passes(losses: Mapping[str, float]) -> bool:
    return all(loss <= MAX_LOSS for loss in losses.values())


def _shown(losses: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {loss:.3%}" for name, loss in losses.items())


class MaskCheck:
    """Comparison of files in int8 with the float network, whose masks are computed once.

    Args:
        network: Float network.
        card: Card of the files.
        windows: Windows of the data set.
        device: Device of the float network.
    """

    def __init__(self, network: ExportWrapper, card: ModelCard, windows: Int8Windows, device: torch.device) -> None:
        self._network, self._card, self._windows, self._device = network, card, windows, device
        self._masks: list[NDArray[np.uint8]] = []

    def losses(self, path: Path) -> dict[str, float]:
        """Return 1 - IoU of a file's masks with the network's, for each class that either shows, and pooled.

        Args:
            path: File in int8.
        """
        card = self._card
        classes = len(card.class_names)
        counts = np.zeros((classes, classes), np.int64)
        run = int8_file.load(path, torch.device("cpu"))
        masks = self._float_masks()
        for (image, counted), mask in zip(self._windows.checked("comparing masks"), masks, strict=True):
            pairs = mask.astype(np.int64) * classes + predicted_classes(run(image), card)[0].numpy()[counted]
            counts += np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
        union = counts.sum(0) + counts.sum(1) - np.diag(counts)
        wanted = [index for index in range(classes) if index != card.background_index and union[index]]
        losses = {card.class_names[index]: float(1 - counts[index, index] / union[index]) for index in wanted}
        if len(wanted) > 1:
            losses["pooled"] = float(1 - sum(counts[i, i] for i in wanted) / sum(union[i] for i in wanted))
        return losses

    def _float_masks(self) -> list[NDArray[np.uint8]]:
        """Return the float network's classes of the pixels that count, for each window."""
        if not self._masks:
            network = self._network.to(self._device)
            for image, counted in self._windows.checked("predicting in float32"):
                with torch.inference_mode():
                    output = network(image.to(self._device)).cpu()
                self._masks.append(predicted_classes(output, self._card)[0].numpy()[counted].astype(np.uint8))
            network.cpu()
        return self._masks
