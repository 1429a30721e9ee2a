"""Queries of the schema: values that are allowed at a path, where a misplaced key belongs, and the JSON Schema.

`root` is the model of the whole file, by default that of a training config.
"""

import json
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from train.configs.config import Config
from train.configs.document import KeyPath
from train.configs.wording import nearest


@dataclass(frozen=True)
class Kind:
    """One of the kinds of values that are allowed at a path.

    Attributes:
        type: `int`, `list[int]`, a model, a `Literal` and so on; never a union.
        limits: Bounds, such as `annotated_types.Ge`.
    """

    type: Any
    limits: tuple[Any, ...] = ()

    @property
    def model(self) -> type[BaseModel] | None:
        """Model, where it is one."""
        return self.type if isinstance(self.type, type) and issubclass(self.type, BaseModel) else None

    @property
    def free(self) -> bool:
        """True for a mapping whose keys are the user's own."""
        return get_origin(self.type) is dict

    @property
    def items(self) -> list["Kind"]:
        """Kinds of the items, where it is a list."""
        return list(_kinds(get_args(self.type)[0])) if get_origin(self.type) is list else []

    def limit(self, name: str) -> Any:
        """Return the bound of this name (ge, gt, le, lt); None without one."""
        return next((getattr(limit, name) for limit in self.limits if hasattr(limit, name)), None)

    def words(self) -> str:
        """Return the kind in words: `a number > 0`."""
        if get_origin(self.type) is Literal:
            return ", ".join(map(str, get_args(self.type)))
        names = {bool: "true or false", int: "a whole number", float: "a number", str: "text", types.NoneType: "null"}
        least, most = self.limit("min_length"), self.limit("max_length")
        if get_origin(self.type) is list:
            return f"a list of {least}" if most else "a non-empty list" if least else "a list"
        if self.type not in names:
            return "a mapping"
        if self.type is str and least:
            return "non-empty text"
        low = f">= {_number(ge)}" if (ge := self.limit("ge")) is not None else None
        low = f"> {_number(gt)}" if (gt := self.limit("gt")) is not None else low
        high = f"<= {_number(le)}" if (le := self.limit("le")) is not None else None
        high = f"< {_number(lt)}" if (lt := self.limit("lt")) is not None else high
        if ge is not None and le is not None:
            return f"{names[self.type]} from {_number(ge)} to {_number(le)}"
        return " ".join(filter(None, [names[self.type], " and ".join(filter(None, [low, high]))]))


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else str(value)


def _kinds(annotation: Any, limits: tuple[Any, ...] = ()) -> Iterator[Kind]:
    if get_origin(annotation) is Annotated:
        inner, *extra = get_args(annotation)
        yield from _kinds(inner, (*limits, *_limits(extra)))
    elif get_origin(annotation) in {Union, types.UnionType}:
        for choice in get_args(annotation):
            yield from _kinds(choice)
    else:
        yield Kind(annotation, limits)


def _limits(metadata: list[Any]) -> list[Any]:
    return [limit for item in metadata for limit in (item.metadata if isinstance(item, FieldInfo) else [item])]


@cache
def _fields(model: type[BaseModel]) -> dict[str, list[Kind]]:
    return {key: list(_kinds(f.annotation, tuple(f.metadata))) for key, f in model.model_fields.items()}


def kinds(path: KeyPath, root: type[BaseModel] = Config) -> list[Kind]:
    """Return the kinds of values that are allowed at a path; none where the schema has no such path."""
    here = [Kind(root)]
    for key in path:
        below: list[Kind] = []
        for kind in here:
            if kind.model is not None:
                below += _fields(kind.model).get(str(key), []) if isinstance(key, str) else []
            elif kind.free:
                below += _kinds(get_args(kind.type)[1])
            elif isinstance(key, int):
                below += kind.items
            elif kind.type is Any:
                below.append(kind)
        here = below
    return here


def default(path: KeyPath) -> Any:
    """Return the default of the key at a path of sections."""
    model = next(kind.model for kind in kinds(path[:-1]) if kind.model is not None)
    return model.model_fields[str(path[-1])].get_default(call_default_factory=True, validated_data={})


def in_words(annotation: Any) -> str:
    """Return the values that a type allows, in words."""
    return _listed(kind.words() for kind in _kinds(annotation) if kind.type is not types.NoneType)


def _listed(words: Iterable[str]) -> str:
    *others, last = dict.fromkeys(words)
    return f"{', '.join(others)}{',' * (len(others) > 1)} or {last}" if others else last


def allowed(path: KeyPath, root: type[BaseModel] = Config) -> str:
    """Return the values that are allowed at a path, in words."""
    null_counts = any(
        kind.model.model_fields[str(path[-1])].default is not None
        for kind in kinds(path[:-1], root)
        if kind.model is not None and path[-1] in kind.model.model_fields
    )
    return _listed(kind.words() for kind in kinds(path, root) if kind.type is not types.NoneType or null_counts)


def choices(path: KeyPath, root: type[BaseModel] = Config) -> list[str]:
    """Return the words that are allowed at a path."""
    return [str(c) for kind in kinds(path, root) if get_origin(kind.type) is Literal for c in get_args(kind.type)]


def unknown_key(path: KeyPath, root: type[BaseModel] = Config) -> str | None:
    """Describe what is wrong with the last key of a path; None where the schema has it."""
    around, key = kinds(path[:-1], root), str(path[-1])
    models = [kind.model for kind in around if kind.model is not None]
    if kinds(path, root) or not around:
        return None
    if not models:
        listed = any(kind.items for kind in around)
        return "is no key: " + ("items of a list are numbered from 0" if listed else "a single value stands here")
    keys = sorted({name for model in models for name in model.model_fields})
    # A slip of one letter is more likely than a key that is right in another section.
    near = nearest(key, keys, cutoff=0.85)
    if not near and (homes := _homes(root).get(key)):
        below = [home for home in homes if home.startswith(_section(path))]
        chosen = below or homes
        # lr is a key of a section and of the stages in it: the section is meant.
        chosen = [home for home in chosen if not any(home.startswith(f"{other}.") for other in chosen)]
        near = f" (it belongs to {' or '.join(chosen)})"
    return "unknown key" + (near or nearest(key, keys) or f" (allowed: {', '.join(keys)})")


def _section(path: KeyPath) -> str:
    """Return the mapping that a key is in, as `_homes` names it."""
    return ".".join(part for part in path[:-1] if isinstance(part, str)) or "the top level"


@cache
def _homes(root: type[BaseModel]) -> dict[str, list[str]]:
    """Map each key to the sections that have it."""
    homes: dict[str, list[str]] = {}
    seen: set[type[BaseModel]] = set()
    sections: list[tuple[str, type[BaseModel]]] = [("the top level", root)]
    for name, model in sections:  # grows on the way
        if model in seen:
            continue
        seen.add(model)
        for key, field in model.model_fields.items():
            homes.setdefault(key, []).append(name)
            inner = f"{name}.{key}" if model is not root else key
            below = list(_kinds(field.annotation))
            below += [item for kind in below for item in kind.items]
            sections += [(inner, kind.model) for kind in below if kind.model is not None]
    return homes


def json_schema(root: type[BaseModel] = Config) -> str:
    """Return the JSON Schema (draft 2020-12) of a YAML file, by default of a training config."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema"} | root.model_json_schema()
    return json.dumps(schema, indent=2)
