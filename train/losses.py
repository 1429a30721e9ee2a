"""Every loss by name, all obeying ``ignore_index``.

Logits are ``(N, C, H, W)``, labels ``(N, H, W)``, the loss is a scalar. One channel is binary (sigmoid; labels 0, 1),
more are one class each (softmax; labels 0..C-1). A sigmoid of z is the softmax of the pair (0, z), so each loss is
written once, over K classes with probabilities p and one-hot labels g, and binary is K = 2. For all of them:

* Ignored pixels count nowhere: not in a sum, nor in the divider of a mean, nor in the smoothing. Their gradient is
  exactly 0, even where their logits are infinite or NaN. A batch without a valid pixel gives 0, with a gradient of 0.
* The arithmetic is float32 (float64 for float64 logits) under any autocast: sums over pixels overflow float16.
* Nothing waits for the device (so a label that is no class isn't found out) and nothing in it is non-deterministic.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

Mode = Literal["binary", "multiclass"] | None
Numbers = Sequence[float] | None
Options = Mapping[str, Any] | None


class SegmentationLoss(nn.Module):
    """What the losses share: checks (ValueError), blanking, precision, and the arguments called ``common`` below.

    ``num_classes`` is the channels of the logits; ``ignore_index`` isn't a class. Configs may state ``mode``, which has
    to agree with ``num_classes``, and ``from_logits``, which has to be True: a stable loss needs logits.
    """

    def __init__(self, *, num_classes: int, ignore_index: int, mode: Mode = None, from_logits: bool = True) -> None:
        super().__init__()
        self.num_channels, self.ignore_index = num_classes, ignore_index
        self.binary, self.num_labels = num_classes == 1, max(num_classes, 2)
        expected = "binary" if self.binary else "multiclass"
        self._require(mode in (None, expected), f"mode is {mode!r}, but num_classes = {num_classes} means {expected!r}")
        self._require(from_logits is True, "from_logits must be true: the networks give logits, not probabilities")
        self._require(ignore_index not in range(self.num_labels), f"ignore_index {ignore_index} is also a class")

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss of ``logits`` (N, C, H, W), any float dtype, against integer labels ``target`` (N, H, W)."""
        fits = target.ndim == 3 and logits.shape == (len(target), self.num_channels, *target.shape[1:])
        shapes = f"logits {tuple(logits.shape)} and labels {tuple(target.shape)}"
        self._require(fits, f"{shapes} are not (N, {self.num_channels}, H, W) and (N, H, W)")
        with torch.autocast(logits.device.type, enabled=False):
            labels = target.long().flatten(1).unsqueeze(1)  # int64 first: in uint8, 156 equals an index of -100
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32)).flatten(2)
            logits = logits.masked_fill(labels == self.ignore_index, 0.0)  # a product with 0 would let NaN through
            if self.binary:
                logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
            classes = torch.arange(self.num_labels, device=target.device).view(1, -1, 1)
            return self._loss(logits, (labels == classes).to(logits.dtype))

    def _loss(self, logits: Tensor, onehot: Tensor) -> Tensor:
        # Both (N, K, P) over P = H·W pixels, and 0 in every class at ignored ones: onehot.sum(1) tells which are valid.
        raise NotImplementedError

    def _require(self, condition: bool, message: str) -> None:
        if not condition:
            raise ValueError(f"{type(self).__name__}: {message}")

    def _per_class(self, option: str, values: Numbers) -> list[float]:
        values = [1.0] * self.num_labels if values is None else list(values)
        self._require(len(values) == self.num_labels, f"{option} needs {self.num_labels} numbers, one a class")
        return values

    def _class_mean(self, classes: Sequence[int] | None, class_weights: Numbers = None) -> list[float]:
        labels = set(range(self.num_labels))
        chosen = {1} if self.binary else labels if classes is None else set(classes)
        self._require(not self.binary or classes is class_weights is None, "classes, class_weights: multiclass only")
        self._require(set() < chosen <= labels, f"classes must be some of 0..{self.num_labels - 1}, got {classes}")
        return [w * (label in chosen) for label, w in enumerate(self._per_class("class_weights", class_weights))]


def _soft_counts(logits: Tensor, onehot: Tensor) -> list[Tensor]:
    """TP, FP, FN and TN of each class, (K,), in pixels: each its own sum, as differences cancel where one is rare."""
    hit = logits.softmax(dim=1)
    miss, others = 1 - hit, onehot.sum(1, keepdim=True) - onehot
    return [product.sum((0, 2)) for product in (hit * onehot, hit * others, miss * onehot, miss * others)]


