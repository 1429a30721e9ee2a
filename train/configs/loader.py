"""Loader of a YAML file with overrides: returns a `Config`, or all problems with file, line and column.

Imports neither torch nor anything else that is slow, so that a typo is reported in well under a second.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from inference.common.errors import UserError
from inference.common.text import limited
from train.configs import document
from train.configs.config import Config
from train.configs.data import DEMO
from train.configs.document import Document, KeyPath, Mark
from train.configs.network import LossConfig
from train.configs.overrides import Overrides, override
from train.configs.problems import Problem, value_at
from train.configs.registries import losses
from train.configs.rules import check
from train.configs.rules.facts import Facts
from train.configs.schema import allowed, choices, kinds, unknown_key
from train.configs.schema import json_schema as schema
from train.configs.shared import Settled, covered, settle
from train.configs.training import is_file_name
from train.configs.wording import dotted, nearest, shown

__all__ = ["Loaded", "load_config", "schema"]


@dataclass(frozen=True)
class Loaded:
    """Valid config, and notices about how it was read."""

    config: Config
    notices: list[str] = field(default_factory=list)


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Loaded:
    """Read a YAML file, apply the overrides, and validate the result.

    Args:
        path: The YAML file.
        overrides: `KEY=VALUE`, the key dotted, the value in YAML: `trainer.max_epochs=3`.

    Raises:
        UserError: One line for every mistake, all of them at once.
    """
    source = document.read(path)
    data = source.data
    said = override(data, overrides)
    _fill_in(data, Path(path).stem)
    settled = settle(data, said.values)
    problems = list(settled.problems)
    invalid: set[KeyPath] = set()
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        config = None
        reported = {problem.paths[0] for problem in problems}
        explained = _explain(error, data, settled)
        problems += [problem for problem in explained if problem.paths[0] not in reported]
        invalid = {problem.paths[0] for problem in explained}
    problems += check(Facts(data, settled.origin, invalid))
    found: list[tuple[Mark, str | Problem]] = [(Mark(0, 0), line) for line in said.problems]
    found += [
        (mark, f"{source.path}:{mark.line}:{mark.column}: {dotted(at)}: {text}")
        for at, mark, text in source.problems
        if not covered(at, said.values)
    ]
    found += [(_mark(problem, source, said), problem) for problem in problems]
    if found:
        found.sort(key=lambda one: (one[0].line, one[0].column))
        lines = (one if isinstance(one, str) else _line(one, source, said) for _, one in found)
        raise UserError("\n".join(limited(lines, count=len(found))))
    assert config is not None
    return Loaded(config, said.notices + _notices(data, config))


def _fill_in(data: dict[str, Any], name: str) -> None:
    """Fill in empty sections and the name of the run, in place."""
    for section in ("segmentation_config", "data_module", "trainer", "logging", "checkpoint"):
        if data.get(section) is None:
            data[section] = {}
    network = data["segmentation_config"]
    if isinstance(network, dict) and network.get("opts", {}) is None:
        del network["opts"]
    if isinstance(data["logging"], dict) and data["logging"].get("name") is None:
        data["logging"]["name"] = name if is_file_name(name) else "run"


def _mark(problem: Problem, source: Document, said: Overrides) -> Mark:
    """Return the place of a problem in the file; line 0 where an override made it."""
    first = problem.paths[0]
    return Mark(0, 0) if covered(first, said.values) else source.mark(first, problem.of_key)


def _line(problem: Problem, source: Document, said: Overrides) -> str:
    """Return a problem as a line with its place, and the places it clashes with."""
    first, *others = problem.paths
    mark = _mark(problem, source, said)
    where = "override" if mark.line == 0 else f"{source.path}:{mark.line}:{mark.column}"
    also = []
    for path in others:
        if covered(path, said.values):
            also.append(f"override {dotted(path)}")
        elif path in source.values:
            also.append(f"{source.path}:{source.mark(path).line}:{source.mark(path).column}")
    see = f" [see {', '.join(also)}]" if also else ""
    return f"{where}: {dotted(first)}: {problem.text}{see}"


def _explain(error: ValidationError, data: dict[str, Any], settled: Settled) -> list[Problem]:
    """Return Pydantic's errors in our own words, those of one union merged."""
    groups: dict[KeyPath, list[tuple[str, str]]] = {}
    for detail in error.errors(include_url=False):
        path = _in_document(detail["loc"], data)
        kind = "key" if "[key]" in detail["loc"] else detail["type"]
        groups.setdefault(path, []).append((kind, detail["msg"]))
    parents = {path[:depth] for path in groups for depth in range(len(path))}
    problems = []
    for path, details in groups.items():
        if path in parents:
            continue  # of a union: the list that was meant has a wrong item, and that is reported
        message, of_key = _sentence(path, details, value_at(data, path))
        at = settled.moved.get(str(path[0]), path) if len(path) == 1 else path
        problems.append(Problem(message, (at,), of_key))
    return problems


