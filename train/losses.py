"""Every loss by name, all obeying ``ignore_index``.

Logits are ``(N, C, H, W)``, labels ``(N, H, W)``, the loss is a scalar. One channel is binary (sigmoid; labels 0, 1),
more are one class each (softmax; labels 0..C-1). A sigmoid of z is the softmax of the pair (0, z), so each loss is
written once, over K classes with probabilities p and one-hot labels g, and binary is K = 2. For all of them:

* Ignored pixels count nowhere: not in a sum, nor in the divider of a mean, nor in the smoothing. Their gradient is
  exactly 0, even where their logits are infinite or NaN. A batch without a valid pixel gives 0, with a gradient of 0.
* The arithmetic is float32 (float64 for float64 logits) under any autocast: sums over pixels overflow float16.
* Nothing waits for the device and nothing runs that CUDA refuses under ``torch.use_deterministic_algorithms``.
* A label that is neither a class nor ``ignore_index`` isn't looked for (that would wait for the device): the data
  module has refused it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Mode = Literal["binary", "multiclass"]
Options = Mapping[str, Any]


class Pixels(NamedTuple):
    """A batch as the losses see it: P = H·W pixels, the ignored ones blanked."""

    logits: Tensor  # (N, K, P), 0 at ignored pixels
    onehot: Tensor  # (N, K, P), 0 for every class at ignored pixels
    valid: Tensor  # (N, 1, P), 1 or 0


class SegmentationLoss(nn.Module):
    """What the losses share: checks, blanking, precision. Each takes these arguments (``**common``) beside its own.

    Args:
        num_classes: Channels of the logits; 1 is binary.
        ignore_index: Label of the pixels that don't count; not itself a class.
        mode: For configs that state it; must agree with ``num_classes``.
        from_logits: Likewise; only True, since a stable loss needs logits.

    Raises:
        ValueError: Options contradict each other; when called, shapes that don't fit.
    """

    def __init__(
        self, *, num_classes: int, ignore_index: int, mode: Mode | None = None, from_logits: bool = True
    ) -> None:
        super().__init__()
        self.num_channels, self.ignore_index = num_classes, ignore_index
        self.binary, self.num_labels = num_classes == 1, max(num_classes, 2)
        expected = "binary" if self.binary else "multiclass"
        self._require(mode in (None, expected), f"mode is {mode!r}, but num_classes = {num_classes} means {expected!r}")
        self._require(from_logits is True, "from_logits must be true: the networks give logits, not probabilities")
        own = not 0 <= ignore_index < self.num_labels
        self._require(own, f"ignore_index {ignore_index} is also a class (0..{self.num_labels - 1})")

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss of ``logits`` (N, C, H, W), any float dtype, against integer labels ``target`` (N, H, W)."""
        fits = target.ndim == 3 and logits.shape == (len(target), self.num_channels, *target.shape[1:])
        found = f"{tuple(logits.shape)} and {tuple(target.shape)}"
        self._require(fits, f"logits must be (N, {self.num_channels}, H, W) and labels (N, H, W), got {found}")
        with torch.autocast(logits.device.type, enabled=False):
            # To int64 before any comparison: in uint8, 156 equals an index of -100.
            labels = target.long().flatten(1).unsqueeze(1)
            ignored = labels == self.ignore_index
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32)).flatten(2)
            logits = logits.masked_fill(ignored, 0.0)  # a product with 0 would let NaN and infinity through
            if self.binary:
                logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
            classes = torch.arange(self.num_labels, device=target.device).view(1, -1, 1)
            onehot = (labels == classes) & ~ignored
            return self._loss(Pixels(logits, onehot.to(logits.dtype), (~ignored).to(logits.dtype)))

    def _loss(self, pixels: Pixels) -> Tensor:
        raise NotImplementedError

    def _require(self, condition: bool, message: str) -> None:
        if not condition:
            raise ValueError(f"{type(self).__name__}: {message}")

    def _per_class(self, option: str, values: Sequence[float] | None) -> list[float]:
        values = [1.0] * self.num_labels if values is None else list(values)
        self._require(len(values) == self.num_labels, f"{option} needs {self.num_labels} numbers, one a class")
        return values

    def _averaged(self, classes: Sequence[int] | None) -> list[float]:
        # 1 for the classes in the mean, else 0. The target is all that a binary overlap is about.
        self._require(not self.binary or classes is None, "classes is for multiclass; binary has one target class")
        labels = range(self.num_labels)
        chosen = {1} if self.binary else set(labels if classes is None else classes)
        self._require(bool(chosen) and chosen <= set(labels), f"classes must be some of 0..{self.num_labels - 1}")
        return [float(label in chosen) for label in labels]


