"""Rules about the network of `segmentation_config`: architecture, encoder and options."""

from collections.abc import Iterator

from train.configs.problems import Problem
from train.configs.registries.encoders import SMP_ENCODERS
from train.configs.registries.families import family_of
from train.configs.rules.facts import ARCHITECTURE, BACKBONE, FAMILY, OPTS, Facts
from train.configs.wording import nearest, shown

_DECODER_CHANNELS = (*OPTS, "decoder_channels")


def _architecture(facts: Facts) -> Iterator[Problem]:
    family, said = facts.family, facts.get(*ARCHITECTURE)
    if family.match(said) is None:
        other = family_of(said)
        hint = f" (it belongs to segmentation_model_cls: {other.name})" if other else ""
        names = ", ".join(family.architectures)
        hint = hint or f"{nearest(said, family.architectures)} (allowed with {family.name}: {names})"
        yield Problem(f"unknown architecture {shown(said)}{hint}", (ARCHITECTURE, FAMILY))


def _backbone(facts: Facts) -> Iterator[Problem]:
    family, said = facts.family, facts.get(*BACKBONE)
    if family.resolve(said) is not None:
        return
    if family.backbones is None:
        text = f"is {shown(said)}, but {family.name} brings its own encoder (allowed: na, or leave it out)"
        yield Problem(text, (BACKBONE, FAMILY))
    else:
        near = nearest(said.removeprefix("tu-"), family.backbones.known())
        text = f"unknown {family.backbones.kind} {shown(said)}{near} (allowed: {family.backbones.allowed})"
        yield Problem(text, (BACKBONE,))


def _options(facts: Facts) -> Iterator[Problem]:
    architecture = facts.architecture
    for key, _ in facts.items(*OPTS):
        if key not in architecture.opts:
            text = f"{architecture.name} has no such option (it takes: {', '.join(sorted(architecture.opts))})"
            yield Problem(text, ((*OPTS, key),), of_key=True)


def _channels(facts: Facts) -> Iterator[Problem]:
    channels, architecture = facts.get(*_DECODER_CHANNELS), facts.architecture
    at = (_DECODER_CHANNELS, ARCHITECTURE)
    if isinstance(channels, int) and architecture.channels == "list":
        yield Problem(f"is one number, but {architecture.name} takes a list, deepest stage first", at)
    elif isinstance(channels, list) and architecture.channels == "number":
        yield Problem(f"is a list, but {architecture.name} takes one number", at)


def _depth(facts: Facts) -> Iterator[Problem]:
    channels, depth = facts.get(*_DECODER_CHANNELS), facts.get(*OPTS, "encoder_depth")
    if not isinstance(channels, list) or facts.architecture.channels != "list":
        return
    if depth is None and facts.encoder in SMP_ENCODERS:
        depth = 5  # timm's may have fewer stages
    if depth is not None and len(channels) != depth:
        yield Problem(
            f"has {len(channels)} numbers, but encoder_depth is {depth} (one for each stage)",
            (_DECODER_CHANNELS, (*OPTS, "encoder_depth")),
        )


def _attention(facts: Facts) -> Iterator[Problem]:
    channels, at = facts.get(*_DECODER_CHANNELS), (*OPTS, "decoder_attention_type")
    small = [number for number in channels if number < 16] if isinstance(channels, list) else []
    if small and facts.get(*at) == "scse" and facts.architecture.channels == "list":
        text = f"is scse, which needs 16 channels and more; decoder_channels has {small[0]}"
        yield Problem(text, (at, _DECODER_CHANNELS))


def _output_stride(facts: Facts) -> Iterator[Problem]:
    at = (*OPTS, "encoder_output_stride")
    stride, architecture = facts.get(*at), facts.architecture
    if stride is not None and architecture.strides and stride not in architecture.strides:
        allowed = ", ".join(map(str, architecture.strides))
        yield Problem(f"is {stride}, which {architecture.name} can't do (allowed: {allowed})", (at, ARCHITECTURE))


def _of_timm(facts: Facts) -> Iterator[Problem]:
    for key in ("encoder_indices", "encoder_params"):
        if key in facts.architecture.opts and facts.get(*OPTS, key) and facts.encoder in SMP_ENCODERS:
            yield Problem(
                f"is for encoders of timm's, and {facts.encoder} is one of SMP's own (use tu-NAME, or leave it out)",
                ((*OPTS, key), BACKBONE),
            )


RULES = (_architecture, _backbone, _options, _channels, _depth, _attention, _output_stride, _of_timm)
