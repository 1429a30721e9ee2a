"""Rules about `data_module`: classes, labels, bands and normalisation."""

from collections.abc import Iterator

from train.configs.data import SPECIES_LABEL_TRANSFORM
from train.configs.problems import Problem
from train.configs.rules.facts import DATA, NETWORK, Facts, Rule
from train.configs.wording import shown


def _ignore_index(facts: Facts) -> Iterator[Problem]:
    index = facts.ignore_index
    if index < facts.labels:
        yield Problem(
            f"is {index}, but {index} is a class too: num_classes {facts.num_classes} means labels 0 to "
            f"{facts.labels - 1} (allowed: {facts.labels} to 255)",
            ((NETWORK, "ignore_index"), *facts.where("num_classes")),
        )


def _task(facts: Facts) -> Iterator[Problem]:
    task = facts.get(NETWORK, "task")
    if task not in {None, facts.task}:
        yield Problem(
            f"is {task}, but num_classes {facts.num_classes} is {facts.task}",
            ((NETWORK, "task"), *facts.where("num_classes")),
        )


def _class_names(facts: Facts) -> Iterator[Problem]:
    at = (DATA, "class_names")
    names = facts.get(*at) or []
    for name in dict.fromkeys(name for name in names if names.count(name) > 1):
        yield Problem(f"names {shown(name)} twice (each class needs a name of its own)", (at,))
    if names and len(names) != facts.labels:
        yield Problem(
            f"has {len(names)} names for {facts.labels} classes"
            + (" (a binary model has background and target)" if facts.num_classes == 1 else ""),
            (at, *facts.where("num_classes")),
        )


def _background(facts: Facts) -> Iterator[Problem]:
    background = facts.get(DATA, "background_index")
    at = ((DATA, "background_index"), *facts.where("num_classes"))
    if facts.num_classes == 1 and background not in {None, 0}:
        yield Problem(f"is {background}, but the background of a binary model is class 0 (leave it out)", at)
    elif isinstance(background, int) and background >= facts.labels:
        yield Problem(f"is {background}, but classes are 0 to {facts.labels - 1}", at)


def _label_map(facts: Facts) -> Iterator[Problem]:
    if facts.get("extra_transforms"):
        return
    for source, target in facts.items(DATA, "label_map"):
        if target >= facts.labels and target != facts.ignore_index:
            yield Problem(
                f"maps {source} to {target}, which is no class (allowed: 0 to {facts.labels - 1}, and "
                f"{facts.ignore_index} to ignore)",
                ((DATA, "label_map", source), *facts.where("num_classes")),
            )


def _species_labels(facts: Facts) -> Iterator[Problem]:
    if not facts.get("extra_transforms"):
        return
    if facts.get(DATA, "label_map") not in (None, {}, SPECIES_LABEL_TRANSFORM):
        yield Problem(
            "and extra_transforms both map labels (keep one of them)", ((DATA, "label_map"), ("extra_transforms",))
        )
    index = facts.ignore_index
    if index not in SPECIES_LABEL_TRANSFORM.values():
        given = facts.given(NETWORK, "ignore_index")
        yield Problem(
            "species_label_transform makes 0 into 2, which must be ignore_index; that is "
            f"{index}{'' if given else f' with num_classes {facts.num_classes}'}",
            (("extra_transforms",), *([(NETWORK, "ignore_index")] if given else facts.where("num_classes"))),
        )


def _bands(facts: Facts) -> Iterator[Problem]:
    bands, number = facts.get(DATA, "bands"), facts.get("num_bands")
    if bands is not None and len(bands) != number:
        yield Problem(
            f"chooses {len(bands)} bands, but num_bands is {number}", ((DATA, "bands"), *facts.where("num_bands"))
        )


def _each_band(key: str) -> Rule:
    def rule(facts: Facts) -> Iterator[Problem]:
        values, number = facts.get(DATA, key), facts.get("num_bands")
        if isinstance(values, list) and len(values) != number:
            yield Problem(
                f"has {len(values)} of {number} (one for each band)", ((DATA, key), *facts.where("num_bands"))
            )

    return rule


def _normalization(facts: Facts) -> Iterator[Problem]:
    given = {key: facts.get(DATA, key) for key in ("mean", "std")}
    if len({type(value) for value in given.values()}) > 1:
        yield Problem(
            "mean and std go together: both given, both auto, or neither",
            tuple((DATA, key) for key, value in given.items() if value is not None),
        )


RULES = (
    _ignore_index,
    _task,
    _class_names,
    _background,
    _label_map,
    _species_labels,
    _bands,
    _each_band("mean"),
    _each_band("std"),
    _normalization,
)
