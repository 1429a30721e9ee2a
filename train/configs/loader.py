"""A YAML file and overrides to a `Config`; every mistake in it, each with its file, line and column.

No torch here, nor anything else that is slow to import: a typo is answered in well under a second.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from train.configs import contradictions, document, tables
from train.configs.config import Config
from train.configs.document import Document, KeyPath, Mark
from train.errors import UserError

_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}
_BOUNDS = {"greater_than": ("gt", ">"), "greater_than_equal": ("ge", ">="), "less_than": ("lt", "<"), "less_than_equal": ("le", "<=")}


@dataclass(frozen=True)
class Loaded:
    """A config that is right, and what the user should know about how it was read."""

    config: Config
    notices: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Found:
    place: tuple[int, int]
    line: str


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Loaded:
    """Reads a YAML file, lets the overrides replace what they name, and validates the result.

    Args:
        path: The YAML file.
        overrides: `KEY=VALUE`, the key dotted, the value in YAML: `trainer.max_epochs=3`.

    Raises:
        UserError: One line for every mistake, all of them at once.
    """
    source = document.read(path)
    found = [_Found((mark.line, mark.column), f"{_at(source, mark)}: {text}") for mark, text in source.problems]
    replaced, bad = _override(source.data, overrides)
    found += [_Found((0, 0), line) for line in bad]
    _fill_in(source.data, Path(path).stem)
    problems = contradictions.share(source.data, replaced)
    problems += contradictions.check(source.data)
    try:
        config = Config.model_validate(source.data)
    except ValidationError as error:
        config = None
        said = {p.paths[0] for p in problems}
        for where, text in _explain(error, source):
            # A shared key's value stands at the top level too by now; it is reported where the user wrote it.
            settled = where in {(top,) for top in contradictions.SHARED} and where not in {*source.marks, *replaced}
            if where not in said and not settled:
                problems.append(contradictions.Problem(text, (where,)))
    found += [_locate(problem, source, replaced) for problem in problems]
    if found:
        raise UserError("\n".join(dict.fromkeys(f.line for f in sorted(found, key=lambda f: f.place))))
    assert config is not None
    return Loaded(config, _notices(source.data, config))


def _fill_in(data: dict[str, Any], name: str) -> None:
    """What a section that was left empty means, and the name of a run that has none: in place."""
    for section in ("segmentation_config", "trainer", "logging", "checkpoint"):
        if data.get(section) is None:
            data[section] = {}
    network = data["segmentation_config"]
    if isinstance(network, dict) and network.get("opts", {}) is None:
        del network["opts"]
    if isinstance(data["logging"], dict) and data["logging"].get("name") is None:
        data["logging"]["name"] = name


def schema() -> str:
    """The JSON Schema of a training YAML, for editors."""
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema"} | Config.model_json_schema(), indent=2)


def _at(source: Document, mark: Mark | None) -> str:
    return source.path if mark is None else f"{source.path}:{mark.line}:{mark.column}"


def _locate(problem: contradictions.Problem, source: Document, replaced: dict[KeyPath, Any]) -> _Found:
    """A problem as a line that names its place, and the places it clashes with."""
    first, *others = problem.paths
    by_hand = next((p for p in replaced if first[: len(p)] == p), None)
    mark = source.mark(first)
    where = "override" if by_hand is not None else _at(source, mark)
    also = []
    for path in others:
        if path in replaced:
            also.append(f"override {'.'.join(map(str, path))}")
        elif path in source.marks:
            also.append(_at(source, source.marks[path]))
    line = f"{where}: {'.'.join(map(str, first))}: {problem.message}"
    if also:
        line += f" [see {', '.join(also)}]"
    return _Found((0, 0) if by_hand is not None or mark is None else (mark.line, mark.column), line)


def _override(data: dict[str, Any], overrides: Sequence[str]) -> tuple[dict[KeyPath, Any], list[str]]:
    """Writes the overrides into the data; what they replaced by path, and a line for each that can't be used."""
    replaced: dict[KeyPath, Any] = {}
    bad = []
    for text in overrides:
        key, equals, raw = text.partition("=")
        path: KeyPath = tuple(int(part) if part.isdigit() else part for part in key.strip().split("."))
        if not equals or "" in path:
            bad.append(f"override: {text!r} is no KEY=VALUE (such as trainer.max_epochs=3)")
            continue
        try:
            value = document.parse_value(raw)
        except yaml.YAMLError:
            bad.append(f"override: {key}: {raw!r} is no YAML value")
            continue
        unknown = _unknown_key(path)
        if unknown:
            bad.append(f"override: {key}: {unknown}")
            continue
        if _write(data, path, value):
            replaced[path] = value
        else:
            bad.append(f"override: {key}: {'.'.join(map(str, path[:-1]))} holds a value, not keys")
    return replaced, bad


def _write(data: Any, path: KeyPath, value: Any) -> bool:
    for key in path[:-1]:
        if isinstance(data, dict):
            if data.get(key) is None:
                data[key] = {}
            data = data[key]
        elif isinstance(data, list) and isinstance(key, int) and key < len(data):
            data = data[key]
        else:
            return False
    last = path[-1]
    if isinstance(data, list) and isinstance(last, int) and last < len(data):
        data[last] = value
    elif isinstance(data, dict):
        data[last] = value
    else:
        return False
    return True


