"""Overrides: `KEY=VALUE` from the command line, written into the data of a YAML file before it is checked."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml
from pydantic import BaseModel

from train.configs.config import Config
from train.configs.document import MAX_DEPTH, KeyPath, parse_value
from train.configs.schema import kinds, unknown_key
from train.configs.wording import dotted, shown


@dataclass
class Overrides:
    """Overrides that were applied.

    Attributes:
        values: Values written into the data, by path; of a path that was given twice the last counts.
        problems: One line for each override that can't be used.
        notices: Notices about the others.
    """

    values: dict[KeyPath, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


def override(
    data: dict[str, Any],
    texts: Sequence[str],
    root: type[BaseModel] = Config,
    example: str = "trainer.max_epochs=3",
) -> Overrides:
    """Write overrides into the data of a YAML file, in place.

    Args:
        data: The YAML's content.
        texts: The key dotted, the value in YAML: `trainer.max_epochs=3`, `segmentation_config.loss.0.weight=2`.
        root: Model of the whole file.
        example: Override that the message about a wrong one shows.
    """
    said = Overrides()
    for text in texts:
        key, equals, raw = text.partition("=")
        key = key.strip()
        path = tuple(int(part) if re.fullmatch("-?[0-9]{1,9}", part) else part for part in key.split("."))
        if not equals or "" in path:
            said.problems.append(f"override: {shown(text)} is no KEY=VALUE (such as {example})")
            continue
        if len(path) > MAX_DEPTH:
            said.problems.append(f"override: {shown(key)} has {len(path):,} levels (at most {MAX_DEPTH})")
            continue
        at, wrong = _unknown(path, root) or (path, None)
        try:
            value, problems = parse_value(raw)
        except yaml.YAMLError:
            value, problems = None, []
            wrong = f"{shown(raw)} is no YAML value (put text with such signs in quotes: {dotted(path)}='\"TEXT\"')"
        for inner, problem in problems[:1]:
            at, wrong = (*path, *inner), problem
        wrong = wrong or _write(data, path, value, root)
        if wrong:
            said.problems.append(f"override: {dotted(at)}: {wrong}")
            continue
        if path in said.values:
            notice = f"override {dotted(path)} is given more than once: the last one counts"
            said.notices += [notice] if notice not in said.notices else []
            del said.values[path]  # it is also the last in order
        said.values[path] = value
    return said


def _unknown(path: KeyPath, root: type[BaseModel]) -> tuple[KeyPath, str] | None:
    """Return the first key of a path that the schema doesn't have, and what is wrong with it."""
    for depth in range(1, len(path) + 1):
        if wrong := unknown_key(path[:depth], root):
            return path[:depth], wrong
    return None


def _write(data: Any, path: KeyPath, value: Any, root: type[BaseModel]) -> str | None:
    """Write a value at its place; return what is wrong where there is no such place."""
    for depth, key in enumerate(path):
        at = path[:depth]
        if wrong := _no_place(data, key, at, root):
            return wrong
        if depth == len(path) - 1:
            data[key] = value
        elif isinstance(data, dict) and data.get(key) is None:
            below, item = path[: depth + 1], path[depth + 1]
            if isinstance(item, int) and not _free(below, root):
                return f"{dotted(below)} is not set, so it has no item {item} (give the whole list)"
            data[key] = {}
        data = data[key]
    return None


def _no_place(data: Any, key: str | int, at: KeyPath, root: type[BaseModel]) -> str | None:
    """Return why `data`, at a path, has no place for this key; None where it has."""
    if isinstance(data, list):
        if not isinstance(key, int):
            return f"{dotted(at)} is a list: say which item ({dotted((*at, 0))} to {dotted((*at, len(data) - 1))})"
        return None if 0 <= key < len(data) else f"{dotted(at)} has {len(data)} items, numbered from 0, so no {key}"
    if isinstance(data, dict):
        return (
            f"{dotted(at)} is no list, so it has no item {key}"
            if isinstance(key, int) and not _free(at, root)
            else None
        )
    return f"{dotted(at)} is {shown(data)}, which has no keys"


def _free(path: KeyPath, root: type[BaseModel]) -> bool:
    return any(kind.free for kind in kinds(path, root))