def _soft_counts(pixels: Pixels) -> list[Tensor]:
    """TP, FP, FN and TN of each class, (K,), in pixels: TP_c = Σ p_c g_c, FP_c = Σ p_c (1 - g_c), and so on."""
    hit, yes = pixels.logits.softmax(dim=1), pixels.onehot
    miss, no = 1 - hit, pixels.valid - yes
    # Four sums of their own: as differences of sums they would cancel where a class is rare.
    return [product.sum((0, 2)) for product in (hit * yes, hit * no, miss * yes, miss * no)]


def _divide(numerator: Tensor, weight: Tensor) -> Tensor:
    # A mean of nothing is 0, since its numerator is; no weight that occurs is as small as the clamp.
    return numerator / weight.clamp_min(torch.finfo(weight.dtype).tiny)


class DiceLoss(SegmentationLoss):
    """Soft Dice loss (Milletari et al. 2016, arXiv:1606.04797), and the form of all overlap losses.

    L = Σ_c w_c (1 - S_c) / Σ_c w_c with S_c = (TP_c + s) / (TP_c + α FP_c + β FN_c + s), here α = β = 1/2, from soft
    counts over all valid pixels of the batch. Binary: of the target class alone.

    Args:
        smooth: s, in pixels. With the default of 1 the loss of a class that the batch lacks falls to 0 as its false
            positives vanish. With 0 it would be the constant 1, so the mean leaves such a class out then.
        eps: Least denominator, and least S_c under ``log_loss``.
        log_loss: -log S_c in place of 1 - S_c.
        classes: The classes to average over, by default all; multiclass only.
        class_weights: w_c, one a class; multiclass only.
    """

    alpha, beta, gamma = 0.5, 0.5, 1.0  # weights of false positives and negatives; exponent of each class's loss

    def __init__(
        self,
        *,
        smooth: float = 1.0,
        eps: float = 1e-7,
        log_loss: bool = False,
        classes: Sequence[int] | None = None,
        class_weights: Sequence[float] | None = None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self._require(
            not self.binary or class_weights is None, "class_weights is for multiclass; binary has one target"
        )
        self.smooth, self.eps, self.log_loss = smooth, eps, log_loss
        weights = zip(self._per_class("class_weights", class_weights), self._averaged(classes), strict=True)
        self.weights = [weight * averaged for weight, averaged in weights]

    def _loss(self, pixels: Pixels) -> Tensor:
        tp, fp, fn, _ = _soft_counts(pixels)
        error = self.alpha * fp + self.beta * fn
        total = (tp + error + self.smooth).clamp_min(self.eps)
        loss = -((tp + self.smooth) / total).clamp_min(self.eps).log() if self.log_loss else error / total
        if self.gamma != 1:
            loss = loss.clamp_min(self.eps) ** self.gamma  # a power below 1 has an infinite slope at 0
        weights = loss.new_tensor(self.weights)
        if self.smooth == 0:
            weights = weights * pixels.onehot.amax((0, 2))
        return _divide((weights * loss).sum(), weights.sum())


class JaccardLoss(DiceLoss):
    """Soft Jaccard (IoU) loss (Rahman & Wang 2016, doi:10.1007/978-3-319-50835-1_22): Dice's form with α = β = 1."""

    alpha, beta = 1.0, 1.0


class TverskyLoss(DiceLoss):
    """Tversky loss (Salehi et al. 2017, arXiv:1706.05721): Dice's form, with its ``options``, for any α and β.

    ``alpha`` weighs false positives, ``beta`` false negatives; ``gamma`` is the exponent of each class's loss.
    """

    def __init__(self, *, alpha: float = 0.5, beta: float = 0.5, gamma: float = 1.0, **options: Any) -> None:
        super().__init__(**options)
        self.alpha, self.beta, self.gamma = alpha, beta, gamma


class FocalTverskyLoss(TverskyLoss):
    """Focal Tversky loss (Abraham & Khan 2019, arXiv:1810.07842), in the letters of Yeung et al. (arXiv:2102.04525).

    L = mean_c (1 - T_c)^γ with T_c = (TP_c + s) / (TP_c + δ FN_c + (1 - δ) FP_c + s); ``options`` are Dice's. ``gamma``
    is the exponent itself: the default 0.75 is the 1/γ of Abraham & Khan at their γ = 4/3. Below 1 it raises the
    gradient of classes that are nearly right, above 1 that of classes that are far off.
    """

    def __init__(self, *, delta: float = 0.7, gamma: float = 0.75, **options: Any) -> None:
        super().__init__(alpha=1 - delta, beta=delta, gamma=gamma, **options)


class LovaszLoss(SegmentationLoss):
    """Lovász hinge (binary) and Lovász-Softmax (multiclass) (Berman et al. 2018, arXiv:1705.08790).

    Δ(wrong pixels) = 1 - IoU, extended to pixels that are wrong by m: L = Σ_i m_i (Δ({1..i}) - Δ({1..i-1})), largest m
    first. Multiclass: m = |g_c - p_c|, averaged over classes; 1 - IoU itself for hard predictions. Binary:
    m = max(0, 1 - z (2g - 1)), a hinge on the logit: never below 1 - IoU, not bounded above.

    Args:
        per_image: Mean over the images with valid pixels, instead of one loss of all pixels of the batch.
        classes: The mean takes in the classes with true pixels in the batch (image): of all classes ("present"), or of
            those in a list. "all" takes in absent ones as well. Multiclass only: a binary target always counts.
    """

    def __init__(
        self, *, per_image: bool = False, classes: Literal["present", "all"] | Sequence[int] = "present", **common: Any
    ) -> None:
        super().__init__(**common)
        named = isinstance(classes, str)
        self._require(not named or classes in ("present", "all"), "classes must be 'present', 'all' or a list")
        self.per_image, self.present_only = per_image, not self.binary and classes != "all"
        self.weights = self._averaged(None if isinstance(classes, str) else classes)

    def _loss(self, pixels: Pixels) -> Tensor:
        logits, onehot, valid = pixels
        weights = logits.new_tensor(self.weights)
        if self.binary:
            onehot, weights = onehot[:, 1:], weights[1:]
            errors = F.relu(1 - (logits[:, 1:] - logits[:, :1]) * (2 * onehot - 1))
        else:
            errors = (onehot - logits.softmax(dim=1)).abs()
        if not self.per_image:  # to (1, K, N·P)
            errors, onehot, valid = (t.transpose(0, 1).flatten(1).unsqueeze(0) for t in (errors, onehot, valid))
        # Ignored pixels go last, add nothing there and change no step before them.
        errors, order = errors.masked_fill(valid == 0, -1.0).sort(dim=-1, descending=True, stable=True)
        losses = (F.relu(errors) * _jaccard_steps(onehot.gather(-1, order) > 0)).sum(-1)  # (N or 1, K)
        weights = weights * (onehot if self.present_only else valid).amax(-1)
        images, counted = _divide((weights * losses).sum(1), weights.sum(1)), weights.amax(1)
        return _divide((counted * images).sum(), counted.sum())


def _jaccard_steps(foreground: Tensor) -> Tensor:
    """By how much each pixel (..., P) raises 1 - IoU when the pixels go wrong in this order.

    1/U where a true pixel is missed, I/(U(U - 1)) where a false one is claimed, with intersection I and union U after
    it. The usual difference of two ratios near 1 is lost to float32 rounding from about 10^6 pixels on. The cumulative
    sum is one of integers, which deterministic CUDA allows (a float one, some releases of torch refuse).
    """
    total, missed = foreground.sum(-1, keepdim=True), foreground.cumsum(-1, dtype=torch.int32)
    rank = torch.arange(1, foreground.shape[-1] + 1, device=foreground.device)
    intersection, union = (total - missed).float(), (total + rank - missed).float()
    claimed = intersection / union / (union - 1).clamp_min(1)
    # Only without true pixels does a claim make the union 1: there the loss steps from 0 to 1 at once.
    return torch.where(foreground, 1 / union, torch.where(union == 1, 1.0, claimed))


class FocalLoss(SegmentationLoss):
    """Focal loss (Lin et al. 2017, arXiv:1708.02002): the mean over valid pixels of -α_t (1 - p_t)^γ log p_t.

    p_t is the probability of the true class; multiclass that of the softmax, not of one sigmoid a class.

    Args:
        alpha: α_t. A number is that of the target (multiclass: of every class but 0), and 1 - alpha that of class 0; a
            list has one a class; None is 1 throughout.
        gamma: γ >= 0; 0 gives cross-entropy.
        reduction: "mean", or "sum" over the valid pixels.
        normalized: Divide the sum by Σ (1 - p_t)^γ, held constant, whatever ``reduction`` says (Sofiiuk et al. 2019,
            arXiv:1909.07829): easy pixels lose weight to hard ones, the total stays.
        reduced_threshold: th of the reduced focal loss (Sergievskiy & Ponamarev 2019, arXiv:1903.01347): the factor is
            1 where p_t < th and ((1 - p_t) / th)^γ elsewhere.
    """

    def __init__(
        self,
        *,
        alpha: float | Sequence[float] | None = None,
        gamma: float = 2.0,
        reduction: Literal["mean", "sum"] = "mean",
        normalized: bool = False,
        reduced_threshold: float | None = None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self._require(reduction in ("mean", "sum"), f"reduction must be 'mean' or 'sum', got {reduction!r}")
        if isinstance(alpha, int | float):
            alpha = [1 - alpha] + [alpha] * (self.num_labels - 1)
        self.alpha, self.gamma = self._per_class("alpha", alpha), gamma
        self.reduction, self.normalized, self.reduced_threshold = reduction, normalized, reduced_threshold

    def _loss(self, pixels: Pixels) -> Tensor:
        log_p, valid = pixels.logits.log_softmax(dim=1), pixels.valid.squeeze(1)
        log_pt = (log_p * pixels.onehot).sum(1)  # (N, P), 0 at ignored pixels
        # 1 - p_t as the sum of the other classes, in logarithms: its powers keep a finite slope where p_t rounds to 1.
        log_rest = log_p.masked_fill(pixels.onehot > 0, -torch.inf).logsumexp(dim=1)
        factor = (self.gamma * log_rest).exp()
        if self.reduced_threshold is not None:
            hard = log_pt.exp() < self.reduced_threshold
            factor = torch.where(hard, 1.0, factor / self.reduced_threshold**self.gamma)
        alpha = (log_p.new_tensor(self.alpha).view(1, -1, 1) * pixels.onehot).sum(1)
        loss = -(alpha * factor * log_pt).sum()
        if self.normalized:
            return _divide(loss, (factor.detach() * valid).sum())
        return _divide(loss, valid.sum()) if self.reduction == "mean" else loss


class CELoss(SegmentationLoss):
    """Cross-entropy as torch has it: Σ_i Σ_c -w_c q_c log p_c / Σ_i w_t with labels q_c = (1 - ε) g_c + ε/K.

    ``label_smoothing`` is ε, from 0 to below 1 (Szegedy et al. 2016, arXiv:1512.00567); binary labels become ε/2 and
    1 - ε/2. ``class_weights`` are the w_c; binary has two, background and target.
    """

    pos_weight = 1.0

    def __init__(
        self, *, label_smoothing: float = 0.0, class_weights: Sequence[float] | None = None, **common: Any
    ) -> None:
        super().__init__(**common)
        self._require(0 <= label_smoothing < 1, f"label_smoothing must be from 0 to below 1, got {label_smoothing}")
        self.label_smoothing, self.weights = label_smoothing, self._per_class("class_weights", class_weights)

    def _loss(self, pixels: Pixels) -> Tensor:
        labels = (1 - self.label_smoothing) * pixels.onehot + self.label_smoothing / self.num_labels * pixels.valid
        weights = pixels.logits.new_tensor(self.weights)
        terms = -weights * (labels * pixels.logits.log_softmax(dim=1)).sum((0, 2))
        if self.binary:
            terms = terms * terms.new_tensor((1.0, self.pos_weight))
        return _divide(terms.sum(), (weights * pixels.onehot.sum((0, 2))).sum())


class BCELoss(CELoss):
    """Binary cross-entropy: :class:`CELoss` and its ``options`` for one channel, with ``pos_weight``.

    ``pos_weight`` multiplies the target's term as in torch's ``BCEWithLogitsLoss``, and so raises the loss;
    ``class_weights`` are divided out again by their mean over the pixels.
    """

    def __init__(self, *, pos_weight: float = 1.0, **options: Any) -> None:
        super().__init__(**options)
        self._require(self.binary, f"num_classes must be 1, got {self.num_channels}; CELoss takes several classes")
        self.pos_weight = pos_weight


class MCCLoss(SegmentationLoss):
    """1 - Matthews correlation (Abhishek & Hamarneh 2021, arXiv:2010.13454) of soft counts over the batch.

    Gorodkin's R_K (2004, doi:10.1016/j.compbiolchem.2004.09.006), each class against the rest:
    Σ(TP TN - FP FN) / √(Σ(TP + FP)(TN + FN) · Σ(TP + FN)(TN + FP)), summed over classes; K = 2 is the usual MCC.
    ``eps`` pixels, above 0, are in each count from the start. A batch of one class has no correlation; the default of 1
    gives it a gradient against false positives, as ``smooth`` does in :class:`DiceLoss`.
    """

    def __init__(self, *, eps: float = 1.0, **common: Any) -> None:
        super().__init__(**common)
        self._require(eps > 0, f"eps must be above 0, got {eps}")
        self.eps = eps

    def _loss(self, pixels: Pixels) -> Tensor:
        tp, fp, fn, tn = (count + self.eps for count in _soft_counts(pixels))
        predicted, true = ((tp + fp) * (tn + fn)).sum(), ((tp + fn) * (tn + fp)).sum()
        correlation = (tp * tn - fp * fn).sum() / (predicted.sqrt() * true.sqrt())
        return (1 - correlation) * pixels.valid.amax()


class FocalDiceComboLoss(SegmentationLoss):
    """Dice + focal, each with its own options, or alpha·focal + (1 - alpha)·dice where ``alpha`` is given."""

    def __init__(
        self, *, focal_kwargs: Options = {}, dice_kwargs: Options = {}, alpha: float | None = None, **common: Any
    ) -> None:
        super().__init__(**common)
        shared: dict[str, Any] = {"num_classes": self.num_channels, "ignore_index": self.ignore_index}
        self.focal, self.dice = FocalLoss(**shared, **focal_kwargs), DiceLoss(**shared, **dice_kwargs)
        self.focal_weight, self.dice_weight = (1.0, 1.0) if alpha is None else (alpha, 1 - alpha)

    def _loss(self, pixels: Pixels) -> Tensor:
        return self.focal_weight * self.focal._loss(pixels) + self.dice_weight * self.dice._loss(pixels)


class SumOfLosses(nn.Module):
    """Σ weight · loss, of the same logits and labels."""

    def __init__(self, losses: Sequence[nn.Module], weights: Sequence[float]) -> None:
        super().__init__()
        self.losses, self.weights = nn.ModuleList(losses), tuple(weights)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The sum, a scalar, for ``logits`` (N, C, H, W) and labels ``target`` (N, H, W)."""
        return torch.stack([w * loss(logits, target) for w, loss in zip(self.weights, self.losses, strict=True)]).sum()


_ALL = (DiceLoss, JaccardLoss, TverskyLoss, FocalTverskyLoss, LovaszLoss, FocalLoss, BCELoss, CELoss, MCCLoss)
LOSSES: dict[str, type[SegmentationLoss]] = {loss.__name__: loss for loss in (*_ALL, FocalDiceComboLoss)}


def build_loss(terms: Sequence[Mapping[str, Any]], *, num_classes: int, ignore_index: int) -> nn.Module:
    """The weighted sum of the losses that a config names.

    Args:
        terms: One or more of ``{"name": key of LOSSES, "weight": float (1 if left out), "opts": {option: value}}``.
        num_classes: Channels of the logits; 1 is binary.
        ignore_index: Label of the pixels that count nowhere.

    Returns:
        A module: logits ``(N, C, H, W)`` and labels ``(N, H, W)`` to a scalar.

    Raises:
        ValueError: No term, an unknown name, or options that contradict each other or ``num_classes``.
        TypeError: An option that the loss doesn't have.
    """
    unknown = [term["name"] for term in terms if term["name"] not in LOSSES]
    if unknown or not terms:
        raise ValueError(f"unknown loss {', '.join(unknown) or '(none given)'}; allowed: {', '.join(LOSSES)}")
    common: dict[str, Any] = {"num_classes": num_classes, "ignore_index": ignore_index}
    losses = [LOSSES[term["name"]](**common, **(term.get("opts") or {})) for term in terms]
    return SumOfLosses(losses, [float(term.get("weight", 1.0)) for term in terms])
