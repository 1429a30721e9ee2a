"""Problems of a YAML file in words: Pydantic's errors, and the lines that name the place of each problem.

Training configs and those of `train.prepare` are reported through here; `root` is the model of the whole file.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from inference.common.errors import UserError
from inference.common.text import limited
from train.configs import document
from train.configs.config import Config
from train.configs.data import DEMO
from train.configs.document import Document, KeyPath, Mark
from train.configs.network import LossConfig
from train.configs.overrides import Overrides
from train.configs.problems import Problem, value_at
from train.configs.registries import losses
from train.configs.schema import allowed, choices, kinds, unknown_key
from train.configs.shared import covered
from train.configs.wording import dotted, nearest, shown

_HINTS = {"data_dir": f"a folder with train/, val/ and test/, or {DEMO}", "sources": "a list of {image, labels}"}
"""Expected value of a required key, for the message that it is missing."""


def check_problems(source: Document, said: Overrides, problems: Sequence[Problem]) -> None:
    """Report all problems of a file and its overrides, in the order of the file.

    Args:
        source: The file.
        said: Its overrides.
        problems: Problems of the values.

    Raises:
        UserError: There are any; a line for each.
    """
    found: list[tuple[Mark, str | Problem]] = [(Mark(0, 0), line) for line in said.problems]
    found += [
        (mark, f"{source.path}:{mark.line}:{mark.column}: {dotted(at)}: {text}")
        for at, mark, text in source.problems
        if not covered(at, said.values)
    ]
    found += [(_mark(problem, source, said), problem) for problem in problems]
    if found:
        found.sort(key=lambda one: (one[0].line, one[0].column))
        lines = (one if isinstance(one, str) else problem_line(one, source, said) for _, one in found)
        raise UserError("\n".join(limited(lines, count=len(found))))


def _mark(problem: Problem, source: Document, said: Overrides) -> Mark:
    """Return the place of a problem in the file; line 0 where an override made it."""
    first = problem.paths[0]
    return Mark(0, 0) if covered(first, said.values) else source.mark(first, problem.of_key)


def problem_line(problem: Problem, source: Document, said: Overrides) -> str:
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


def explain(
    error: ValidationError,
    data: dict[str, Any],
    root: type[BaseModel] = Config,
    moved: Mapping[str, KeyPath] | None = None,
) -> list[Problem]:
    """Return Pydantic's errors in our own words, those of one union merged.

    Args:
        error: Errors of the whole file.
        data: Content of the file.
        root: Model of the whole file.
        moved: Path in the file of keys of the top level that stood elsewhere.
    """
    groups: dict[KeyPath, list[tuple[str, str]]] = {}
    for detail in error.errors(include_url=False):
        path = _in_document(detail["loc"], data, root)
        kind = "key" if "[key]" in detail["loc"] else detail["type"]
        groups.setdefault(path, []).append((kind, detail["msg"]))
    parents = {path[:depth] for path in groups for depth in range(len(path))}
    problems = []
    for path, details in groups.items():
        if path in parents:
            continue  # of a union: the list that was meant has a wrong item, and that is reported
        message, of_key = _sentence(path, details, value_at(data, path), root)
        at = (moved or {}).get(str(path[0]), path) if len(path) == 1 else path
        problems.append(Problem(message, (at,), of_key))
    return problems


def _in_document(loc: tuple[str | int, ...], data: Any, root: type[BaseModel]) -> KeyPath:
    """Return the part of a Pydantic location that is in the YAML: unions and discriminators add names of their own."""
    path: KeyPath = ()
    for i, part in enumerate(loc):
        if (isinstance(data, dict) and part in data) or (isinstance(data, list) and part in range(len(data))):
            data = data[part]  # type: ignore[index]
        elif part == "[key]" or i < len(loc) - 1 or not isinstance(data, dict) or not kinds((*path, part), root):
            continue  # (a missing key is named all the same, and stands where it should have been)
        path = (*path, part)
    return path


def _sentence(
    path: KeyPath, details: list[tuple[str, str]], value: Any, root: type[BaseModel]
) -> tuple[str | Callable[[], str], bool]:
    """Describe what is wrong at a path, and say whether it is the key."""
    types = {kind for kind, _ in details}
    own = next((message for kind, message in details if kind == "mistake"), None)
    if own is not None:
        return own, False
    if types & {"extra_forbidden", "invalid_key"}:
        return lambda: unknown_key(path, root) or "unknown key", True  # the nearest right key takes a millisecond
    if "missing" in types:
        hint = _HINTS.get(str(path[-1]))
        return f"is missing{f' ({hint})' if hint else ''}", True
    if "key" in types:
        return f"the key should be {'a whole number' if 'label_map' in path else 'text'}", True
    number = isinstance(value, int | float) and not isinstance(value, bool)
    wrong = "is out of range" if number and types & _RANGE else "is not allowed"
    return lambda: f"{shown(value)} {wrong}{_advice(path, value, root)} (allowed: {allowed(path, root)})", False


_RANGE = {"greater_than", "greater_than_equal", "less_than", "less_than_equal"}


def _advice(path: KeyPath, value: Any, root: type[BaseModel]) -> str:
    """Return a hint at the most likely slip behind a value of a wrong type."""
    found = kinds(path, root)
    wanted = {kind.type for kind in found}
    if isinstance(value, str) and value:
        if bool in wanted and value.lower() in {"yes", "on", "y", "no", "off", "n"}:
            return f" (write {'true' if value.lower() in {'yes', 'on', 'y'} else 'false'})"
        if near := nearest(value, choices(path, root)):
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
