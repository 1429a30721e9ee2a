"""Reference of all keys, from the schema, and of all names, from the registries, as Markdown tables."""

import sys
import types
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from train.configs.config import Config
from train.configs.network import LossConfig
from train.configs.registries.families import FAMILIES
from train.configs.registries.losses import COMMON, LOSSES
from train.configs.registries.schedules import SCHEDULES
from train.configs.schema import in_words
from train.export.formats import ALL_FORMATS

_WORDS = {int: "whole number", float: "number", str: "text", bool: "true, false", dict: "mapping", list: "list"}


def _kinds(annotation: Any) -> Iterator[str]:
    """Yield the kinds of values that are allowed, in words."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _kinds(get_args(annotation)[0])
    elif origin is Literal:
        yield from (f"`{_yaml(value)}`" for value in get_args(annotation))
    elif origin in {Union, types.UnionType}:
        for part in get_args(annotation):
            if part is not types.NoneType:
                yield from _kinds(part)
    elif origin is list:
        (inner,) = get_args(annotation)
        yield f"list of {' or '.join(f'{word}s' if word[-1].isalpha() else word for word in _kinds(inner))}"
    elif origin is dict or (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        yield "mapping"
    else:
        yield _WORDS.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _yaml(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    if field.default_factory is not None or isinstance(field.default, BaseModel):
        made: Any = field.get_default(call_default_factory=True, validated_data={})
        return f"`{made.name}`" if isinstance(made, LossConfig) else ""
    if field.default is None or field.default is PydanticUndefined:
        return ""
    return f"`{_yaml(field.default)}`"


def _sections(model: type[BaseModel], path: str) -> Iterator[tuple[str, type[BaseModel]]]:
    yield path, model
    for name, field in model.model_fields.items():
        for part in _inner(field.annotation):
            if part is not model:
                yield from _sections(part, f"{path}.{name}".lstrip("."))


def _inner(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    found = [model for part in get_args(annotation) for model in _inner(part)]
    return list(dict.fromkeys(found))


def reference(root: type[BaseModel] = Config) -> str:
    """Return Markdown with a table for each section, a row for each key.

    Args:
        root: Model of the whole file, by default of a training config.
    """
    lines: list[str] = []
    for path, model in _sections(root, ""):
        about = (model.__doc__ or "").strip().splitlines()[0]
        lines += [f"#### {f'`{path}`' if path else 'Top level'}", "", about, "", "| key | default | values | meaning |"]
        lines.append("|---|---|---|---|")
        for name, field in model.model_fields.items():
            kinds = ", ".join(dict.fromkeys(_kinds(field.annotation)))
            meaning = " ".join((field.description or "").split())
            lines.append(f"| `{name}` | {_default(field)} | {kinds} | {meaning} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def tables() -> dict[str, str]:
    """Return Markdown tables of the registries: losses, families, architectures, schedules and formats."""
    return {
        "losses": _losses(),
        "families": table(
            ["family", "default architecture", "default encoder", "meaning"],
            (
                [f"`{f.name}`", f"`{f.default}`", f"`{f.backbones.default}`" if f.backbones else "its own", f.meaning]
                for f in FAMILIES.values()
            ),
        ),
        "architectures": table(
            ["family", "architecture", "meaning", "options"],
            (
                [f"`{family.name}`", f"`{row.name}`", row.meaning, _codes(sorted(row.opts))]
                for family in FAMILIES.values()
                for row in family.architectures.values()
            ),
        ),
        "schedules": table(
            ["schedule", "meaning", "source"],
            ([f"`{row.name}`", row.meaning, row.source] for row in SCHEDULES.values()),
        ),
        "formats": table(
            ["format", "file", "meaning"],
            ([f"`{row.name}`", f"`{row.stem}{row.suffix}`", row.meaning] for row in ALL_FORMATS.values()),
        ),
    }


def _losses() -> str:
    """Return a table of the losses and one of the options of each."""
    options: dict[tuple[str, ...], list[str]] = {}
    for row in LOSSES.values():
        for key, option in row.options.items():
            if key not in COMMON:
                cells = (f"`{key}`", _shown(option.default), in_words(option.type), option.meaning)
                options.setdefault(cells, []).append(row.short)
    parts = [
        table(
            ["loss", "aliases", "task", "meaning"],
            (
                [f"`{row.name}`", ", ".join(row.aliases), row.only or "binary, multiclass", row.meaning]
                for row in LOSSES.values()
            ),
        ),
        f"Options of all losses: {_codes(sorted(COMMON))}. Options of each loss:\n",
        table(
            ["losses", "option", "default", "values", "meaning"],
            ([", ".join(names), *cells] for cells, names in options.items()),
        ),
    ]
    return "\n".join(parts)


def _codes(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _shown(value: Any) -> str:
    return "" if value is None else f"`{_yaml(value)}`"


if __name__ == "__main__":
    sys.stdout.write(reference())