def _models(path: KeyPath) -> list[type[BaseModel]]:
    """The models that may stand at a path: none where the schema has no mapping there."""
    here: list[Any] = [Config]
    for key in path:
        below: list[Any] = []
        for model in here:
            if isinstance(key, int):
                below.append(model)  # an item of a list: the list's own models
            elif key in model.model_fields:
                below += _model_args(model.model_fields[key].annotation)
        here = below
    return here


def _model_args(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return list(dict.fromkeys(model for arg in get_args(annotation) for model in _model_args(arg)))


def _unknown_key(path: KeyPath) -> str | None:
    """What is wrong with a path that the schema doesn't have; None for one that it has."""
    for depth, key in enumerate(path):
        models = _models(path[:depth])
        if not models:
            return None  # inside a free mapping, or below a value: the types are Pydantic's to check
        keys = {k for model in models for k in model.model_fields}
        if not isinstance(key, int) and key not in keys:
            near = tables.nearest(str(key), keys)
            elsewhere = [
                name for name, part in Config.model_fields.items()
                if any(key in model.model_fields for model in _model_args(part.annotation))
            ]
            hint = near or (f" (it belongs to {' or '.join(elsewhere)})" if elsewhere else f" (allowed: {', '.join(sorted(keys))})")
            return f"unknown key{hint}"
    return None


def _in_document(loc: tuple[str | int, ...], data: Any) -> KeyPath:
    """The part of a Pydantic location that is in the YAML: unions and discriminators add names of their own."""
    path: list[str | int] = []
    for i, part in enumerate(loc):
        if isinstance(data, dict) and part in data:
            data = data[part]
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        elif i == len(loc) - 1 and isinstance(data, dict) and isinstance(part, str) and "[" not in part:
            pass  # a missing key: it is named, and stands where it should have been
        else:
            continue
        path.append(part)
    return tuple(path)


def _explain(error: ValidationError, source: Document) -> list[tuple[KeyPath, str]]:
    """Pydantic's errors in our words, those of one union put together."""
    groups: dict[KeyPath, list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False):
        groups.setdefault(_in_document(detail["loc"], source.data), []).append(detail)
    deeper = [path for path in groups]
    result = []
    for path, details in groups.items():
        if any(other[: len(path)] == path and len(other) > len(path) for other in deeper) and len(details) > 1:
            continue  # a list with one wrong item is reported at the item
        result.append((path, _sentence(path, details, contradictions.View(source.data).get(path))))
    return result


def _sentence(path: KeyPath, details: list[ErrorDetails], value: Any) -> str:
    for detail in details:
        kind, context = detail["type"], detail.get("ctx", {})
        if kind == "mistake":
            return str(detail["msg"])
        if kind == "extra_forbidden":
            return _unknown_key(path) or "unknown key"
        if kind == "missing":
            return "is missing" + (" (a folder with train/, val/ and test/, or demo://kelp)" if path[-1] == "data_dir" else "")
    bounds = [
        f"{sign} {detail['ctx'][name]}"
        for detail in details
        for kind, (name, sign) in _BOUNDS.items()
        if detail["type"] == kind
    ]
    expected = [_EXPECTED[d["type"]] for d in details if d["type"] in _EXPECTED]
    expected += [str(d["ctx"]["expected"]) for d in details if d["type"] == "literal_error"]
    shown = "nothing" if value is None else repr(value) if not isinstance(value, bool) else str(value).lower()
    if isinstance(value, dict):
        shown = "a mapping"
    if bounds and isinstance(value, int | float):
        rest = [e for e in expected if e not in {"a whole number", "a number"}]
        return f"{shown} is out of range (allowed: {' or '.join(dict.fromkeys([*bounds, *rest]))})"
    if expected:
        literal = next((d for d in details if d["type"] == "literal_error"), None)
        near = ""
        if literal is not None and isinstance(value, str):
            near = tables.nearest(value, [w.strip("' ") for w in str(literal["ctx"]["expected"]).replace(" or ", ",").split(",")])
        if len(details) == 1 and expected == ["true or false"] and isinstance(value, str):
            near = f" (write {'true' if value.lower() in {'yes', 'on', 'y'} else 'false'})" if value.lower() in {"yes", "no", "on", "off", "y", "n"} else ""
        return f"{shown} is not allowed{near} (allowed: {', '.join(dict.fromkeys(expected))})"
    return f"{shown}: {details[0]['msg'][0].lower()}{details[0]['msg'][1:]}"


def _notices(data: dict[str, Any], config: Config) -> list[str]:
    """What the user should know: names that were translated, keys that are accepted and not obeyed."""
    view = contradictions.View(data)
    notices = []
    backbone = view.typed(str, "segmentation_config", "backbone")
    if backbone is not None and config.segmentation_model_cls == "SMPSegmentationModel":
        notice = tables.resolve_backbone(backbone)[1]
        notices += [notice] if notice else []
    for path, why in {
        ("data_module", "fill_mask"): "pixels without a label are ignored, whatever it says",
        ("checkpoint", "dirpath"): "checkpoints lie in the run folder",
        ("checkpoint", "save_on_train_epoch_end"): "checkpoints are taken after validation",
        ("segmentation_config", "opts", "head_upsampling"): "the output always has the input's size",
    }.items():
        if view.get(path) not in {None, False}:
            notices.append(f"{'.'.join(path)} is accepted, not obeyed: {why}")
    return notices
