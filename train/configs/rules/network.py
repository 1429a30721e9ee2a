"""What the keys of a network say together: architecture, encoder, options and losses.

Like `rules.data`, on the plain mapping, beside Pydantic.
"""

from collections.abc import Collection, Iterator, Mapping
from itertools import pairwise
from typing import Any

from train.configs import tables
from train.configs.document import KeyPath
from train.configs.network import LossOpts, ModelOpts
from train.configs.problems import Problem, View
from train.configs.rules.data import NETWORK, Facts
from train.configs.wording import nearest, shown

ARCHITECTURE: KeyPath = (NETWORK, "architecture")
BACKBONE: KeyPath = (NETWORK, "backbone")
FAMILY: KeyPath = ("segmentation_model_cls",)


def check(data: Mapping[str, Any], origin: Mapping[str, KeyPath]) -> Iterator[Problem]:
    """Every contradiction among the keys about the network and its loss."""
    facts = Facts(View(data), origin)
    families = {
        "SMPSegmentationModel": _smp,
        "AerialFormer": _aerial_former,
        "DINOv2Segmentation": _dinov2,
    }
    family = facts.view.get(*FAMILY)
    if family is None:
        family = "SMPSegmentationModel"
    if isinstance(family, str):
        if family in families:
            yield from families[family](facts.view)
        else:
            yield _unknown_family(family)
    if facts.num_classes is not None:
        yield from _losses(facts)
    yield from _finetune(facts)
    yield from _swa(facts)


def _finetune(facts: Facts) -> Iterator[Problem]:
    at = (NETWORK, "finetune")
    stages = facts.view.typed(list, *at)
    if not stages:
        return
    if facts.view.get(NETWORK, "freeze_encoder") is True:
        yield Problem(
            "and freeze_encoder both say what is trained (keep one of them)", (at, (NETWORK, "freeze_encoder"))
        )
    if (facts.view.typed(int, "trainer", "max_steps") or -1) > 0:
        yield Problem("counts epochs, but max_steps counts steps (leave it out)", (at, ("trainer", "max_steps")))
    epochs = [stage["epoch"] for stage in stages if isinstance(stage, dict) and type(stage.get("epoch")) is int]
    if len(epochs) < len(stages):
        return
    if epochs[0] != 0:
        yield Problem(f"the first stage begins with epoch 0, found {epochs[0]}", ((*at, 0, "epoch"),))
    for number, (before, epoch) in enumerate(pairwise(epochs), 1):
        if epoch <= before:
            yield Problem(
                f"is {epoch}, but the stage before begins with {before} (epochs must rise)", ((*at, number, "epoch"),)
            )
    last = _epochs(facts)
    if last is not None and epochs[-1] >= last:
        yield Problem(
            f"is {epochs[-1]}, but training ends after {last} epochs, numbered from 0",
            ((*at, len(epochs) - 1, "epoch"), *facts.where("max_epoch")),
        )


def _swa(facts: Facts) -> Iterator[Problem]:
    at = (NETWORK, "swa")
    if facts.view.typed(dict, *at) is None:
        return
    if facts.view.get(NETWORK, "ema") is not None:
        yield Problem("and ema are two averages of the weights (keep one of them)", (at, (NETWORK, "ema")))
    if (facts.view.typed(int, "trainer", "max_steps") or -1) > 0:
        yield Problem("counts epochs, but max_steps counts steps (leave it out)", (at, ("trainer", "max_steps")))
    last = _epochs(facts)
    said = facts.view.get(*at, "start_epoch")
    stages = facts.view.typed(list, NETWORK, "finetune")
    stage = stages[-1].get("epoch") if stages and isinstance(stages[-1], dict) else 0
    if last is None or type(stage) is not int or not 0 <= stage < last:
        return
    start = tables.default_swa_start(stage, last) if said is None else facts.view.typed(int, *at, "start_epoch")
    if start is None or start < 0:
        return
    where: KeyPath = at if said is None else (*at, "start_epoch")
    if start >= last:
        yield Problem(
            f"is {start}, but training ends after {last} epochs, numbered from 0", (where, *facts.where("max_epoch"))
        )
    elif start <= stage or start - stage < (_warmup(facts) or 0) * (last - stage):
        since = f"the stage that begins with {stage}" if stage else f"{last} epochs of training"
        yield Problem(
            f"would average from epoch {start} on, where the learning rate of {since} still rises (begin later)",
            (where, *facts.where("max_epoch")),
        )


