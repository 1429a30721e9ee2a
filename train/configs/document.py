"""YAML text to plain data, with the place of every key and value.

PyYAML alone reads `1e-3` as text, `on` as a boolean and `12:30` as a number in base 60, and takes the last of two equal
keys without a word. Here scalars follow YAML 1.2's core schema, a duplicate key is an error, and no tag makes an
object: only PyYAML's scanner, parser and composer are used, none of its constructors.
"""

import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

from inference.common.errors import UserError
from train.configs.scalars import CORE, FLOAT, INT, scalar, unknown_tag
from train.configs.wording import nearest

KeyPath = tuple[str | int, ...]

MAX_BYTES = 256 * 1024  # a resolved config is 3 KiB
MAX_VALUES = 10_000  # a config has some 200; aliases of aliases can make billions out of a few lines
MAX_DEPTH = 50

_VERSIONS = {None, (1, 0), (1, 1), (1, 2)}
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")

# What PyYAML says, and what most often lies behind it.
_HINTS = (
    (r"character '\\t'", "indent with spaces, not tabs"),
    (r"character '[@`%]'", "put text that begins with this sign in quotes"),
    ("mapping values are not allowed", "a colon too many, or the line before lacks one; quote text with `: ` in it"),
    ("undefined alias", "an alias *name needs its &name further up"),
    ("expected <block end>", "check how far this line and those above are indented"),
    ("could not find expected ':'", "a key needs a colon and a space after it"),
    ("duplicate anchor", "give the second &name another name"),
    ("incompatible YAML document", "allowed: 1.0, 1.1 and 1.2; or leave out the line %YAML"),
    ("another document", "keep one and drop the line ---"),
    ("unexpected end of stream", "a closing quote or bracket is missing"),
)


@dataclass(frozen=True)
class Mark:
    """Place in a file; line and column count from 1."""

    line: int
    column: int


@dataclass
class Document:
    """YAML file as plain data, with the places of its keys and values, and its problems short of bad YAML."""

    path: str
    data: dict[str, Any] = field(default_factory=dict)
    keys: dict[KeyPath, Mark] = field(default_factory=dict)
    values: dict[KeyPath, Mark] = field(default_factory=dict)
    problems: list[tuple[KeyPath, Mark, str]] = field(default_factory=list)

    def mark(self, path: KeyPath, of_key: bool = False) -> Mark:
        """Return the place of the value (or the key) at a path, or of its nearest parent where it is missing."""
        marks = self.keys if of_key and path in self.keys else self.values
        while path and path not in marks:
            path = path[:-1]
        return marks.get(path, Mark(1, 1))


def read(path: str | Path) -> Document:
    """Read a YAML file whose top is a mapping.

    Raises:
        UserError: The file is missing, unreadable, empty, too large, no text, not YAML, or no mapping.
    """
    name = str(path) or "''"
    try:
        status = Path(path).stat()
        if stat.S_ISDIR(status.st_mode):
            raise UserError(f"{name}: is a folder (give the config file in it)")
        if not stat.S_ISREG(status.st_mode):
            # Each process of a distributed run reads the config anew: a pipe could serve only the first.
            raise UserError(f"{name}: is no regular file (save the config as a file)")
        if status.st_size > MAX_BYTES:
            raise UserError(f"{name}: is too large for a config: {status.st_size / 1024:.0f} KiB (at most 256 KiB)")
        text = Path(path).read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{name}: no such file{_beside(Path(path))}") from None
    except UnicodeDecodeError as error:
        raise UserError(_not_utf8(name, error)) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{name}: can't be read: {getattr(error, 'strerror', None) or error}") from None
    return parse(text, name)


def _not_utf8(name: str, error: UnicodeDecodeError) -> str:
    """Return the message about a file in another encoding, with the place of the first wrong byte."""
    before = bytes(error.object[: error.start])
    line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
    wide = error.object[:2] in {b"\xff\xfe", b"\xfe\xff"}
    encoding = "UTF-16" if wide else "such as Windows-1252 or Latin-1"
    return (
        f"{name}:{line}:{column}: not a text file: byte 0x{error.object[error.start]:02x} is not UTF-8 (the file has "
        f"another encoding, {encoding}: save it as UTF-8)"
    )


def _beside(path: Path) -> str:
    """Return a hint at the config in the same folder whose name is nearest."""
    if "=" in path.name:
        return " (the config comes first, KEY=VALUE after it)"
    try:
        return nearest(path.name, [p.name for p in path.parent.iterdir() if p.suffix in {".yml", ".yaml"}])
    except OSError:
        return ""


