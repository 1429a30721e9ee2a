"""What two keys of a YAML say together: values that are each fine, and don't fit each other.

Works on the plain mapping before Pydantic sees it, so that a contradiction is reported beside the mistakes that Pydantic
finds. A value of a wrong type is Pydantic's to report: here it is passed over.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from train.configs import tables
from train.configs.config import SHARED_NAMES, SHARED_SECTIONS

T = TypeVar("T")
Path = tuple[str | int, ...]

# top-level key -> every path that may hold it
SHARED: dict[str, list[Path]] = {}
for _section, _key in SHARED_SECTIONS:
    SHARED.setdefault(SHARED_NAMES.get(_key, _key), [(SHARED_NAMES.get(_key, _key),)]).append((_section, _key))

_LABEL_TRANSFORM = {0: 2, 1: 0, 2: 1}


@dataclass(frozen=True)
class Problem:
    """Something that the user must mend, and where: the first path is where it shows, the rest is what it clashes with."""

    message: str
    paths: tuple[Path, ...]


@dataclass
class View:
    """Typed reading of an untyped mapping."""

    data: Any

    def get(self, path: Path) -> Any:
        """The value at a path; None where there is nothing."""
        value = self.data
        for key in path:
            if isinstance(value, Mapping):
                value = value.get(key)
            elif isinstance(value, list) and isinstance(key, int) and key < len(value):
                value = value[key]
            else:
                return None
        return value

    def typed(self, kind: type[T], *path: str | int) -> T | None:
        """The value at a path if it has this type."""
        value = self.get(path)
        return value if isinstance(value, kind) and not (kind is int and isinstance(value, bool)) else None


def share(data: dict[str, Any], overrides: Mapping[Path, Any]) -> list[Problem]:
    """Settles the keys that stand in several places, in `data` itself.

    Afterwards the top level holds the value that counts, and each section its own or, where it had none, nothing.
    An override of the top level reaches every section that has the key; one of a section replaces only that one, and
    counts.

    Args:
        data: The YAML with its overrides already written into it; changed in place.
        overrides: The overrides by path.

    Returns:
        A problem for each key whose values in the file disagree.
    """
    problems = []
    view = View(data)
    for top, paths in SHARED.items():
        overridden = [path for path in paths if path in overrides]
        if (top,) in overrides:
            for path in paths[1:]:
                if path not in overrides and view.get(path) is not None:
                    data[str(path[0])][path[1]] = overrides[(top,)]
        else:
            in_file = [(path, view.get(path)) for path in paths if path not in overridden]
            said = [(path, value) for path, value in in_file if value is not None]
            for path, value in said[1:]:
                if value != said[0][1]:
                    first = ".".join(map(str, said[0][0]))
                    problems.append(
                        Problem(
                            f"is {value!r}, but {first} is {said[0][1]!r} (they are one value: change one, or "
                            f"leave all but {top} out)",
                            (path, said[0][0]),
                        )
                    )
        counts = overridden[-1] if overridden else next((p for p in paths if view.get(p) is not None), None)
        if counts is not None:
            data[top] = view.get(counts)
    bands = view.typed(list, "data_module", "bands")
    if data.get("num_bands") is None and bands:
        data["num_bands"] = len(bands)
    return problems


def check(data: Mapping[str, Any]) -> Iterator[Problem]:
    """Every contradiction in a YAML whose shared keys are settled."""
    view = View(data)
    yield from _network(view)
    yield from _classes(view)
    yield from _bands(view)
    yield from _monitor(view)


def _network(view: View) -> Iterator[Problem]:
    family = view.typed(str, "segmentation_model_cls") or "SMPSegmentationModel"
    at: Path = ("segmentation_config", "architecture")
    architecture = view.typed(str, *at)
    backbone = view.typed(str, "segmentation_config", "backbone")
    opts = view.typed(dict, "segmentation_config", "opts") or {}
    if family == "SMPSegmentationModel":
        canonical = tables.match_architecture(architecture or "UnetPlusPlus")
        if architecture is not None and canonical is None:
            others = {"aerialformer": "AerialFormer", "dinov2": "DINOv2Segmentation"}
            other = next((cls for start, cls in others.items() if architecture.lower().startswith(start)), None)
            hint = (
                f" (it belongs to segmentation_model_cls: {other})"
                if other
                else f"{tables.nearest(architecture, tables.SMP_ARCHITECTURES)} "
                f"(allowed: {', '.join(tables.SMP_ARCHITECTURES)})"
            )
            yield Problem(f"unknown architecture {architecture!r}{hint}", (at,))
        if backbone is not None and tables.resolve_backbone(backbone)[0] is None:
            near = tables.nearest(backbone.removeprefix("tu-"), [*tables.SMP_ENCODERS, *tables.timm_models()])
            yield Problem(
                f"unknown encoder {backbone!r}{near} (allowed: an encoder of segmentation-models-pytorch, such as "
                "resnet34 or mit_b3, or tu-NAME with a name of timm's)",
                (("segmentation_config", "backbone"),),
            )
        takes = tables.SMP_ARCHITECTURES.get(canonical or "")
    elif family == "AerialFormer":
        canonical = tables.match_aerialformer(architecture or "AerialFormer")
        if canonical is None:
            yield Problem(
                f"unknown architecture {architecture!r}{tables.nearest(architecture or '', tables.AERIALFORMER_ARCHITECTURES)} "
                f"(allowed: {', '.join(tables.AERIALFORMER_ARCHITECTURES)})",
                (at, ("segmentation_model_cls",)),
            )
        if backbone is not None and backbone.lower() not in {"na", "none"}:
            yield Problem(
                f"AerialFormer brings its own encoder: {backbone!r} can't be used (allowed: na, or leave it out)",
                (("segmentation_config", "backbone"),),
            )
        takes = tables.AERIALFORMER_OPTS
    elif family == "DINOv2Segmentation":
        canonical = tables.match_dinov2_decoder(architecture or "multilevel")
        if canonical is None:
            yield Problem(
                f"unknown decoder {architecture!r}{tables.nearest(architecture or '', tables.DINOV2_DECODERS)} "
                f"(allowed with DINOv2Segmentation: {', '.join(tables.DINOV2_DECODERS)})",
                (at, ("segmentation_model_cls",)),
            )
        if backbone is not None and tables.resolve_dinov2(backbone) is None:
            yield Problem(
                f"unknown DINOv2 backbone {backbone!r}{tables.nearest(backbone, tables.DINOV2_BACKBONES)} (allowed: "
                f"{', '.join(tables.DINOV2_BACKBONES)}, or a DINOv2 or DINOv3 name of timm's)",
                (("segmentation_config", "backbone"),),
            )
        takes = tables.DINOV2_OPTS
    else:
        meant = tables.match_architecture(family)
        hint = (
            f" (that is an architecture: write segmentation_model_cls: SMPSegmentationModel and architecture: {meant})"
            if meant
            else f"{tables.nearest(family, tables.MODEL_CLASSES)} (allowed: {', '.join(tables.MODEL_CLASSES)})"
        )
        yield Problem(f"unknown class {family!r}{hint}", (("segmentation_model_cls",),))
        return
    from train.configs.config import ModelOpts

    for key in opts:
        # A key that no network has is Pydantic's to report.
        if takes is not None and key in ModelOpts.model_fields and key not in takes and opts[key] is not None:
            yield Problem(
                f"{canonical} has no such option (it takes: {', '.join(sorted(takes))})",
                (("segmentation_config", "opts", key),),
            )


def _classes(view: View) -> Iterator[Problem]:
    num_classes = view.typed(int, "num_classes") or 1
    where = next((p for p in SHARED["num_classes"] if view.get(p) is not None), ("num_classes",))
    task = "binary" if num_classes == 1 else "multiclass"
    labels = max(2, num_classes)
    ignore = view.typed(int, "segmentation_config", "ignore_index")
    if ignore is not None and 0 <= ignore < labels:
        yield Problem(
            f"is {ignore}, but {ignore} is a class too: num_classes {num_classes} means labels 0 to {labels - 1} "
            f"(allowed: {labels} to 255)",
            (("segmentation_config", "ignore_index"), where),
        )
    if ignore is None:
        ignore = 2 if num_classes <= 2 else 255
    said = view.typed(str, "segmentation_config", "task")
    if said in {"binary", "multiclass"} and said != task:
        yield Problem(f"is {said}, but num_classes {num_classes} is {task}", (("segmentation_config", "task"), where))
    yield from _losses(view, num_classes, where)
    names = view.typed(list, "data_module", "class_names")
    if names is not None and len(names) != labels:
        yield Problem(
            f"has {len(names)} names for {labels} classes"
            + (" (a binary model has background and target)" if labels != num_classes else ""),
            (("data_module", "class_names"), where),
        )
    if names is not None and len(set(map(str, names))) != len(names):
        yield Problem("names a class twice", (("data_module", "class_names"),))
    background = view.typed(int, "data_module", "background_index")
    if background is not None and background >= labels:
        yield Problem(
            f"is {background}, but classes are 0 to {labels - 1}", (("data_module", "background_index"), where)
        )
    if num_classes == 1 and view.get(("data_module", "background_index")) not in {None, 0}:
        yield Problem("a binary model's background is class 0", (("data_module", "background_index"), where))
    label_map = view.typed(dict, "data_module", "label_map")
    if view.typed(list, "extra_transforms"):
        if label_map is not None and label_map != _LABEL_TRANSFORM:
            yield Problem(
                "and extra_transforms both map labels (keep one)", (("data_module", "label_map"), ("extra_transforms",))
            )
        label_map = _LABEL_TRANSFORM
        if ignore != 2:
            yield Problem(
                f"species_label_transform makes 0 into 2, which must be ignore_index; that is {ignore}",
                (("extra_transforms",), ("segmentation_config", "ignore_index")),
            )
    for source, target in (label_map or {}).items():
        if isinstance(target, int) and not 0 <= target < labels and target != ignore:
            yield Problem(
                f"maps {source} to {target}, which is no class (allowed: 0 to {labels - 1}, and {ignore} to ignore)",
                (("data_module", "label_map", source), where),
            )


def _losses(view: View, num_classes: int, where: Path) -> Iterator[Problem]:
    at: Path = ("segmentation_config", "loss")
    loss = view.get(at)
    terms = [((*at, i), term) for i, term in enumerate(loss)] if isinstance(loss, list) else [(at, loss)]
    task = "binary" if num_classes == 1 else "multiclass"
    for path, term in terms:
        if not isinstance(term, Mapping):
            continue
        opts = term.get("opts")
        for inner in ((), ("focal_kwargs",), ("dice_kwargs",)):
            found = View(opts).get(inner) if inner else opts
            mode = View(found).typed(str, "mode")
            if mode in {"binary", "multiclass"} and mode != task:
                yield Problem(f"is {mode}, but num_classes {num_classes} is {task}", ((*path, "opts", *inner, "mode"), where))
            classes = View(found).typed(list, "classes") or []
            wrong = [c for c in classes if isinstance(c, int) and c >= max(2, num_classes)]
            if wrong or (classes and num_classes == 1):
                yield Problem(
                    f"names classes {classes}, but num_classes is {num_classes}"
                    + (" (classes chooses among several: leave it out)" if num_classes == 1 else ""),
                    ((*path, "opts", *inner, "classes"), where),
                )
            weights = View(found).typed(list, "class_weights")
            if weights is not None and len(weights) != max(2, num_classes):
                yield Problem(
                    f"has {len(weights)} weights for {max(2, num_classes)} classes",
                    ((*path, "opts", *inner, "class_weights"), where),
                )
        name = tables.match_loss(str(term.get("name")))
        if name == "BCELoss" and num_classes != 1:
            yield Problem(f"BCELoss is binary, but num_classes is {num_classes} (use CELoss)", ((*path, "name"), where))


def _bands(view: View) -> Iterator[Problem]:
    num_bands = view.typed(int, "num_bands") or 3
    where = next((p for p in SHARED["num_bands"] if view.get(p) is not None), ("data_module", "bands"))
    bands = view.typed(list, "data_module", "bands")
    if bands is not None and len(bands) != num_bands:
        yield Problem(f"chooses {len(bands)} bands, but num_bands is {num_bands}", (("data_module", "bands"), where))
    for key in ("mean", "std"):
        values = view.typed(list, "data_module", key)
        if values is not None and len(values) != num_bands:
            yield Problem(f"has {len(values)} values for {num_bands} bands", (("data_module", key), where))
    given = {key: view.get(("data_module", key)) for key in ("mean", "std")}
    kinds = {key: type(value).__name__ for key, value in given.items()}
    if kinds["mean"] != kinds["std"] and set(kinds.values()) <= {"list", "str", "NoneType"}:
        yield Problem(
            "mean and std go together: both given, both auto, or neither",
            tuple(("data_module", key) for key, value in given.items() if value is not None),
        )


def _monitor(view: View) -> Iterator[Problem]:
    monitor = view.typed(str, "checkpoint", "monitor")
    mode = view.typed(str, "checkpoint", "mode")
    right = "min" if (monitor or "val/dice").removesuffix("_epoch").endswith("/loss") else "max"
    if mode in {"min", "max"} and mode != right:
        yield Problem(
            f"is {mode}, but the best {monitor or 'val/dice'} is the {'lowest' if right == 'min' else 'highest'} "
            f"(write {right}, or leave it out)",
            (("checkpoint", "mode"), ("checkpoint", "monitor")),
        )
