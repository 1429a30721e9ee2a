"""Generated parts of the documentation: replace the markers `<!-- generated: NAME -->` by text made from the code.

MkDocs calls `on_page_markdown` for every page (`hooks` in mkdocs.yml). `python docs/generate.py NAME` prints one part.
Nothing generated is committed, so that a new loss, key or option changes no file in docs/.
"""

import contextlib
import importlib
import io
import os
import posixpath
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
REPOSITORY = "https://github.com/HakaiInstitute/hakai-ml-train/blob/HEAD/"
"""Where links go that lead out of docs/."""
MARKER = re.compile(r"^<!-- generated: (\S+) -->$", re.MULTILINE)
INCLUDED = {
    "benchmarks": "benchmarks/README.md",
    "contributing": "CONTRIBUTING.md",
    "changelog": "CHANGELOG.md",
}
"""Files outside docs/ that are pages of the site too."""
_COMMANDS = (
    ("python -m train", "train.__main__"),
    ("python -m train.prepare", "train.prepare"),
    ("python train/convert_checkpoint.py", "train.convert_checkpoint"),
    ("python inference.py", "inference.inference"),
    ("python polygons.py", "inference.polygons"),
    ("python -m inference.card", "inference.card"),
    ("python eval/test_new_model.py", "eval.test_new_model"),
    ("python eval/test_kom.py", "eval.test_kom"),
    ("python eval/area.py", "eval.area"),
    ("python eval/area.py sample", "eval.area sample"),
    ("python eval/area.py estimate", "eval.area estimate"),
)
_TITLES = {"backends": "Back ends"}
_WIDTH = "100"  # columns of help texts
_LINK = re.compile(r"(?<=\]\()([^)\s]+)(?=\))")


def _config() -> str:
    """Return the table of all config keys."""
    from train.configs.reference import reference

    # One level up: on the page the sections stand under a heading of the second level.
    return reference().replace("#### ", "### ")


def _prepare() -> str:
    """Return the table of all keys of a preparation."""
    from train.configs.reference import reference
    from train.preparation.config import PrepareConfig

    return reference(PrepareConfig).replace("#### ", "### ")


def _tables() -> dict[str, str]:
    """Return the tables of the registries by name."""
    from inference.model.registry import BACKENDS
    from train.configs.reference import table, tables

    backends = [[f"`{row.name}`", ", ".join(row.suffixes), row.install, row.meaning] for row in BACKENDS.values()]
    return tables() | {"backends": table(["back end", "files", "install", "meaning"], backends)}


def _table(*names: str) -> Callable[[], str]:
    """Return a function that joins tables of the registries, each under a heading where there are several."""

    def render() -> str:
        made = _tables()
        if len(names) == 1:
            return made[names[0]]
        return "\n\n".join(f"## {_TITLES.get(name, name.capitalize())}\n\n{made[name].strip()}" for name in names)

    return render


def help_text(module: str) -> str:
    """Return what `--help` of a command prints; `module` has a `main(argv)`, and a subcommand may follow its name."""
    name, *words = module.split()
    printed = io.StringIO()
    columns = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = _WIDTH
    try:
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            importlib.import_module(name).main([*words, "--help"])
    finally:
        if columns is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = columns
    return printed.getvalue()


def _commands() -> str:
    """Return the help of every command."""
    return "\n\n".join(f"## `{title}`\n\n```text\n{help_text(module).strip()}\n```" for title, module in _COMMANDS)


_WORDS = {"integer": "whole number", "string": "text", "boolean": "true or false", "object": "mapping"}


def _kind(schema: dict[str, Any]) -> str:
    """Return the type of a field in words, from its JSON Schema."""
    if "anyOf" in schema:
        return " or ".join(_kind(part) for part in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return " or ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if "$ref" in schema:
        return "mapping, see below"
    kind = str(schema.get("type", "any"))
    if kind == "array":
        inner = _kind(schema["items"])
        return f"list of {inner}s" if inner[-1].isalpha() else f"list of {inner}"
    return {"integer": "whole number", "string": "text", "boolean": "true or false", "object": "mapping"}.get(
        kind, kind
    )


def _card() -> str:
    """Return the tables of the fields of a model card."""
    from inference.card import ModelCard, TrainingData

    parts = []
    for title, model in ((None, ModelCard), ("`training_data`", TrainingData)):
        lines = [f"### {title}", ""] if title else []
        lines += ["| field | default | type | meaning |", "|---|---|---|---|"]
        for name, field in model.model_json_schema()["properties"].items():
            own = model.model_fields[name]
            made = None if own.is_required() else own.get_default(call_default_factory=True, validated_data={})
            default = "" if own.is_required() else f"`{_json(made)}`"
            meaning = " ".join(field.get("description", "").split()).replace("|", "\\|")
            lines.append(f"| `{name}` | {default} | {_kind(field)} | {meaning} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _json(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _file(name: str) -> Callable[[], str]:
    return lambda: (ROOT / name).read_text(encoding="utf-8")


GENERATED: dict[str, Callable[[], str]] = {
    "config": _config,
    "prepare": _prepare,
    "commands": _commands,
    "card": _card,
    "losses": _table("losses"),
    "networks": _table("families", "architectures"),
    "schedules": _table("schedules"),
    "formats": _table("formats", "backends"),
    **{name: _file(path) for name, path in INCLUDED.items()},
}
"""Each marker's name, and what makes its text."""


def relink(text: str, source: str, page: str) -> str:
    """Return `text` with relative links that work on the site.

    Args:
        text: Markdown.
        source: Path of the file it comes from, from the root of the repository.
        page: Path of the page it is shown on, from docs/.
    """
    pages = {path: f"{name}.md" for name, path in INCLUDED.items()}

    def replace(match: re.Match[str]) -> str:
        target, hash_, anchor = match[1].partition("#")
        if "://" in target or not target or target.startswith("mailto:"):
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if path in pages:
            path = f"docs/{pages[path]}"
        if not path.startswith("docs/"):
            return f"{REPOSITORY}{path}{hash_}{anchor}"
        return f"{posixpath.relpath(path.removeprefix('docs/'), posixpath.dirname(page) or '.')}{hash_}{anchor}"

    # Code is left as it is.
    parts = re.split(r"(^```.*?^```$|`[^`\n]+`)", text, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if index % 2 else _LINK.sub(replace, part) for index, part in enumerate(parts))


def fill(markdown: str, page: str) -> str:
    """Return a page with every marker replaced and links that work on the site.

    Raises:
        KeyError: A marker names no generated part.
    """
    _make_importable()

    def replace(match: re.Match[str]) -> str:
        name = match[1]
        return relink(GENERATED[name](), INCLUDED.get(name, f"docs/{page}"), page)

    return MARKER.sub(replace, relink(markdown, f"docs/{page}", page))


def _make_importable() -> None:
    """Put the root of the repository on the path; MkDocs takes it off again after loading this file."""
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Fill a page; called by MkDocs."""
    return fill(markdown, page.file.src_uri)


def main(argv: list[str]) -> int:
    """Print generated parts by name; return the exit code."""
    _make_importable()
    unknown = [name for name in argv if name not in GENERATED]
    if not argv or unknown:
        found = ", ".join(unknown) or "nothing"
        sys.stderr.write(f"python docs/generate.py NAME: found {found} (allowed: {', '.join(GENERATED)})\n")
        return 2
    sys.stdout.write("\n\n".join(GENERATED[name]().strip() for name in argv) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
