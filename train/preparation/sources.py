"""Images of a preparation, with their labels: the entries of the config, and the files that their patterns name."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from inference.common.areas import FIX_GEOREFERENCE, georeference_problem
from inference.common.errors import UserError
from inference.common.paths import is_address, shown_path, user_path
from inference.common.raster import Header, read_header
from inference.common.text import limited
from train.configs.data import SPLITS
from train.configs.document import KeyPath
from train.configs.wording import nearest, shown
from train.data.demo import demo_file
from train.data.pairs import join_some
from train.preparation.config import SourceConfig
from train.preparation.loader import Loaded

PLACEHOLDER = re.compile(r"\{(\w+)\}")
_FILES = ("labels", "areas")
_TEXTS = ("layer", "areas_layer", "site", "date", "split")
_DATE = re.compile(r"(\d{4})-?(\d{2})-?(\d{2})")
_UNSAFE = re.compile(r"[^\w.-]+")  # in the name of a file, and of a block


@dataclass(frozen=True)
class SourceFiles:
    """Image with its labels.

    Attributes:
        name: Unique name; its label raster is labels/NAME.tif.
        image: Header of the image.
        image_path: File or address of the image.
        labels: Vector file or label raster; None if there is nothing but background.
        layer: Layer of the vector file; None if it has a single one.
        areas: Vector file with polygons inside which everything was labelled; None for the whole image.
        areas_layer: Layer of areas; None if the file has a single one.
        site: Name of the place.
        date: Date of the image, YYYY-MM-DD.
        split: Split that the config gives.
        entry: Number of its entry in `sources`, from 0.
    """

    name: str
    image: Header
    image_path: Path | str
    labels: Path | str | None = None
    layer: str | None = None
    areas: Path | str | None = None
    areas_layer: str | None = None
    site: str = ""
    date: str | None = None
    split: str | None = None
    entry: int = 0


@dataclass(frozen=True)
class _Entry:
    """Entry of the config for a single image: no placeholders are left.

    Attributes:
        number: Number of the entry, from 0.
        image: File or address of the image.
        name: Name that the pattern gives the image; None without one.
        values: The other keys that are set.
    """

    number: int
    image: str
    name: str | None
    values: Mapping[str, str]


def find_sources(loaded: Loaded) -> list[SourceFiles]:
    """Find the images of a config and their labels, and read the headers of the images.

    Raises:
        UserError: A file is missing or can't be read, a pattern names no file, or a value is wrong; a line for each.
    """
    problems: list[str] = []
    entries = [
        entry
        for number, source in enumerate(loaded.config.sources)
        for entry in _expand(loaded, number, source, problems)
    ]
    names = _names(entries)
    first: dict[str, _Entry] = {}
    found = []
    for entry, name in zip(entries, names, strict=True):
        same = entry.image if is_address(entry.image) else str(Path(entry.image).resolve())
        if same in first:
            problems.append(
                _line(loaded, entry, "image", f"{shown_path(entry.image)} stands here a second time (keep one)")
            )
            continue
        first[same] = entry
        before = len(problems)
        source = _read(loaded, entry, name, problems)
        if len(problems) == before and source is not None:
            found.append(source)
    if problems:
        raise UserError("\n".join(limited(problems)))
    return found


def _line(loaded: Loaded, entry: _Entry, key: str, text: str) -> str:
    path: KeyPath = ("sources", entry.number, key)
    return loaded.line(path, text)


def _expand(loaded: Loaded, number: int, source: SourceConfig, problems: list[str]) -> Iterator[_Entry]:
    """Yield an entry for each image that an entry of the config names."""
    given = {key: str(value) for key in (*_FILES, *_TEXTS) if (value := getattr(source, key)) is not None}
    try:
        pattern = _located(source.image, loaded.line(("sources", number, "image"), "").rstrip(": "))
    except UserError as error:
        problems.append(str(error))
        return
    known = set(PLACEHOLDER.findall(pattern))
    used = {key: set(PLACEHOLDER.findall(value)) for key, value in given.items()}
    for key, words in used.items():
        if missing := sorted(words - known):
            has = f"has {', '.join(f'{{{word}}}' for word in sorted(known))}" if known else "has none"
            text = f"{{{missing[0]}}} is no part of the pattern of images, which {has} (use it in image, or remove it)"
            problems.append(loaded.line(("sources", number, key), text))
            return
    if not known and not any(sign in pattern for sign in "*?"):
        yield _Entry(number, pattern, None, given)
        return
    at: KeyPath = ("sources", number, "image")
    if is_address(pattern):
        text = f"{shown_path(source.image)}: addresses can't be listed by a pattern (name each image)"
        problems.append(loaded.line(at, text))
        return
    matches = list(_matches(pattern))
    if not matches:
        problems.append(loaded.line(at, _nothing(source.image, pattern)))
    for image, stands_for in matches:
        values = {key: _filled(value, stands_for) for key, value in given.items()}
        yield _Entry(number, image, stands_for.get("name"), values)


def _filled(text: str, words: Mapping[str, str]) -> str:
    """Return a text with its placeholders replaced."""
    return PLACEHOLDER.sub(lambda found: words[found[1]], text)


def _located(text: str, option: str) -> str:
    """Return a user's text for a file as GDAL opens it; files of the demo survey are drawn."""
    if text.startswith("demo:"):
        try:
            return str(demo_file(text))
        except UserError as error:
            raise UserError(f"{option}: {error}") from None
    return text if is_address(text) else str(user_path(text, option))


