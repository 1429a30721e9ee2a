"""What is measured, and how it is averaged: every score comes from one confusion matrix pooled over all pixels.

A mean of the scores of batches isn't the score: it weighs a tile with three kelp pixels like one full of kelp, and it
changes with the batch size. So an epoch only counts, in whole numbers, and :func:`scores` divides once at its end.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch import distributed as dist


class PooledConfusion:
    """Pixel counts by true and predicted class, and the loss's weighted sum, over any number of batches.

    Ignored pixels are in no count. Nothing waits for the device beyond what ``torch.bincount`` itself does.

    Args:
        num_classes: Channels of the logits; 1 is binary, counted in 2 x 2.
        ignore_index: Label of the pixels that don't count; not itself a class.

    Raises:
        ValueError: ``ignore_index`` is a class; from the updates, shapes that don't fit; from :attr:`confusion`, some
            label or prediction was neither a class nor ignored.
    """

    def __init__(self, num_classes: int, *, ignore_index: int) -> None:
        self.num_classes, self.num_labels, self.ignore_index = num_classes, max(num_classes, 2), ignore_index
        if ignore_index in range(self.num_labels):
            raise ValueError(f"ignore_index {ignore_index} is also a class (0..{self.num_labels - 1})")
        self.reset()

    def reset(self) -> None:
        """Forget everything counted so far."""
        # The matrix row by row, and last the pixels that are in no cell of it.
        self._counts = torch.zeros(self.num_labels**2 + 1, dtype=torch.int64)
        self._loss = torch.zeros(2, dtype=torch.float64)  # Σ loss · weight, Σ weight

    @property
    def confusion(self) -> Tensor:
        """The counts so far, int64 ``(K, K)``: rows are the truth, columns the prediction."""
        stray = int(self._counts[-1])
        if stray:
            raise ValueError(f"{stray} pixels have a label or prediction outside 0..{self.num_labels - 1}")
        return self._counts[:-1].reshape(self.num_labels, self.num_labels)

    @property
    def loss(self) -> float:
        """The mean loss so far, each batch weighted by its valid pixels; NaN before the first of them."""
        total, weight = self._loss.tolist()
        return total / weight if weight else math.nan

    @torch.no_grad()
    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Count class indices ``prediction`` against ``target``: same shape, any integer dtype (or bool)."""
        if prediction.shape != target.shape:
            raise ValueError(f"prediction {tuple(prediction.shape)} and target {tuple(target.shape)} differ in shape")
        size, prediction, target = self.num_labels, prediction.long(), target.long()
        inside = (prediction >= 0) & (prediction < size) & (target >= 0) & (target < size)
        cell = torch.where(inside, target * size + prediction, size**2)
        cell = torch.where(target == self.ignore_index, size**2 + 1, cell)
        counts = torch.bincount(cell.flatten(), minlength=size**2 + 2)[:-1]
        self._counts = self._counts.to(counts.device) + counts

    @torch.no_grad()
    def update_from_logits(self, logits: Tensor, target: Tensor, *, threshold: float = 0.5) -> None:
        """Count what ``logits`` (N, C, H, W) predict against ``target`` (N, H, W).

        Binary: the target class where its probability exceeds ``threshold``, which is strictly between 0 and 1;
        multiclass: the class with the highest logit, whatever the threshold.
        """
        if logits.shape[1] != self.num_classes:
            raise ValueError(f"logits {tuple(logits.shape)} have not {self.num_classes} channels")
        if not 0 < threshold < 1:
            raise ValueError(f"threshold must be between 0 and 1, got {threshold}")
        if self.num_classes == 1:
            # On the logits' side of the sigmoid, which rounds to 0 or 1 in half precision.
            self.update(logits[:, 0] > math.log(threshold / (1 - threshold)), target)
        else:
            self.update(logits.max(dim=1).indices, target)  # argmax is ten times slower on a CPU

    @torch.no_grad()
    def update_loss(self, loss: Tensor, n_valid_pixels: int | Tensor) -> None:
        """Add the scalar ``loss`` of a batch, weighted by its valid pixels; a batch without any leaves no trace."""
        device = torch.device("cpu") if loss.device.type == "mps" else loss.device  # MPS has no float64
        loss = loss.to(device, torch.float64)
        count = n_valid_pixels.to(device) if isinstance(n_valid_pixels, Tensor) else n_valid_pixels
        weight = torch.zeros_like(loss) + count
        total = torch.where(weight > 0, loss * weight, 0.0)
        self._loss = self._loss.to(device) + torch.stack([total, weight])

    def reduce(self) -> "PooledConfusion":
        """A copy that holds the sum over all processes of ``torch.distributed``; a plain copy where there is one."""
        pooled = PooledConfusion(self.num_classes, ignore_index=self.ignore_index)
        pooled.load_state_dict(self.state_dict())
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            on_gpu = "nccl" in dist.get_backend()
            device = torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")
            pooled._counts, pooled._loss = pooled._counts.to(device), pooled._loss.to(device)
            dist.all_reduce(pooled._counts)
            dist.all_reduce(pooled._loss)
        return pooled

    def state_dict(self) -> dict[str, Tensor]:
        """This process's counts as CPU tensors of their own, to go on from in the middle of an epoch."""
        return {"counts": self._counts.to("cpu", copy=True), "loss": self._loss.to("cpu", copy=True)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over the counts of :meth:`state_dict`; ValueError where they are of another number of classes."""
        if state["counts"].shape != self._counts.shape:
            raise ValueError(f"{len(state['counts'])} saved counts don't fit {self.num_labels} classes")
        self._counts, self._loss = state["counts"].clone(), state["loss"].clone()


def scores(confusion: Tensor, class_names: Sequence[str], *, target_only: bool) -> dict[str, float]:
    """The scores of pooled counts.

    * ``accuracy``: right pixels over all valid pixels, in binary and multiclass alike (micro).
    * ``iou``, ``dice``, ``f1``, ``precision``, ``recall``: of class 1 where ``target_only`` (binary); otherwise the
      plain mean over the classes that are present (macro), and each class's own as ``iou/NAME`` and so on. f1 is Dice
      by another name.

    A class is *present* if any valid pixel has it as its label or its prediction, as in torchmetrics and scikit-learn.
    Of a present class nothing is undefined: precision is 0 if it is never predicted, recall 0 if it is never true. An
    absent class has no score: NaN. So have the binary scores of a split without a target pixel that predicts none, and
    all scores of one without a valid pixel. Checkpointing takes NaN as worst; JSON can't hold it.

    Args:
        confusion: Counts ``(K, K)``, rows truth, columns prediction.
        class_names: The K names, in the order of the indices.
        target_only: Score class 1 alone; K is 2.

    Raises:
        ValueError: The names don't fit the matrix, or ``target_only`` with more than two classes.
    """
    rows = confusion.tolist()
    size = len(rows)
    if len(class_names) != size or (target_only and size != 2):
        raise ValueError(f"{len(class_names)} class names and target_only={target_only} don't fit {size} classes")
    right = [rows[k][k] for k in range(size)]
    true = [sum(row) for row in rows]
    predicted = [sum(column) for column in zip(*rows, strict=True)]
    per_class = [_class_scores(*counts) for counts in zip(right, true, predicted, strict=True)]
    result = {"accuracy": sum(right) / sum(true) if sum(true) else math.nan}
    if target_only:
        return result | per_class[1]
    present = [values for values in per_class if not math.isnan(values["iou"])]
    for key in per_class[0]:
        result[key] = math.fsum(values[key] for values in present) / len(present) if present else math.nan
    for name, values in zip(class_names, per_class, strict=True):
        result |= {f"{key}/{name}": value for key, value in values.items()}
    return result


def _class_scores(right: int, true: int, predicted: int) -> dict[str, float]:
    if true + predicted == 0:
        return dict.fromkeys(("iou", "dice", "f1", "precision", "recall"), math.nan)
    dice = 2 * right / (true + predicted)
    return {
        "iou": right / (true + predicted - right),
        "dice": dice,
        "f1": dice,
        "precision": right / max(predicted, 1),
        "recall": right / max(true, 1),
    }