def parse(text: str, name: str) -> Document:
    """Parse YAML text, as `read` does with a file."""
    try:
        node, aliases = _compose(text)
        if node is None or (isinstance(node, yaml.ScalarNode) and node.tag == f"{CORE}null"):
            raise UserError(f"{name}: is empty (start from a file in train/configs/)")
        if not isinstance(node, yaml.MappingNode):
            mark = _mark(node.start_mark)
            raise UserError(f"{name}:{mark.line}:{mark.column}: should be `key: value` lines, found {_kind(node)}")
        document = Document(name)
        document.data = _Builder(document, aliases).build(node, ())
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - text.rfind("\n", 0, error.position)
        shown = f"U+{error.character:04X}" if isinstance(error.character, int) else repr(error.character)
        raise UserError(f"{name}:{line}:{column}: not a text file: the character {shown} can't be in YAML") from None
    except yaml.MarkedYAMLError as error:
        mark = _mark(error.problem_mark or error.context_mark)
        raise UserError(f"{name}:{mark.line}:{mark.column}: bad YAML: {_explain(error)}") from None
    return document


def dump(data: dict[str, Any]) -> str:
    """Return YAML text that both `parse` and PyYAML read as this data.

    PyYAML's own writer leaves text such as 1e-3 without quotes, as its reader takes that for text.
    """
    return str(yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True))


def parse_value(text: str) -> tuple[Any, list[tuple[KeyPath, str]]]:
    """Parse the value of a key, and return it with the problems in it; raise `yaml.YAMLError` for bad YAML."""
    node, aliases = _compose(text)
    document = Document("")
    value = None if node is None else _Builder(document, aliases).build(node, ())
    return value, [(path, problem) for path, _, problem in document.problems]


def _explain(error: yaml.MarkedYAMLError) -> str:
    """Return PyYAML's error in one line, with a hint."""
    problem, context = str(error.problem), error.context or ""
    said = f"{context} {problem}".strip()
    if context.startswith("while"):
        begun = "" if error.context_mark is None else f" that begins on line {error.context_mark.line + 1}"
        said = f"{problem} {context.replace('while scanning for the next token', '')}".strip() + begun
    hint = next((f" ({hint})" for pattern, hint in _HINTS if re.search(pattern, said)), "")
    return said + hint


class _Composer(Reader, Scanner, Parser, Composer, BaseResolver):
    """Composer of nodes: scalars by YAML 1.2's core schema, and the places where aliases are used."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        BaseResolver.__init__(self)
        self.aliases: dict[tuple[int, int], Mark] = {}
        self._depth = 0
        self._nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        here = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        if self.check_event(yaml.AliasEvent):
            self.aliases[id(parent), index if isinstance(index, int) else id(index)] = _mark(here)
        self._depth += 1
        self._nodes += 1
        if self._depth > MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem="nested too deep", problem_mark=here)
        if self._nodes > 2 * MAX_VALUES + 2:  # keys are nodes too; the rest is not even read
            raise _too_many(here)
        node: yaml.Node | None = Composer.compose_node(self, parent, index)
        self._depth -= 1
        return node


for _tag, _pattern, _first in (
    ("bool", "true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", INT, "-+0123456789"),
    ("float", FLOAT, "-+.0123456789"),
    ("null", "~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", "<<", "<"),
):
    _Composer.add_implicit_resolver(f"{CORE}{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))


class _Dumper(yaml.SafeDumper):
    """PyYAML's writer, which also puts what YAML 1.2 takes for a number in quotes."""


_Dumper.add_implicit_resolver(f"{CORE}int", re.compile(f"^(?:{INT})$"), list("-+0123456789"))
_Dumper.add_implicit_resolver(f"{CORE}float", re.compile(f"^(?:{FLOAT})$"), list("-+.0123456789"))


def _compose(text: str) -> tuple[yaml.Node | None, dict[tuple[int, int], Mark]]:
    composer = _Composer(text)
    try:
        node = composer.get_single_node()
        if (version := composer.yaml_version) not in _VERSIONS:
            shown = ".".join(map(str, version))
            problem = f"there is no YAML {shown[:20]} (allowed: 1.0, 1.1 and 1.2; or leave out the line %YAML)"
            raise yaml.MarkedYAMLError(problem=problem)
        return node, composer.aliases
    except (ValueError, OverflowError):  # of a version or a character code that Python can't hold
        place = composer.get_mark()
        raise yaml.MarkedYAMLError(problem="a number that is too large", problem_mark=place) from None


