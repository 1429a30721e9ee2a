"""Settings that decide what the maps of a batch contain: what was chosen, and the contents of the files that are read.

Maps of one batch have the same settings, so that they can be compared; the journal holds them with each map.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from inference.card import ModelCard
from inference.common.errors import UserError
from inference.common.paths import is_address, shown_path, user_path
from inference.common.text import limited, quoted
from inference.model.backends import choose_backend
from inference.model.choose import card_for, check_model_file, choose_model
from inference.options import Options

_OF_THE_MACHINE = {"overwrite", "threads", "batch_size", "date"}  # the date is that of an image
_FILES = ("erase", "clip", "sites", "card")
_SHOWN = 5


@dataclass(frozen=True)
class Settings:
    """Settings of a batch.

    Attributes:
        model: SHA-256 of the model's file.
        card: Card of the model.
        values: Options that differ from their defaults; of files that are read, their SHA-256.
        options: SHA-256 of `values`.
    """

    model: str
    card: ModelCard
    values: Mapping[str, Any]
    options: str


def read_settings(options: Options, templates: Mapping[str, str]) -> Settings:
    """Return the settings of a batch, after a check of the model and of the options.

    Args:
        options: Options of the user, which have been checked.
        templates: Names of the files beside each map, by option.

    Raises:
        UserError: The model, its card or an option is invalid, or a file can't be read.
    """
    model = choose_model(backend=options.backend) if options.model is None else user_path(options.model, "--model")
    check_model_file(model)
    choose_backend(model, options.backend, options.precision)
    given = None if options.card is None else user_path(options.card, "--card")
    card = card_for(model, given, "uint8")
    if options.bands is not None and len(options.bands) != len(card.bands):
        raise UserError(f"--bands: names {len(options.bands)} bands, the model takes {len(card.bands)}")
    if options.threshold is not None and len(card.class_names) > 2:
        raise UserError(f"--threshold: is for two classes, the model has {len(card.class_names)} (leave it out)")
    values: dict[str, Any] = {}
    for field in fields(options):
        value = getattr(options, field.name)
        if field.name in _OF_THE_MACHINE or field.name == "model" or value == field.default:
            continue
        if field.name in templates:
            value = templates[field.name]
        elif field.name in _FILES:
            value = _content(value, f"--{field.name}")
        values[field.name] = list(value) if isinstance(value, tuple) else value
    text = json.dumps(values, sort_keys=True, default=str)
    values = json.loads(text)
    return Settings(digest(model), card, values, hashlib.sha256(text.encode()).hexdigest())


def differences(settings: Settings, record: Mapping[str, Any]) -> list[str]:
    """Return how the settings of a map that is done differ from those of the batch, a text for each."""
    if record.get("model_sha256") != settings.model:
        named = " ".join(str(record.get(key) or "") for key in ("model", "revision")).strip()
        return [f"another model{f', {quoted(named)}' if named else ''}"]
    if record.get("options") == settings.options:
        return []
    before = record.get("settings")
    if not isinstance(before, dict):
        return ["other options"]
    changed = [
        f"--{key.replace('_', '-')} {_value(before.get(key))} (now {_value(settings.values.get(key))})"
        for key in sorted({*before, *settings.values})
        if before.get(key) != settings.values.get(key)
    ]
    return limited(changed, _SHOWN) or ["other options"]


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits.

    Raises:
        UserError: It can't be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{shown_path(path)}: can't be read: {error.strerror}") from None


def _content(given: str | Path, option: str) -> str:
    """Return the SHA-256 of a file and the layer in it, or the address as it is."""
    text, bar, layer = str(given).partition("|")
    if is_address(text):
        return str(given)
    path = user_path(text, option)
    if not path.exists():
        raise UserError(f"{shown_path(path)}: no such file (correct {option})")
    return f"{digest(path)}{bar}{layer}" if path.is_file() else str(given)


def _value(value: Any) -> str:
    if value is None:
        return "not given"
    return quoted(str(value)[:12]) if isinstance(value, str) and len(value) >= 64 else quoted(value)