def _warmup(facts: Facts) -> float | None:
    said = facts.view.get(NETWORK, "warmup_period")
    return 0.1 if said is None else float(said) if type(said) in {int, float} and 0 <= said < 1 else None


def _epochs(facts: Facts) -> int | None:
    """How many epochs training has; None where the value is a mistake."""
    return tables.MAX_EPOCH if facts.view.get("max_epoch") is None else facts.view.typed(int, "max_epoch")


def _unknown_family(family: str) -> Problem:
    meant = tables.match_architecture(family)
    if meant is not None:
        hint = f" (that is an architecture: write segmentation_model_cls: SMPSegmentationModel, architecture: {meant})"
    else:
        hint = f"{nearest(family, tables.MODEL_CLASSES)} (allowed: {', '.join(tables.MODEL_CLASSES)})"
    return Problem(f"unknown class {shown(family)}{hint}", (FAMILY,))


def _smp(view: View) -> Iterator[Problem]:
    said = view.get(*ARCHITECTURE)
    architecture = tables.match_architecture("UnetPlusPlus" if said is None else said) if _text_or_none(said) else None
    if architecture is None and isinstance(said, str):
        family = next((f for f in ("AerialFormer", "DINOv2Segmentation") if _starts(said, f)), None)
        hint = f" (it belongs to segmentation_model_cls: {family})"
        if family is None:
            hint = f"{nearest(said, tables.SMP_ARCHITECTURES)} (allowed: {', '.join(tables.SMP_ARCHITECTURES)})"
        yield Problem(f"unknown architecture {shown(said)}{hint}", (ARCHITECTURE,))
    backbone = view.typed(str, *BACKBONE)
    encoder = tables.resolve_backbone(backbone or "resnet34")[0] if backbone != "" else None
    if backbone is not None and encoder is None:
        near = nearest(backbone.removeprefix("tu-"), [*tables.SMP_ENCODERS, *tables.timm_models()])
        yield Problem(
            f"unknown encoder {shown(backbone)}{near} (allowed: an encoder of segmentation-models-pytorch, such as "
            "resnet34 or mit_b3, or tu-NAME with a name of timm's)",
            (BACKBONE,),
        )
    if architecture is None:
        return
    takes = tables.SMP_ARCHITECTURES[architecture]
    yield from _foreign_options(view, architecture, takes)
    if "decoder_channels" in takes:
        yield from _decoder_channels(view, architecture, encoder)
    stride = view.typed(int, NETWORK, "opts", "encoder_output_stride")
    strides = tables.OUTPUT_STRIDES.get(architecture, ())
    if stride in {8, 16, 32} and strides and stride not in strides:
        yield Problem(
            f"is {stride}, which {architecture} can't do (allowed: {', '.join(map(str, strides))})",
            ((NETWORK, "opts", "encoder_output_stride"), ARCHITECTURE),
        )
    for key in ("encoder_indices", "encoder_params"):
        if view.get(NETWORK, "opts", key) and encoder in tables.SMP_ENCODERS:
            yield Problem(
                f"is for encoders of timm's, and {encoder} is one of SMP's own (use tu-NAME, or leave it out)",
                ((NETWORK, "opts", key), BACKBONE),
            )