def _matches(pattern: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each file that a pattern names, sorted, with the text that each placeholder stands for."""
    expression, seen = "", set[str]()
    for literal, word in re.findall(r"((?:[^{]|\{(?!\w+\}))*)(?:\{(\w+)\})?", pattern):
        expression += re.escape(literal).replace(r"\*", "[^/\\\\]*").replace(r"\?", "[^/\\\\]")
        if word:
            expression += f"(?P={word})" if word in seen else f"(?P<{word}>[^/\\\\]+)"
            seen.add(word)
    stars = Path(PLACEHOLDER.sub("*", pattern).replace("[", "[[]"))
    for path in sorted(Path(stars.anchor).glob(str(stars.relative_to(stars.anchor)))):
        match = re.fullmatch(expression, str(path))
        if match is not None and path.is_file():
            yield str(path), match.groupdict()


def _nothing(text: str, pattern: str) -> str:
    """Describe a pattern that names no file."""
    parts = Path(pattern).parts
    first = next(index for index, part in enumerate(parts) if PLACEHOLDER.search(part) or "*" in part or "?" in part)
    folder = Path(*parts[:first])
    if not folder.is_dir():
        return f"{shown_path(text)}: matches no file: there is no folder {shown_path(folder)} (correct the path)"
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        return f"{shown_path(text)}: matches no file: {shown_path(folder)} can't be read: {error.strerror}"
    held = f"holds {join_some(names)}" if names else "is empty"
    return f"{shown_path(text)}: matches no file: {shown_path(folder)} {held} (correct the pattern)"


def _names(entries: list[_Entry]) -> list[str]:
    """Return a unique name for each entry: that of its pattern or file, where needed with folders before it."""
    plain = [_safe(entry.name or _stem(entry.image)) for entry in entries]
    counts: dict[str, int] = {}
    for name in plain:
        counts[name.casefold()] = counts.get(name.casefold(), 0) + 1
    taken: set[str] = set()
    names = []
    for entry, name in zip(entries, plain, strict=True):
        if counts[name.casefold()] > 1:
            name = _safe(f"{Path(entry.image).parent.name}_{name}")
        unique, number = name, 2
        while unique.casefold() in taken:  # file systems may not tell upper from lower case
            unique, number = f"{name}_{number}", number + 1
        taken.add(unique.casefold())
        names.append(unique)
    return names


def _stem(image: str) -> str:
    return Path(image.partition("?")[0]).stem


def _safe(name: str) -> str:
    return _UNSAFE.sub("_", name).strip("._-") or "image"


def _read(loaded: Loaded, entry: _Entry, name: str, problems: list[str]) -> SourceFiles | None:
    """Read the header of an image and find its other files; None, and problems, where that fails."""
    values = dict(entry.values)
    files: dict[str, Path | str] = {}
    for key in _FILES:
        if key not in values:
            continue
        try:
            files[key] = _existing(values[key], _line(loaded, entry, key, "").rstrip(": "), entry.image)
        except UserError as error:
            problems.append(str(error))
    split, day = values.get("split"), values.get("date")
    if split is not None and split not in SPLITS:
        text = f"{shown(split)} is no split{nearest(split, SPLITS)} (allowed: {', '.join(SPLITS)}; image {entry.image})"
        problems.append(_line(loaded, entry, "split", text))
    if day is not None and (day := _day(day)) is None:
        text = f"{shown(values['date'])} is no date (allowed: YYYY-MM-DD or YYYYMMDD; image {shown_path(entry.image)})"
        problems.append(_line(loaded, entry, "date", text))
    try:
        header = read_header(entry.image, fix="correct sources, or replace the file")
    except UserError as error:
        problems.append(_line(loaded, entry, "image", str(error)))
        return None
    wrong = georeference_problem(header.crs, header.transform, header.height, header.width)
    if wrong is not None:
        text = f"{shown_path(entry.image)}: its georeference is wrong: {wrong} ({FIX_GEOREFERENCE})"
        problems.append(_line(loaded, entry, "image", text))
    return SourceFiles(
        name=name,
        image=header,
        image_path=entry.image if is_address(entry.image) else Path(entry.image),
        labels=files.get("labels"),
        layer=values.get("layer"),
        areas=files.get("areas"),
        areas_layer=values.get("areas_layer"),
        site=values.get("site", name),
        date=day,
        split=split,
        entry=entry.number,
    )


def _existing(text: str, option: str, image: str) -> Path | str:
    """Return a file of an image that must exist, or an address."""
    located = _located(text, option)
    if is_address(located):
        return located
    path = Path(located)
    if not path.exists():
        hint = ""
        if path.parent.is_dir():
            hint = nearest(path.name, (other.name for other in path.parent.iterdir()))
        raise UserError(f"{option}: {shown_path(path)}: no such file{hint} (it belongs to {shown_path(image)})")
    return path


def _day(text: str) -> str | None:
    """Return a date as YYYY-MM-DD; None if it is none."""
    found = _DATE.fullmatch(text.strip())
    if found is None:
        return None
    try:
        return date(int(found[1]), int(found[2]), int(found[3])).isoformat()
    except ValueError:
        return None