def _in_document(loc: tuple[str | int, ...], data: Any) -> KeyPath:
    """Return the part of a Pydantic location that is in the YAML: unions and discriminators add names of their own."""
    path: KeyPath = ()
    for i, part in enumerate(loc):
        if (isinstance(data, dict) and part in data) or (isinstance(data, list) and part in range(len(data))):
            data = data[part]  # type: ignore[index]
        elif part == "[key]" or i < len(loc) - 1 or not isinstance(data, dict) or not kinds((*path, part)):
            continue  # (a missing key is named all the same, and stands where it should have been)
        path = (*path, part)
    return path


def _sentence(path: KeyPath, details: list[tuple[str, str]], value: Any) -> tuple[str | Callable[[], str], bool]:
    """Describe what is wrong at a path, and say whether it is the key."""
    types = {kind for kind, _ in details}
    own = next((message for kind, message in details if kind == "mistake"), None)
    if own is not None:
        return own, False
    if types & {"extra_forbidden", "invalid_key"}:
        return lambda: unknown_key(path) or "unknown key", True  # the nearest right key takes a millisecond
    if "missing" in types:
        hint = f" (a folder with train/, val/ and test/, or {DEMO})" if path[-1] == "data_dir" else ""
        return f"is missing{hint}", True
    if "key" in types:
        return f"the key should be {'a whole number' if 'label_map' in path else 'text'}", True
    number = isinstance(value, int | float) and not isinstance(value, bool)
    wrong = "is out of range" if number and types & _RANGE else "is not allowed"
    return lambda: f"{shown(value)} {wrong}{_advice(path, value)} (allowed: {allowed(path)})", False


_RANGE = {"greater_than", "greater_than_equal", "less_than", "less_than_equal"}


def _advice(path: KeyPath, value: Any) -> str:
    """Return a hint at the most likely slip behind a value of a wrong type."""
    found = kinds(path)
    wanted = {kind.type for kind in found}
    if isinstance(value, str) and value:
        if bool in wanted and value.lower() in {"yes", "on", "y", "no", "off", "n"}:
            return f" (write {'true' if value.lower() in {'yes', 'on', 'y'} else 'false'})"
        if near := nearest(value, choices(path)):
            return near
        if LossConfig in wanted and (loss := losses.match(value)):
            return f" (write {{name: {loss}}})"
        if any(kind.items for kind in found) and value.isidentifier():
            return f" (write [{value}])"
        try:
            unquoted = document.parse_value(value)[0]
        except yaml.YAMLError:
            return ""
        return " (leave the quotes out)" if type(unquoted) in {int, float, bool} & _numbers(wanted) else ""
    if str in wanted and type(value) in {int, float} and value == value:
        return " (put it in quotes)"
    return ""


def _numbers(wanted: set[Any]) -> set[Any]:
    return wanted | {int} if float in wanted else wanted


def _notices(data: dict[str, Any], config: Config) -> list[str]:
    """Return the notices: names that were translated, keys that are accepted and not obeyed."""
    notices = []
    backbone = value_at(data, ("segmentation_config", "backbone"))
    if config.segmentation_config.backbone == f"tu-{backbone}":
        notices.append(f"backbone {backbone!r} is timm's: read as 'tu-{backbone}'")
    for path, why in {
        ("data_module", "fill_mask"): "pixels without a label are ignored, whatever it says",
        ("checkpoint", "dirpath"): "checkpoints lie in the run folder",
        ("checkpoint", "save_on_train_epoch_end"): "checkpoints are taken after validation",
        ("segmentation_config", "opts", "head_upsampling"): "the output always has the input's size",
    }.items():
        value = value_at(data, path)
        if value is not None and value is not False:
            notices.append(f"{'.'.join(path)} is accepted, not obeyed: {why}")
    return notices