def _text_or_none(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _starts(name: str, family: str) -> bool:
    return name.lower().startswith(family.lower()[:6])


def _decoder_channels(view: View, architecture: str, encoder: str | None) -> Iterator[Problem]:
    at: KeyPath = (NETWORK, "opts", "decoder_channels")
    channels = view.get(*at)
    if architecture in tables.CHANNELS_LISTED:
        depth = view.typed(int, NETWORK, "opts", "encoder_depth")
        if depth is None and encoder in tables.SMP_ENCODERS:
            depth = 5
        if type(channels) is int:
            yield Problem(f"is one number, but {architecture} takes a list, deepest stage first", (at, ARCHITECTURE))
        elif isinstance(channels, list) and depth in {3, 4, 5} and channels and len(channels) != depth:
            yield Problem(
                f"has {len(channels)} numbers, but encoder_depth is {depth} (one for each stage)",
                (at, (NETWORK, "opts", "encoder_depth")),
            )
        small = [n for n in channels if type(n) is int and n < 16] if isinstance(channels, list) else []
        attention: KeyPath = (NETWORK, "opts", "decoder_attention_type")
        if small and view.get(*attention) == "scse":
            yield Problem(
                f"is scse, which needs 16 channels and more; decoder_channels has {small[0]}", (attention, at)
            )
    elif isinstance(channels, list) and channels:
        yield Problem(f"is a list, but {architecture} takes one number", (at, ARCHITECTURE))


def _aerial_former(view: View) -> Iterator[Problem]:
    said = view.get(*ARCHITECTURE)
    if isinstance(said, str) and tables.match_aerialformer(said) is None:
        near = nearest(said, tables.AERIALFORMER_ARCHITECTURES)
        yield Problem(
            f"unknown architecture {shown(said)}{near} (allowed with AerialFormer: "
            f"{', '.join(tables.AERIALFORMER_ARCHITECTURES)})",
            (ARCHITECTURE, FAMILY),
        )
    backbone = view.typed(str, *BACKBONE)
    if backbone is not None and backbone.lower() not in {"na", "none"}:
        yield Problem(
            f"is {shown(backbone)}, but AerialFormer brings its own encoder (allowed: na, or leave it out)",
            (BACKBONE, FAMILY),
        )
    yield from _foreign_options(view, "AerialFormer", tables.AERIALFORMER_OPTS)


def _dinov2(view: View) -> Iterator[Problem]:
    said = view.get(*ARCHITECTURE)
    decoder = tables.match_dinov2_decoder("multilevel" if said is None else said) if _text_or_none(said) else None
    if decoder is None and isinstance(said, str):
        yield Problem(
            f"unknown decoder {shown(said)}{nearest(said, tables.DINOV2_DECODERS)} "
            f"(allowed with DINOv2Segmentation: {', '.join(tables.DINOV2_DECODERS)})",
            (ARCHITECTURE, FAMILY),
        )
    backbone = view.typed(str, *BACKBONE)
    if backbone is not None and tables.resolve_dinov2(backbone) is None:
        near = nearest(backbone, [*tables.DINOV2_BACKBONES, *(m for m in tables.timm_models() if "dinov" in m)])
        yield Problem(
            f"unknown DINOv2 backbone {shown(backbone)}{near} (allowed: {', '.join(tables.DINOV2_BACKBONES)}, or a "
            "vit_*dinov2* or vit_*dinov3* of timm's)",
            (BACKBONE,),
        )
    yield from _foreign_options(view, "DINOv2Segmentation", tables.DINOV2_OPTS)
    channels = view.get(NETWORK, "opts", "decoder_channels")
    if isinstance(channels, list) and channels:
        yield Problem("is a list, but DINOv2Segmentation takes one number", ((NETWORK, "opts", "decoder_channels"),))
    elif decoder == "linear" and channels is not None:
        yield Problem(
            "the linear decoder has no channels of its own (leave it out)",
            ((NETWORK, "opts", "decoder_channels"), ARCHITECTURE),
        )


def _foreign_options(view: View, network: str, takes: Collection[str]) -> Iterator[Problem]:
    for key, value in (view.typed(dict, NETWORK, "opts") or {}).items():
        # A key that no network has is Pydantic's to report.
        if key in ModelOpts.model_fields and key not in takes and value is not None:
            text = f"{network} has no such option (it takes: {', '.join(sorted(takes))})"
            yield Problem(text, ((NETWORK, "opts", key),), of_key=True)


def _losses(facts: Facts) -> Iterator[Problem]:
    at: KeyPath = (NETWORK, "loss")
    loss = facts.view.get(*at)
    terms = [((*at, i), term) for i, term in enumerate(loss)] if isinstance(loss, list) else [(at, loss)]
    for path, term in terms:
        if isinstance(term, Mapping):
            name = tables.match_loss(term["name"]) if isinstance(term.get("name"), str) else None
            opts = term.get("opts")
            if isinstance(opts, Mapping):
                yield from _loss_options(facts, name, (*path, "opts"), opts)
            if name == "BCELoss" and facts.num_classes != 1:
                yield Problem(
                    f"BCELoss is binary, but num_classes is {facts.num_classes} (use CELoss)",
                    ((*path, "name"), *facts.where("num_classes")),
                )


def _loss_options(facts: Facts, name: str | None, at: KeyPath, opts: Mapping[Any, Any]) -> Iterator[Problem]:
    """What the options of a loss say together with its name and with num_classes."""
    for key, value in opts.items():
        if name is not None and key in LossOpts.model_fields and key not in tables.LOSSES[name] and value is not None:
            text = f"{name} has no such option (it takes: {', '.join(sorted(tables.LOSSES[name]))})"
            yield Problem(text, ((*at, key),), of_key=True)
        elif key in {"focal_kwargs", "dice_kwargs"} and isinstance(value, Mapping):
            yield from _loss_options(facts, "FocalLoss" if key == "focal_kwargs" else "DiceLoss", (*at, key), value)
        elif key in _RULES:
            for message, clashes in _RULES[key](facts, name, value):
                yield Problem(message, ((*at, key), *clashes))


Found = Iterator[tuple[str, tuple[KeyPath, ...]]]


def _mode(facts: Facts, name: str | None, value: Any) -> Found:
    if value in ("binary", "multiclass") and value != facts.task:
        yield f"is {value}, but num_classes {facts.num_classes} is {facts.task}", facts.where("num_classes")


def _ignore_index(facts: Facts, name: str | None, value: Any) -> Found:
    if type(value) is int and value != facts.ignore_index:
        text = f"is {shown(value)}, but {NETWORK}.ignore_index is {facts.ignore_index} (they are one value)"
        yield text, ((NETWORK, "ignore_index"),)


def _classes(facts: Facts, name: str | None, value: Any) -> Found:
    if isinstance(value, str) and name not in {None, "LovaszLoss"} and value in {"present", "all"}:
        yield f"is {value}, but {name} takes a list of classes", ()
    elif isinstance(value, list) and facts.num_classes == 1:
        yield "chooses among several classes, but num_classes is 1 (leave it out)", facts.where("num_classes")
    elif isinstance(value, list) and any(type(c) is int and c >= facts.labels for c in value):
        yield f"names classes {shown(value)}, but classes are 0 to {facts.labels - 1}", facts.where("num_classes")


def _class_weights(facts: Facts, name: str | None, value: Any) -> Found:
    if value == "auto" and facts.num_classes == 1 and name in tables.REGION_LOSSES:
        yield "weighs several classes, but num_classes is 1 (leave it out)", facts.where("num_classes")
    if not isinstance(value, list) or not value:
        return
    if facts.num_classes == 1 and name in tables.REGION_LOSSES:
        yield "weighs several classes, but num_classes is 1 (leave it out)", facts.where("num_classes")
    elif len(value) != facts.labels:
        yield f"has {len(value)} weights for {facts.labels} classes", facts.where("num_classes")
    elif not any(value):
        yield "are all 0: nothing would be learnt", ()


def _alpha(facts: Facts, name: str | None, value: Any) -> Found:
    if isinstance(value, list):
        if name not in {None, "FocalLoss"}:
            yield f"is a list, but {name} takes one number", ()
        elif len(value) != facts.labels:
            yield f"has {len(value)} weights for {facts.labels} classes", facts.where("num_classes")
    elif type(value) in {int, float} and value > 1 and name in {"FocalLoss", "FocalDiceComboLoss"}:
        yield f"{shown(value)} is out of range: with {name} it is a share (allowed: from 0 to 1)", ()


_RULES = {
    "mode": _mode,
    "ignore_index": _ignore_index,
    "classes": _classes,
    "class_weights": _class_weights,
    "alpha": _alpha,
}
