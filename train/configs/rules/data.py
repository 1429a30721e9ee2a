"""What two keys of a YAML say together: values that are each fine, and don't fit each other.

Works on the plain mapping before Pydantic sees it, so that a contradiction is reported beside the mistakes that
Pydantic finds. A value of a wrong type or out of range is Pydantic's to report: here it is passed over.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from string import Formatter
from typing import Any

from train.configs import tables
from train.configs.document import KeyPath
from train.configs.problems import Problem, View
from train.configs.training import score_name
from train.configs.wording import shown

DATA = "data_module"
NETWORK = "segmentation_config"


@dataclass(frozen=True)
class Facts:
    """A YAML whose shared keys are settled, and what the rules ask of it.

    Attributes:
        view: The YAML.
        origin: Of a shared key: the path that its value comes from (see `shared.Settled`).
    """

    view: View
    origin: Mapping[str, KeyPath]

    @property
    def num_classes(self) -> int | None:
        """Classes that the network tells apart; None where the value is a mistake."""
        return self._shared("num_classes", default=1, highest=255)

    @property
    def num_bands(self) -> int | None:
        """Bands that the network sees; None where the value is a mistake."""
        return self._shared("num_bands", default=3, highest=1_000_000)

    def _shared(self, key: str, default: int, highest: int) -> int | None:
        if self.view.get(key) is None:
            return default
        value = self.view.typed(int, key)
        return value if value is not None and 1 <= value <= highest else None

    def where(self, key: str) -> tuple[KeyPath, ...]:
        """Where a shared key gets its value, for a problem to refer to; nothing where it is a default."""
        return (self.origin[key],) if key in self.origin else ()

    @property
    def ignore_index(self) -> int:
        """The label that counts nowhere."""
        given = self.view.typed(int, NETWORK, "ignore_index")
        return tables.default_ignore_index(self.num_classes or 1) if given is None else given

    @property
    def task(self) -> str:
        """Binary or multiclass."""
        return "binary" if self.num_classes == 1 else "multiclass"

    @property
    def labels(self) -> int:
        """How many classes a label may hold."""
        return max(2, self.num_classes or 1)


def check(data: Mapping[str, Any], origin: Mapping[str, KeyPath]) -> Iterator[Problem]:
    """Every contradiction among the keys about data, classes and checkpoints."""
    facts = Facts(View(data), origin)
    if facts.num_classes is not None:
        yield from _ignore_index(facts)
        yield from _class_names(facts)
        yield from _label_map(facts)
    if facts.num_bands is not None:
        yield from _bands(facts)
    yield from _normalization(facts)
    yield from _checkpoint(facts)


def _ignore_index(facts: Facts) -> Iterator[Problem]:
    given = facts.view.typed(int, NETWORK, "ignore_index")
    if given is not None and 0 <= given < facts.labels:
        yield Problem(
            f"is {given}, but {given} is a class too: num_classes {facts.num_classes} means labels 0 to "
            f"{facts.labels - 1} (allowed: {facts.labels} to 255)",
            ((NETWORK, "ignore_index"), *facts.where("num_classes")),
        )
    task = facts.view.typed(str, NETWORK, "task")
    if task in {"binary", "multiclass"} and task != facts.task:
        yield Problem(
            f"is {task}, but num_classes {facts.num_classes} is {facts.task}",
            ((NETWORK, "task"), *facts.where("num_classes")),
        )


def _class_names(facts: Facts) -> Iterator[Problem]:
    names = facts.view.typed(list, DATA, "class_names")
    if names is not None and len(names) != facts.labels:
        yield Problem(
            f"has {len(names)} names for {facts.labels} classes"
            + (" (a binary model has background and target)" if facts.num_classes == 1 else ""),
            ((DATA, "class_names"), *facts.where("num_classes")),
        )
    texts = [name for name in names or [] if isinstance(name, str)]
    for name in dict.fromkeys(name for name in texts if texts.count(name) > 1):
        yield Problem(f"names {shown(name)} twice (each class needs a name of its own)", ((DATA, "class_names"),))
    background = facts.view.get(DATA, "background_index")
    if facts.num_classes == 1 and (background == "none" or (facts.view.typed(int, DATA, "background_index") or 0) > 0):
        yield Problem(
            f"is {background}, but the background of a binary model is class 0 (leave it out)",
            ((DATA, "background_index"), *facts.where("num_classes")),
        )
    elif (facts.view.typed(int, DATA, "background_index") or 0) >= facts.labels:
        yield Problem(
            f"is {shown(background)}, but classes are 0 to {facts.labels - 1}",
            ((DATA, "background_index"), *facts.where("num_classes")),
        )


def _label_map(facts: Facts) -> Iterator[Problem]:
    label_map = facts.view.typed(dict, DATA, "label_map") or {}
    if "species_label_transform" in (facts.view.typed(list, "extra_transforms") or []):
        if label_map and label_map != tables.SPECIES_LABEL_TRANSFORM:
            yield Problem(
                "and extra_transforms both map labels (keep one of them)", ((DATA, "label_map"), ("extra_transforms",))
            )
        if facts.ignore_index != 2:
            given = facts.view.get(NETWORK, "ignore_index") is not None
            yield Problem(
                "species_label_transform makes 0 into 2, which must be ignore_index; that is "
                f"{facts.ignore_index}{'' if given else f' with num_classes {facts.num_classes}'}",
                (("extra_transforms",), *([(NETWORK, "ignore_index")] if given else facts.where("num_classes"))),
            )
        return
    for source, target in label_map.items():
        if type(target) is int and not 0 <= target < facts.labels and target != facts.ignore_index:
            yield Problem(
                f"maps {source} to {shown(target)}, which is no class (allowed: 0 to {facts.labels - 1}, and "
                f"{facts.ignore_index} to ignore)",
                ((DATA, "label_map", source), *facts.where("num_classes")),
            )


def _bands(facts: Facts) -> Iterator[Problem]:
    bands = facts.view.typed(list, DATA, "bands")
    if bands and len(bands) != facts.num_bands:
        yield Problem(
            f"chooses {len(bands)} bands, but num_bands is {facts.num_bands}",
            ((DATA, "bands"), *facts.where("num_bands")),
        )
    for key in ("mean", "std"):
        values = facts.view.typed(list, DATA, key)
        if values and len(values) != facts.num_bands:
            yield Problem(
                f"has {len(values)} of {facts.num_bands} (one for each band)", ((DATA, key), *facts.where("num_bands"))
            )


def _normalization(facts: Facts) -> Iterator[Problem]:
    given = {key: facts.view.get(DATA, key) for key in ("mean", "std")}
    sound = all(value is None or value == "auto" or isinstance(value, list) for value in given.values())
    if sound and len({type(value) for value in given.values()}) > 1:
        yield Problem(
            "mean and std go together: both given, both auto, or neither",
            tuple((DATA, key) for key, value in given.items() if value is not None),
        )


def _checkpoint(facts: Facts) -> Iterator[Problem]:
    said = facts.view.get("checkpoint", "monitor")
    monitor = score_name("val/dice" if said is None else said) if said is None or isinstance(said, str) else None
    mode = facts.view.typed(str, "checkpoint", "mode")
    if monitor is not None:
        right = "min" if monitor.endswith("/loss") else "max"
        if mode in {"min", "max"} and mode != right:
            yield Problem(
                f"is {mode}, but the best {monitor} is the {'lowest' if right == 'min' else 'highest'} "
                f"(write {right}, or leave it out)",
                (("checkpoint", "mode"), ("checkpoint", "monitor")),
            )
        phase = monitor.partition("/")[0]
        for other in _phases(facts.view.typed(str, "checkpoint", "filename") or ""):
            if other != phase:
                yield Problem(
                    f"names a score of {other}/, but a checkpoint is taken when {monitor} is known, and its name can "
                    f"hold scores of {phase}/ only",
                    (("checkpoint", "filename"), ("checkpoint", "monitor")),
                )
    if facts.view.typed(int, "checkpoint", "save_top_k") == 0 and facts.view.get("checkpoint", "save_last") is False:
        yield Problem(
            "is 0, and save_last is false: no checkpoint would be kept (change one of them)",
            (("checkpoint", "save_top_k"), ("checkpoint", "save_last")),
        )
    if facts.view.get("early_stopping") is not None and facts.view.get("trainer", "limit_val_batches") == 0:
        stop = facts.view.get("early_stopping", "monitor")
        watched = monitor if stop is None else score_name(stop) if isinstance(stop, str) else None
        if watched is not None and watched.startswith("val/"):
            yield Problem(
                f"waits for {watched}, but limit_val_batches is 0: nothing is validated",
                (("early_stopping",), ("trainer", "limit_val_batches")),
            )


def _phases(template: str) -> set[str]:
    """The phases that a template's fields name (`{val/f1_epoch}` names val)."""
    try:
        fields = [field for _, field, _, _ in Formatter().parse(template) if field]
    except ValueError:
        return set()
    return {field.partition("/")[0] for field in fields if score_name(field) is not None}
