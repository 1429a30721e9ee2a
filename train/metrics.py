"""Scores of an epoch from one confusion matrix, pooled over all pixels.

The mean of batch scores is a different number: it weighs a tile with three kelp pixels like one full of kelp, and it
depends on the batch size. So the batches only add integer counts, and :func:`scores` divides once at the end of the
epoch.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch import distributed as dist


class PooledConfusion:
    """Confusion matrix and weighted sum of the loss over any number of batches.

    Ignored pixels are not counted. The updates synchronise with the device no more than ``torch.bincount`` does.

    Args:
        num_classes: Channels of the logits; 1 is binary, counted in a 2 x 2 matrix.
        ignore_index: Label of ignored pixels; must not be a class.

    Raises:
        ValueError: ``ignore_index`` is a class; from the update methods, shapes don't match; from :attr:`confusion`, a
            label or prediction was neither a class nor ignored.
    """

    def __init__(self, num_classes: int, *, ignore_index: int) -> None:
        self.num_classes, self.num_labels, self.ignore_index = num_classes, max(num_classes, 2), ignore_index
        if ignore_index in range(self.num_labels):
            raise ValueError(f"ignore_index {ignore_index} is also a class (0..{self.num_labels - 1})")
        self.reset()

    def reset(self) -> None:
        """Reset all counts and sums to zero."""
        # The matrix row by row, followed by the number of pixels outside it.
        self._counts = torch.zeros(self.num_labels**2 + 1, dtype=torch.int64)
        self._loss = torch.zeros(2, dtype=torch.float64)  # Σ loss · weight, Σ weight

    @property
    def confusion(self) -> Tensor:
        """Confusion matrix, int64 ``(K, K)``: rows are the true class, columns the predicted class."""
        stray = int(self._counts[-1])
        if stray:
            raise ValueError(f"{stray} pixels have a label or prediction outside 0..{self.num_labels - 1}")
        return self._counts[:-1].reshape(self.num_labels, self.num_labels)

    @property
    def loss(self) -> float:
        """Mean loss, each batch weighted by its valid pixels; NaN if there are none."""
        total, weight = self._loss.tolist()
        return total / weight if weight else math.nan

    @torch.no_grad()
    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Count class indices.

        Args:
            prediction: Predicted classes, any shape, integer or bool.
            target: True classes of the same shape, integer or bool.
        """
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
        """Count the classes that logits predict.

        Binary models predict class 1 where its probability exceeds the threshold; multiclass models predict the class
        with the highest logit.

        Args:
            logits: Logits (N, C, H, W), float.
            target: True classes (N, H, W), integer.
            threshold: Probability strictly between 0 and 1; ignored by multiclass models.
        """
        if logits.shape[1] != self.num_classes:
            raise ValueError(f"logits {tuple(logits.shape)} don't have {self.num_classes} channels")
        if not 0 < threshold < 1:
            raise ValueError(f"threshold must be between 0 and 1, got {threshold}")
        if self.num_classes == 1:
            # Compare logits instead of probabilities, which round to 0 or 1 in half precision.
            self.update(logits[:, 0] > math.log(threshold / (1 - threshold)), target)
        else:
            self.update(logits.max(dim=1).indices, target)  # ten times faster than argmax on a CPU

    @torch.no_grad()
    def update_loss(self, loss: Tensor, n_valid_pixels: int | Tensor) -> None:
        """Add the loss of a batch, weighted by its valid pixels; a batch without any has no effect.

        Args:
            loss: Scalar; may be NaN or infinite if there are no valid pixels.
            n_valid_pixels: Number of valid pixels in the batch.
        """
        device = torch.device("cpu") if loss.device.type == "mps" else loss.device  # MPS has no float64
        loss = loss.to(device, torch.float64)
        count = n_valid_pixels.to(device) if isinstance(n_valid_pixels, Tensor) else n_valid_pixels
        weight = torch.zeros_like(loss) + count
        total = torch.where(weight > 0, loss * weight, 0.0)
        self._loss = self._loss.to(device) + torch.stack([total, weight])

    def reduce(self) -> "PooledConfusion":
        """Return a copy with the sums over all processes of ``torch.distributed``; a plain copy if there is one."""
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
        """Return copies of this process's counts and sums on the CPU, to resume within an epoch."""
        return {"counts": self._counts.to("cpu", copy=True), "loss": self._loss.to("cpu", copy=True)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load the counts and sums of :meth:`state_dict`.

        Raises:
            ValueError: They are of another number of classes.
        """
        if state["counts"].shape != self._counts.shape:
            raise ValueError(f"{len(state['counts'])} saved counts don't fit {self.num_labels} classes")
        self._counts, self._loss = state["counts"].clone(), state["loss"].clone()


def scores(confusion: Tensor, class_names: Sequence[str], *, target_only: bool) -> dict[str, float]:
    """Compute scores from a confusion matrix.

    * ``accuracy``: correct pixels over all valid pixels, binary and multiclass (micro average).
    * ``iou`` = TP / (TP + FP + FN) (Jaccard 1912, doi:10.1111/j.1469-8137.1912.tb05611.x), ``dice`` = ``f1`` =
      2 TP / (2 TP + FP + FN) (Dice 1945, doi:10.2307/1932409), ``precision`` = TP / (TP + FP) and ``recall`` =
      TP / (TP + FN): of class 1 if ``target_only`` (binary); otherwise the unweighted mean over the classes that are
      present (macro average), and the score of each class as ``iou/NAME`` and so on.

    A class is *present* if any valid pixel has it as its label or its prediction, as in torchmetrics and scikit-learn.
    Scores of a present class are always defined: precision is 0 if the class is never predicted, recall is 0 if it is
    never true. Scores of an absent class are NaN. So are the binary scores if class 1 is absent, and all scores if
    there is no valid pixel. Checkpointing treats NaN as the worst score; JSON can't represent it.

    Args:
        confusion: Counts ``(K, K)``, integer; rows are the true class, columns the predicted class.
        class_names: The K names in the order of the indices.
        target_only: True to score class 1 only; requires K = 2.

    Returns:
        Score names to scores between 0 and 1, or NaN.

    Raises:
        ValueError: The names don't fit the matrix, or ``target_only`` with more than two classes.
    """
    rows = confusion.tolist()
    size = len(rows)
    if len(class_names) != size or (target_only and size != 2):
        raise ValueError(f"{len(class_names)} class names and target_only={target_only} don't fit {size} classes")
    correct = [rows[k][k] for k in range(size)]
    true = [sum(row) for row in rows]
    predicted = [sum(column) for column in zip(*rows, strict=True)]
    per_class = [_class_scores(*counts) for counts in zip(correct, true, predicted, strict=True)]
    result = {"accuracy": sum(correct) / sum(true) if sum(true) else math.nan}
    if target_only:
        return result | per_class[1]
    present = [values for values in per_class if not math.isnan(values["iou"])]
    for key in per_class[0]:
        result[key] = math.fsum(values[key] for values in present) / len(present) if present else math.nan
    for name, values in zip(class_names, per_class, strict=True):
        result |= {f"{key}/{name}": value for key, value in values.items()}
    return result


def _class_scores(correct: int, true: int, predicted: int) -> dict[str, float]:
    if true + predicted == 0:
        return dict.fromkeys(("iou", "dice", "f1", "precision", "recall"), math.nan)
    dice = 2 * correct / (true + predicted)
    return {
        "iou": correct / (true + predicted - correct),
        "dice": dice,
        "f1": dice,
        "precision": correct / max(predicted, 1),
        "recall": correct / max(true, 1),
    }
