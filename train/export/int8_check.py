"""Check of a file in int8: its masks on the val split against the float model's, before it gets its final name.

The measure is the IoU of the two masks over all pixels that count, for each class and pooled over the classes (the
background is left out where there is one). It needs no labels: 1 - IoU is a metric, so by the triangle inequality the
IoU with any labels falls by no more than this loss.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inference.card import ModelCard
from inference.common.cpu import cores
from inference.common.errors import CheckFailed, UserError, first_line
from inference.common.progress import progress
from inference.common.text import print_line
from train.configs.config import Config
from train.data.datasets import GridDataset
from train.data.labelled_images import LabelledImages
from train.data.reader import Reader
from train.export import int8_file
from train.export.export_wrapper import ExportWrapper
from train.export.parity import predicted_classes
from train.model import SegmentationModel, SMPSegmentationModel

MAX_LOSS = 0.005
"""Largest loss of IoU that passes."""
CALIBRATION_WINDOWS = 128
CHECKED_WINDOWS = 512
_SEED = 0


@dataclass(frozen=True)
class Int8Data:
    """Windows of the data set for calibration and check.

    Attributes:
        calibration: Normalised windows of the train split, each (bands, H, W) float32.
        val: Windows of the val split.
        normalize: Function that normalises (N, bands, H, W) pixels.
        ignore_index: Label of pixels that don't count.
    """

    calibration: Sequence[Tensor]
    val: GridDataset
    normalize: Callable[[Tensor], Tensor]
    ignore_index: int


def int8_refusal(model: SegmentationModel, dynamic: bool) -> str | None:
    """Return the reason why a network is not written in int8; None where it is."""
    if not isinstance(model, SMPSegmentationModel):
        return f"not available for {type(model).__name__}, whose attention was not measured in int8"
    if dynamic:
        return "calibrated and checked at the tile size, so not available with --dynamic"
    return None


def int8_data(configs: Sequence[Config], model: SegmentationModel, card: ModelCard) -> Int8Data:
    """Read calibration windows of the train split and find those of the val split.

    Args:
        configs: Configs whose data sets are tried, in this order.
        model: Model, for the normalisation.
        card: Card of the model.

    Raises:
        UserError: No data set of the configs has both splits.
    """
    reasons = []
    for config in configs:
        try:
            return _data(config, model, card)
        except UserError as error:
            reasons.append(first_line(error))
    raise UserError(
        f"--formats int8: needs the train and val splits of the model's data set: {reasons[0]} (give CONFIG.yml and "
        "data_module.data_dir=FOLDER, or leave int8 out)"
    )


def _data(config: Config, model: SegmentationModel, card: ModelCard) -> Int8Data:
    images = LabelledImages(config)
    if problems := images.find():
        raise UserError(problems[0])
    if list(images.bands) != card.bands or images.dtype != card.dtype:
        raise UserError(f"{config.data_module.data_dir}: its bands or dtype differ from those of the model")
    if missing := [split for split in ("train", "val") if not images.scenes.get(split)]:
        raise UserError(f"{config.data_module.data_dir}: has no {missing[0]} split")
    fill = config.data_module.fill_value
    with closing(Reader(images.rule, fill, cores())) as reader:
        train = GridDataset(images.scenes["train"], images.bands, reader, card.tile_size)
        order = np.random.default_rng(_SEED).permutation(len(train))
        calibration: list[Tensor] = []
        chosen = order[:CALIBRATION_WINDOWS].tolist()
        for index in progress(chosen, len(chosen), "reading calibration windows"):
            image, label, _ = train[index]
            if (label != config.ignore_index).any():
                calibration.append(model.normalize(_tensor(image))[0])
    if not calibration:
        raise UserError(f"{config.data_module.data_dir}: the windows of its train split hold no labelled pixel")
    val = GridDataset(images.scenes["val"], images.bands, Reader(images.rule, fill, cores()), card.tile_size)
    return Int8Data(calibration, val, model.normalize, config.ignore_index)


def _tensor(image: NDArray[np.generic]) -> Tensor:
    return torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None].contiguous()


def write_int8(
    network: ExportWrapper, card: ModelCard, data: Int8Data, target: Path, temporary: Path, device: torch.device
) -> ModelCard:
    """Write a network in int8 under a temporary name, check its masks, and return the card in the file.

    Raises:
        CheckFailed: The masks of a class lose more than `MAX_LOSS`.
    """
    print_line(f"writing {target.name}, calibrated on {len(data.calibration)} windows of the train split")
    card = card.model_copy(update={"precision": "int8"})
    try:
        int8_file.write(network, card, data.calibration, temporary)
    except OSError as error:
        raise UserError(f"{target}: can't be written: {error.strerror or error}") from None
    losses = mask_losses(network, card, data, temporary, device)
    shown = ", ".join(f"{name} {loss:.2%}" for name, loss in losses.items())
    if failed := [f"{name} {loss:.2%}" for name, loss in losses.items() if not loss <= MAX_LOSS]:
        raise CheckFailed(
            f"{target.name}: not written: its masks lose IoU with the float model's on the val split: "
            f"{', '.join(failed)} (allowed: {MAX_LOSS:.1%}; use the float file, in bf16 with --backend openvino where "
            "the CPU has it)"
        )
    print_line(f"  IoU lost on the val split: {shown} (allowed {MAX_LOSS:.1%})")
    card = card.model_copy(update={"int8_loss": round(max(losses.values(), default=0.0), 6)})
    int8_file.write_card(temporary, card)
    return card


def mask_losses(
    network: ExportWrapper, card: ModelCard, data: Int8Data, path: Path, device: torch.device
) -> dict[str, float]:
    """Return 1 - IoU of a file's masks with the network's, for each class that either shows, and pooled.

    Args:
        network: Float network.
        card: Card of the file.
        data: Windows of the val split.
        path: File in int8.
        device: Device of the float network.
    """
    classes = len(card.class_names)
    counts = np.zeros((classes, classes), np.int64)
    run = int8_file.load(path, torch.device("cpu"))
    network = network.to(device)
    with torch.inference_mode(), closing(data.val.reader):
        for image, counted in _windows(data):
            one = predicted_classes(network(image.to(device)).cpu(), card)[0].numpy()[counted]
            other = predicted_classes(run(image), card)[0].numpy()[counted]
            counts += np.bincount(one * classes + other, minlength=classes**2).reshape(classes, classes)
    network.cpu()
    union = counts.sum(0) + counts.sum(1) - np.diag(counts)
    wanted = [index for index in range(classes) if index != card.background_index and union[index]]
    losses = {card.class_names[index]: float(1 - counts[index, index] / union[index]) for index in wanted}
    if len(wanted) > 1:
        losses["pooled"] = float(1 - sum(counts[i, i] for i in wanted) / sum(union[i] for i in wanted))
    return losses


def _windows(data: Int8Data) -> Iterator[tuple[Tensor, NDArray[np.bool_]]]:
    """Yield normalised windows (1, bands, H, W) of the val split, and which of their pixels count, (H, W)."""
    count = min(len(data.val), CHECKED_WINDOWS)
    for number in progress(range(count), count, "comparing masks"):
        image, label, _ = data.val[number * len(data.val) // count]
        counted = label != data.ignore_index
        if counted.any():
            yield data.normalize(_tensor(image)), counted
