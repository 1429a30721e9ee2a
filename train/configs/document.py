"""YAML text to plain data, with the place of every key.

PyYAML alone reads `1e-3` as text, `on` as a boolean and `12:30` as a number in base 60, and takes the last of two equal
keys without a word. Here scalars follow YAML 1.2's core schema, and a duplicate key is an error.
"""

import re
from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from train.errors import UserError

KeyPath = tuple[str | int, ...]


class _Core(yaml.SafeLoader):
    """The safe loader with the scalars of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own name


_INT = r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"
_FLOAT = r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", _INT, "-+0123456789"),
    ("float", _FLOAT, "-+.0123456789"),
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("merge", r"<<", "<"),
):
    _Core.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))
_Core.add_implicit_resolver("tag:yaml.org,2002:null", re.compile("^$"), [""])


def _int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node))
    return int(text, 8 if text.startswith("0o") else 16 if text.startswith("0x") else 10)


_Core.add_constructor("tag:yaml.org,2002:int", _int)


@dataclass(frozen=True)
class Mark:
    """A place in a file; line and column count from 1."""

    line: int
    column: int


@dataclass
class Document:
    """A YAML file as plain data, and where each of its keys stands."""

    path: str
    data: dict[str, Any]
    marks: dict[KeyPath, Mark]
    problems: list[tuple[Mark, str]] = field(default_factory=list)

    def mark(self, path: KeyPath) -> Mark | None:
        """Where a path stands, or its nearest parent; None for what an empty file could hold."""
        while path and path not in self.marks:
            path = path[:-1]
        return self.marks.get(path)


def _mark(mark: yaml.Mark | None) -> Mark:
    return Mark(1, 1) if mark is None else Mark(mark.line + 1, mark.column + 1)


def read(path: str | Path) -> Document:
    """Reads a YAML file whose top is a mapping.

    Raises:
        UserError: The file is missing, unreadable, empty, no text, not YAML, or no mapping.
    """
    name = str(path)
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        folder = Path(path).parent
        near = ""
        if folder.is_dir():
            from train.configs.tables import nearest

            near = nearest(Path(path).name, [p.name for p in folder.iterdir() if p.suffix in {".yml", ".yaml"}])
        raise UserError(f"{name}: no such file{near}") from None
    except IsADirectoryError:
        raise UserError(f"{name}: is a folder (give the config file in it)") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: not a text file: byte {error.start} is not UTF-8 (save it as UTF-8)") from None
    except OSError as error:
        raise UserError(f"{name}: can't be read: {error.strerror}") from None
    return parse(text, name)


def parse(text: str, name: str) -> Document:
    """Like `read`, from text."""
    try:
        loader = _Core(text)
        node = loader.get_single_node()
    except yaml.reader.ReaderError as error:
        raise UserError(f"{name}: not a text file: {error.reason} (save it as UTF-8 text)") from None
    except yaml.MarkedYAMLError as error:
        mark = _mark(error.problem_mark or error.context_mark)
        context = f" {error.context}" if error.context else ""
        hint = ""
        if "\\t" in str(error.problem):
            hint = " (YAML is indented with spaces, not tabs)"
        raise UserError(f"{name}:{mark.line}:{mark.column}: bad YAML:{context} {error.problem}{hint}") from None
    if node is None or (isinstance(node, yaml.ScalarNode) and node.value in {"", "null", "~"}):
        raise UserError(f"{name}: is empty (start from a file in train/configs/)")
    if not isinstance(node, yaml.MappingNode):
        mark = _mark(node.start_mark)
        raise UserError(f"{name}:{mark.line}:{mark.column}: should be `key: value` lines, found {_kind(node)}")
    document = Document(name, {}, {})
    try:
        document.data = _construct(loader, node, (), document, frozenset())
    except yaml.MarkedYAMLError as error:
        mark = _mark(error.problem_mark or error.context_mark)
        raise UserError(f"{name}:{mark.line}:{mark.column}: bad YAML: {error.problem}") from None
    return document


def parse_value(text: str) -> Any:
    """The value that a YAML file would hold with this text; raises `yaml.YAMLError`."""
    loader = _Core(text)
    node = loader.get_single_node()
    return None if node is None else _construct(loader, node, (), Document("", {}, {}), frozenset())


def _kind(node: yaml.Node) -> str:
    return "a list" if isinstance(node, yaml.SequenceNode) else f"{node.value!r}"


def _construct(loader: Any, node: yaml.Node, path: KeyPath, document: Document, above: frozenset[int]) -> Any:
    """Plain data of a node; fills in the marks and problems of the document on the way."""
    if id(node) in above:
        raise yaml.MarkedYAMLError(problem="an anchor that contains itself", problem_mark=node.start_mark)
    if isinstance(node, yaml.ScalarNode):
        return loader.construct_object(node)
    above = above | {id(node)}
    if isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            document.marks[(*path, i)] = _mark(item.start_mark)
        return [_construct(loader, item, (*path, i), document, above) for i, item in enumerate(node.value)]
    assert isinstance(node, yaml.MappingNode)
    seen: dict[Hashable, Mark] = {}
    for key_node, _ in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            raise yaml.MarkedYAMLError(problem="a key that is no plain word", problem_mark=key_node.start_mark)
        key, mark = loader.construct_object(key_node), _mark(key_node.start_mark)
        if key_node.tag.endswith(":merge"):
            continue
        if key in seen:
            dotted = ".".join(map(str, (*path, key)))
            document.problems.append(
                (mark, f"{dotted}: stands here a second time (first on line {seen[key].line}; keep one)")
            )
        seen[key] = mark
    loader.flatten_mapping(node)  # `<<: *anchor`: the merged pairs come first, so that the mapping's own win
    result: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node)
        here = _mark(key_node.start_mark)
        value_mark = _mark(value_node.start_mark)
        # An alias is marked where its anchor stands; the reader wants the line that uses it.
        beside = value_mark.line == here.line and value_mark.column > here.column
        document.marks[(*path, key)] = value_mark if beside and isinstance(value_node, yaml.ScalarNode) else here
        result[key] = _construct(loader, value_node, (*path, key), document, above)
    return result
