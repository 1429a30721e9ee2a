"""Registry of the losses, read from the source of `train/loss_terms/` without importing it (that would import torch).

A public class there whose name ends in `Loss` is a loss. Its row follows from the class: see `train.loss_terms`.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Any, Literal

from train.configs import fields
from train.configs.registries.names import folded, load, spellings

_FOLDER = Path(__file__).parents[2] / "loss_terms"
_BASE = "SegmentationLoss"
# The base class has this argument from the config's key of the same name.
_NOT_OPTIONS = {"num_classes"}


@dataclass(frozen=True)
class Option:
    """An option of a loss.

    Attributes:
        name: Key in `loss.opts`.
        type: Type that Pydantic checks a value against, never null.
        names: Names in the annotation, such as `ClassWeights`.
        default: Default; None also where the option is not given a number of its own.
        meaning: Text of the docstring's Args section.
    """

    name: str
    type: Any
    names: frozenset[str]
    default: Any
    meaning: str

    @property
    def summary(self) -> str:
        """First sentence of the meaning."""
        return re.split(r"(?<=\.)\s", self.meaning, maxsplit=1)[0]


@dataclass(frozen=True)
class Loss:
    """A row of the registry.

    Attributes:
        name: Class name, canonical in a config.
        path: Dotted path of the class.
        meaning: First line of the docstring.
        options: Options by name, those common to all losses last.
        aliases: Further names, beside the class's own with or without `Loss`.
        only: Task that it is made for; None: both.
        instead: Loss for the other task.
        of_several_classes: Options that need several classes.
    """

    name: str
    path: str
    meaning: str
    options: dict[str, Option]
    aliases: tuple[str, ...] = ()
    only: Literal["binary", "multiclass"] | None = None
    instead: str = ""
    of_several_classes: tuple[str, ...] = ()

    @property
    def short(self) -> str:
        """Name without `Loss`."""
        return self.name.removesuffix("Loss")

    def load(self) -> Any:
        """Import the class."""
        return load(self.path)


def match(name: str) -> str | None:
    """Return the loss that `name` spells: any case, with or without `Loss` at its end; None where there is none."""
    return _SPELLINGS.get(folded(name).removesuffix("loss"))


def nested(option: str) -> str | None:
    """Return the loss whose options an option holds (`focal_kwargs`: FocalLoss); None where it holds a plain value."""
    return match(option.removesuffix("_kwargs")) if option.endswith("_kwargs") else None


@dataclass
class _Class:
    """Class definition, read from the source."""

    node: ast.ClassDef
    module: str
    doc: str
    settings: dict[str, Any] = field(default_factory=dict)
    init: ast.FunctionDef | None = None

    @property
    def base(self) -> str:
        return self.node.bases[0].id if self.node.bases and isinstance(self.node.bases[0], ast.Name) else ""


def _classes() -> Iterator[_Class]:
    for file in sorted(_FOLDER.glob("*.py")):
        for node in ast.parse(file.read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef):
                found = _Class(node, f"train.loss_terms.{file.stem}", ast.get_docstring(node) or "")
                for part in node.body:
                    if isinstance(part, ast.Assign | ast.AnnAssign):
                        target = part.target if isinstance(part, ast.AnnAssign) else part.targets[0]
                        if isinstance(target, ast.Name):
                            found.settings[target.id] = _literal(part.value)
                    elif isinstance(part, ast.FunctionDef) and part.name == "__init__":
                        found.init = part
                yield found


def _literal(node: ast.expr | None) -> Any:
    try:
        return None if node is None else ast.literal_eval(node)
    except ValueError:
        return None


def _options(known: dict[str, _Class], name: str) -> dict[str, Option]:
    """Return the options of a class: its own, then those that it passes on to its base class."""
    found = known[name]
    if found.init is None:
        return _options(known, found.base)
    meanings = _arguments(found.doc)
    options = {}
    arguments = found.init.args
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        if argument.arg not in _NOT_OPTIONS:
            assert argument.annotation is not None
            options[argument.arg] = Option(
                argument.arg,
                _type(argument.annotation),
                frozenset(part.id for part in ast.walk(argument.annotation) if isinstance(part, ast.Name)),
                _literal(default),
                meanings.get(argument.arg, ""),
            )
    if arguments.kwarg is None:
        return options
    # `**common` are the options of all losses; `**options` those of the base class that aren't passed to it by name.
    base = _BASE if arguments.kwarg.arg == "common" else found.base
    passed = {
        keyword.arg
        for call in ast.walk(found.init)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "__init__"
        for keyword in call.keywords
    }
    inherited = {key: option for key, option in _options(known, base).items() if key not in passed}
    return options | {key: option for key, option in inherited.items() if key not in options}


def _type(node: ast.expr) -> Any:
    """Return the type that an annotation means, without null: names of `train.configs.fields`, Literal and unions."""
    if isinstance(node, ast.BinOp):
        left, right = _type(node.left), _type(node.right)
        return left if right is NoneType else right if left is NoneType else left | right
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == "Literal":
        values = ast.literal_eval(node.slice)
        return Literal[values]
    if isinstance(node, ast.Constant) and node.value is None:
        return NoneType
    if isinstance(node, ast.Name):
        plain = {"bool": bool, "int": int, "float": float, "str": str}
        return plain[node.id] if node.id in plain else getattr(fields, node.id)
    raise TypeError(f"line {node.lineno}: {ast.unparse(node)} is no type of an option (see train/configs/fields.py)")


def _arguments(doc: str) -> dict[str, str]:
    """Return the texts of a Google-style Args section, by argument."""
    section = re.search(r"^Args:\n((?:    .*\n?|\n)+)", doc, re.MULTILINE)
    found: dict[str, str] = {}
    name = ""
    for line in (section[1] if section else "").splitlines():
        if head := re.match(r"    (\w+): (.*)", line):
            name = head[1]
            found[name] = head[2]
        elif name and line.strip():
            found[name] += " " + line.strip()
    return found


def _settings(known: dict[str, _Class], name: str) -> dict[str, Any]:
    """Return the class attributes of a class and its bases; aliases are not inherited."""
    if name not in known:
        return {}
    found = known[name]
    inherited = _settings(known, found.base)
    return {key: value for key, value in inherited.items() if key != "aliases"} | found.settings


def _rows(known: dict[str, _Class]) -> dict[str, Loss]:
    rows = {}
    for name, found in sorted(known.items()):
        if name.endswith("Loss") and not name.startswith("_") and name != _BASE:
            keys = ("aliases", "only", "instead", "of_several_classes")
            settings = {key: value for key, value in _settings(known, name).items() if key in keys}
            meaning = found.doc.partition("\n")[0]
            rows[name] = Loss(name, f"{found.module}:{name}", meaning, _options(known, name), **settings)
    return rows


_KNOWN = {found.node.name: found for found in _classes()}
LOSSES = _rows(_KNOWN)
COMMON = frozenset(_options(_KNOWN, _BASE))
"""Options that every loss has."""
_SPELLINGS = {
    alias.removesuffix("loss"): name
    for alias, name in spellings({name: row.aliases for name, row in LOSSES.items()}).items()
}