def _row(values: Sequence[float], like: Tensor) -> Tensor:
    return torch.cat([like.new_full((1,), value) for value in values])  # a copy from the host would wait


def _divide(numerator: Tensor, weight: Tensor) -> Tensor:
    # A mean of nothing is its numerator, 0. By 1: the slope 1/tiny times a gradient scale would be infinite.
    return numerator / torch.where(weight > 0, weight, 1.0)


class DiceLoss(SegmentationLoss):
    """Soft Dice loss (Milletari et al. 2016, arXiv:1606.04797), and the form of all overlap losses.

    L = Σ_c w_c (1 - S_c)^γ / Σ_c w_c with S_c = (TP_c + s) / (TP_c + α FP_c + β FN_c + s), from soft counts over all
    valid pixels of the batch; binary: of the target class alone. Here α = β = 1/2 and γ = 1.

    Args:
        smooth: s, in pixels. With the default of 1 the loss of a class that the batch lacks falls to 0 as its false
            positives vanish. With 0 it would be the constant 1, so the mean leaves such a class out then.
        eps: Least denominator, and least S_c under ``log_loss``.
        log_loss: -log S_c in place of 1 - S_c.
        classes: The classes to average over, by default all; multiclass only.
        class_weights: w_c, one a class; multiclass only.
    """

    alpha, beta, gamma = 0.5, 0.5, 1.0

    def __init__(
        self,
        *,
        smooth: float = 1.0,
        eps: float = 1e-7,
        log_loss: bool = False,
        classes: Sequence[int] | None = None,
        class_weights: Numbers = None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.smooth, self.eps, self.log_loss = smooth, eps, log_loss
        self.weights = self._class_mean(classes, class_weights)

    def _loss(self, logits: Tensor, onehot: Tensor) -> Tensor:
        tp, fp, fn, _ = _soft_counts(logits, onehot)
        error = self.alpha * fp + self.beta * fn
        total = (tp + error + self.smooth).clamp_min(self.eps)
        loss = -((tp + self.smooth) / total).clamp_min(self.eps).log() if self.log_loss else error / total
        if self.gamma != 1:
            loss = loss.clamp_min(self.eps) ** self.gamma * (loss > self.eps)  # below 1 the slope at 0 is infinite
        weights = _row(self.weights, loss) * (onehot.amax((0, 2)) if self.smooth == 0 else 1.0)
        return _divide((weights * loss).sum(), weights.sum())


class JaccardLoss(DiceLoss):
    """Soft Jaccard (IoU) loss (Rahman & Wang 2016, doi:10.1007/978-3-319-50835-1_22): Dice's form with α = β = 1."""

    alpha, beta = 1.0, 1.0


class TverskyLoss(DiceLoss):
    """Tversky loss (Salehi et al. 2017, arXiv:1706.05721): Dice's form and ``options`` for any α, β and γ."""

    def __init__(self, *, alpha: float = 0.5, beta: float = 0.5, gamma: float = 1.0, **options: Any) -> None:
        super().__init__(**options)
        self.alpha, self.beta, self.gamma = alpha, beta, gamma


class FocalTverskyLoss(TverskyLoss):
    """Focal Tversky loss (Abraham & Khan 2019, arXiv:1810.07842): Dice's form and ``options`` with α = 1 - δ, β = δ.

    ``delta`` weighs false negatives as in Yeung et al. (arXiv:2102.04525). ``gamma`` is the exponent itself: 0.75 is
    the 1/γ of Abraham & Khan at their γ = 4/3. Below 1 it raises the gradient of classes that are nearly right.
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

    def __init__(self, *, per_image: bool = False, classes: str | Sequence[int] = "present", **common: Any) -> None:
        super().__init__(**common)
        labels = None if isinstance(classes, str) else classes
        self._require(classes in ("present", "all", labels), "classes must be 'present', 'all' or a list")
        self.per_image, self.present_only = per_image, not self.binary and classes != "all"
        self.weights = self._class_mean(labels)

    def _loss(self, logits: Tensor, onehot: Tensor) -> Tensor:
        valid, weights = onehot.sum(1, keepdim=True), _row(self.weights, logits)
        if self.binary:
            onehot, weights = onehot[:, 1:], weights[1:]
            errors = (1 - (logits[:, 1:] - logits[:, :1]) * (2 * onehot - 1)).relu()
        else:
            errors = (onehot - logits.softmax(dim=1)).abs()
        if not self.per_image:  # to (1, K, N·P)
            errors, onehot, valid = (t.transpose(0, 1).flatten(1).unsqueeze(0) for t in (errors, onehot, valid))
        # Ignored pixels go last: no step before depends on them, and by then the intersection is 0, so theirs are 0.
        errors, order = errors.masked_fill(valid == 0, -1.0).sort(dim=-1, descending=True, stable=True)
        losses = (errors * _jaccard_steps(onehot.gather(-1, order))).sum(-1)  # (N or 1, K)
        weights = weights * (onehot if self.present_only else valid).amax(-1)
        images, counted = _divide((weights * losses).sum(1), weights.sum(1)), weights.amax(1)
        return _divide((counted * images).sum(), counted.sum())


def _jaccard_steps(onehot: Tensor) -> Tensor:
    """By how much each pixel (..., P) raises 1 - IoU when the pixels go wrong in this order.

    1/U for a true pixel missed, I/(U(U - 1)) for a false one claimed, by intersection I and union U after it: the usual
    differences of ratios near 1 drown in float32 from about 10^6 pixels on.
    """
    true = onehot > 0  # cumulated as integers: CUDA may refuse floats in deterministic mode
    total, missed = true.sum(-1, keepdim=True), true.cumsum(-1, dtype=torch.int32)
    rank = torch.arange(1, true.shape[-1] + 1, device=true.device)
    intersection, union = (total - missed).to(onehot.dtype), (total + rank - missed).to(onehot.dtype)
    claimed = intersection / union / (union - 1).clamp_min(1)
    # Only without true pixels does a claim make the union 1: there the loss steps from 0 to 1 at once.
    return torch.where(true, 1 / union, torch.where(union == 1, 1.0, claimed))


class FocalLoss(SegmentationLoss):
    """Focal loss (Lin et al. 2017, arXiv:1708.02002): mean of -α_t (1 - p_t)^γ log p_t; multiclass by one softmax.

    Args:
        alpha: α_t, one a class, or one number: 1 - alpha for class 0 and alpha for the target (multiclass: all others).
        gamma: γ >= 0; 0 gives cross-entropy.
        reduction: "mean", or "sum" over the valid pixels.
        normalized: Divide the sum by Σ (1 - p_t)^γ, held constant, whatever the reduction (Sofiiuk et al. 2019,
            arXiv:1909.07829): easy pixels lose weight to hard ones, the total stays.
        reduced_threshold: Where p_t is below th the factor is 1, elsewhere ((1 - p_t) / th)^γ (reduced focal loss,
            Sergievskiy & Ponamarev 2019, arXiv:1903.01347).
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

    def _loss(self, logits: Tensor, onehot: Tensor) -> Tensor:
        log_p, valid = logits.log_softmax(dim=1), onehot.sum(1)
        log_pt = (log_p * onehot).sum(1)  # (N, P), 0 at ignored pixels
        # 1 - p_t as the sum of the other classes, in logarithms: its powers keep a finite slope where p_t rounds to 1.
        log_rest = log_p.masked_fill(onehot > 0, -torch.inf).logsumexp(dim=1)
        factor = (self.gamma * log_rest).exp()
        if self.reduced_threshold is not None:
            easy = factor / self.reduced_threshold**self.gamma
            factor = torch.where(log_pt.exp() < self.reduced_threshold, 1.0, easy)
        alpha = (_row(self.alpha, log_p).view(1, -1, 1) * onehot).sum(1)
        loss = -(alpha * factor * log_pt).sum()
        if self.reduction == "sum" and not self.normalized:
            return loss
        return _divide(loss, (factor.detach() * valid if self.normalized else valid).sum())


class CELoss(SegmentationLoss):
    """Cross-entropy as in torch: Σ_i Σ_c -w_c q_c log p_c / Σ_i w_t, with labels q_c = (1 - ε) g_c + ε/K.

    ``label_smoothing`` is ε < 1 (Szegedy et al. 2016, arXiv:1512.00567), ``class_weights`` the w_c. Binary is K = 2:
    labels ε/2 and 1 - ε/2, weights of background and target.
    """

    def __init__(self, *, label_smoothing: float = 0.0, class_weights: Numbers = None, **common: Any) -> None:
        super().__init__(**common)
        self._require(0 <= label_smoothing < 1, f"label_smoothing must be from 0 to below 1, got {label_smoothing}")
        self.label_smoothing, self.weights = label_smoothing, self._per_class("class_weights", class_weights)
        self.factors = [1.0] * self.num_labels

    def _loss(self, logits: Tensor, onehot: Tensor) -> Tensor:
        weights, factors = _row(self.weights, logits), _row(self.factors, logits)
        labels = (1 - self.label_smoothing) * onehot + self.label_smoothing / self.num_labels * onehot.sum(1, True)
        terms = -weights * factors * (labels * logits.log_softmax(dim=1)).sum((0, 2))
        return _divide(terms.sum(), (weights * onehot.sum((0, 2))).sum())


class BCELoss(CELoss):
    """Binary cross-entropy: :class:`CELoss` and its ``options`` for one channel, with torch's ``pos_weight``.

    That multiplies the target's term, and isn't divided out again by its mean over the pixels as class weights are.
    """

    def __init__(self, *, pos_weight: float = 1.0, **options: Any) -> None:
        super().__init__(**options)
        self._require(self.binary, f"num_classes must be 1, got {self.num_channels}; CELoss takes several classes")
        self.factors = [1.0, pos_weight]


class MCCLoss(SegmentationLoss):
    """1 - Matthews correlation of soft counts (Abhishek & Hamarneh 2021, arXiv:2010.13454; K > 2: Gorodkin 2004's R_K).

    Σ(TP TN - FP FN) / √(Σ(TP + FP)(TN + FN) · Σ(TP + FN)(TN + FP)), summed over classes, each against the rest
    (doi:10.1016/j.compbiolchem.2004.09.006). Each count starts with ``eps`` > 0 pixels: they give a batch of one class,
    where the ratio is 0/0, a gradient against false positives.
    """

    def __init__(self, *, eps: float = 1.0, **common: Any) -> None:
        super().__init__(**common)
        self._require(eps > 0, f"eps must be above 0, got {eps}")
        self.eps = eps

    def _loss(self, logits: Tensor, onehot: Tensor) -> Tensor:
        tp, fp, fn, tn = (count + self.eps for count in _soft_counts(logits, onehot))
        predicted, true = ((tp + fp) * (tn + fn)).sum(), ((tp + fn) * (tn + fp)).sum()
        correlation = (tp * tn - fp * fn).sum() / (predicted.sqrt() * true.sqrt())
        return (1 - correlation) * onehot.amax()


class SumOfLosses(nn.Module):
    """Σ weight · loss, of the same logits ``(N, C, H, W)`` and labels ``(N, H, W)``."""

    def __init__(self, losses: Sequence[nn.Module], weights: Sequence[float]) -> None:
        super().__init__()
        self.losses, self.weights = nn.ModuleList(losses), tuple(weights)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The sum, a scalar."""
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # once, so that gradients add in float32
        return torch.stack([w * loss(logits, target) for w, loss in zip(self.weights, self.losses, strict=True)]).sum()


class FocalDiceComboLoss(SumOfLosses):
    """Focal + Dice, each with its own options, or alpha·focal + (1 - alpha)·dice where ``alpha`` is given."""

    def __init__(
        self, *, focal_kwargs: Options = None, dice_kwargs: Options = None, alpha: float | None = None, **common: Any
    ) -> None:
        losses = FocalLoss(**{**(focal_kwargs or {}), **common}), DiceLoss(**{**(dice_kwargs or {}), **common})
        super().__init__(losses, (1.0, 1.0) if alpha is None else (alpha, 1 - alpha))


_OWN = (DiceLoss, JaccardLoss, TverskyLoss, FocalTverskyLoss, LovaszLoss, FocalLoss, BCELoss, CELoss, MCCLoss)
LOSSES: dict[str, type[nn.Module]] = {loss.__name__: loss for loss in (*_OWN, FocalDiceComboLoss)}


def build_loss(terms: Sequence[Mapping[str, Any]], *, num_classes: int, ignore_index: int) -> nn.Module:
    """The weighted sum of the losses that a config names, as a module that maps logits and labels to a scalar.

    A term is ``{"name": a key of LOSSES, "weight": a float (1 if left out), "opts": {option: value}}``; ``num_classes``
    is the channels of the logits (1 is binary), ``ignore_index`` the label of the pixels that count nowhere.

    Raises:
        ValueError: No term, an unknown name, or options that contradict each other or ``num_classes``.
        TypeError: An option that the loss doesn't have.
    """
    unknown = [term["name"] for term in terms if term["name"] not in LOSSES]
    if unknown or not terms:
        raise ValueError(f"unknown loss {', '.join(unknown) or '(none given)'}; allowed: {', '.join(LOSSES)}")
    common = {"num_classes": num_classes, "ignore_index": ignore_index}
    losses = [LOSSES[term["name"]](**common, **(term.get("opts") or {})) for term in terms]
    return SumOfLosses(losses, [float(term.get("weight", 1.0)) for term in terms])