def _mark(mark: Any) -> Mark:
    return Mark(1, 1) if mark is None else Mark(mark.line + 1, mark.column + 1)


def _kind(node: yaml.Node) -> str:
    text = str(node.value)
    return "a list" if isinstance(node, yaml.SequenceNode) else repr(text if len(text) < 40 else f"{text[:40]}...")


def _too_many(mark: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=f"more than {MAX_VALUES:,} values", problem_mark=mark)


@dataclass
class _Builder:
    """Builder of plain data from nodes, which also records the marks and problems of the document."""

    document: Document
    aliases: dict[tuple[int, int], Mark]
    count: int = 0

    def build(self, node: yaml.Node, path: KeyPath, above: frozenset[int] = frozenset()) -> Any:
        self._count(node)
        if id(node) in above:
            raise yaml.MarkedYAMLError(problem="an anchor that contains itself", problem_mark=node.start_mark)
        above = above | {id(node)}
        if isinstance(node, yaml.ScalarNode):
            value = scalar(node)
            if isinstance(value, str) and (found := _CONTROL.search(value)):
                text = f"holds a character that can't be shown (U+{ord(found[0]):04X})"
                self.document.problems.append((path, self.document.mark(path), text))
            return value
        if isinstance(node, yaml.SequenceNode):
            if node.tag != f"{CORE}seq":
                raise unknown_tag(node)
            for i, item in enumerate(node.value):
                self.document.values[(*path, i)] = self.aliases.get((id(node), i), _mark(item.start_mark))
            return [self.build(item, (*path, i), above) for i, item in enumerate(node.value)]
        assert isinstance(node, yaml.MappingNode)
        result: dict[str | int, Any] = {}
        for key, key_node, value_node in self._pairs(node, path, above):
            here = self.document.keys[(*path, key)] = _mark(key_node.start_mark)
            alias = self.aliases.get((id(node), id(key_node)))
            beside = isinstance(value_node, yaml.ScalarNode) and _mark(value_node.start_mark).line == here.line
            self.document.values[(*path, key)] = alias or (_mark(value_node.start_mark) if beside else here)
            result[key] = self.build(value_node, (*path, key), above)
        return result

    def _count(self, node: yaml.Node) -> None:
        """Count a value, also one that a merge repeats; raise `MarkedYAMLError` where there are too many."""
        self.count += 1
        if self.count > MAX_VALUES:
            raise _too_many(node.start_mark)

    def _pairs(
        self, node: yaml.MappingNode, path: KeyPath, above: frozenset[int]
    ) -> Iterator[tuple[str | int, yaml.Node, yaml.Node]]:
        """Yield a mapping's own pairs, then those that it merges (`<<: *anchor`) and doesn't have."""
        if node.tag != f"{CORE}map":
            raise unknown_tag(node)
        seen: dict[str | int, Mark] = {}
        merged: list[yaml.Node] = []
        for key_node, value_node in node.value:
            if key_node.tag == f"{CORE}merge":
                merged += value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
                continue
            key, mark = self._key(key_node), _mark(key_node.start_mark)
            if key in seen:
                text = f"stands here a second time (first on line {seen[key].line}; keep one)"
                self.document.problems.append(((*path, key), mark, text))
                continue
            seen[key] = mark
            yield key, key_node, value_node
        for other in merged:
            if not isinstance(other, yaml.MappingNode):
                raise yaml.MarkedYAMLError(problem="<< takes mappings only", problem_mark=other.start_mark)
            if id(other) in above:
                raise yaml.MarkedYAMLError(problem="an anchor that contains itself", problem_mark=other.start_mark)
            self._count(other)
            for key, key_node, value_node in self._pairs(other, path, above | {id(other)}):
                self._count(key_node)
                if key not in seen:
                    seen[key] = _mark(key_node.start_mark)
                    yield key, key_node, value_node

    def _key(self, node: yaml.Node) -> str | int:
        """Return a key: a whole number (of a label map), or its text, whatever YAML takes it for."""
        if not isinstance(node, yaml.ScalarNode):
            raise yaml.MarkedYAMLError(problem="a key that is no plain word", problem_mark=node.start_mark)
        value = scalar(node)
        return value if isinstance(value, int) and not isinstance(value, bool) else str(node.value)
