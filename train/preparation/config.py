"""Schema of a PREPARE.yml: the only place that defines the keys of `train.prepare` and their defaults.

The text below a field is its documentation (and its description in the JSON Schema that `python -m train.prepare
--schema` prints). The models check one key at a time; `train/preparation/loader.py` checks several keys together and
reports every problem as FILE:LINE:COL.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from train.configs.fields import Fraction, NonNegative, Section, Seed, Text, TileSize, mistake
from train.configs.wording import shown
from train.data.prepared import IGNORED

IGNORE = "ignore"
"""Word of a class map for pixels that have no label."""
_LENGTH = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE]([-+]?[0-9]+))?\s*(m|px)\s*")


@dataclass(frozen=True)
class Distance:
    """Distance on the ground, or on the pixel grid.

    Attributes:
        value: Number.
        unit: m for metres on the ground, px for pixels.
    """

    value: float
    unit: str

    def __str__(self) -> str:
        return f"{self.value:g} {self.unit}"


def distance(value: str | float) -> Distance:
    """Return a distance that a config gives: `30 m`, `512 px`, or a number of metres."""
    if not isinstance(value, str):
        return Distance(float(value), "m")
    found = _LENGTH.fullmatch(value)
    assert found is not None, value
    return Distance(float(f"{found[1]}e{found[2] or 0}"), found[3])


def _check_distance(value: Any) -> Any:
    if isinstance(value, str) and not _LENGTH.fullmatch(value):
        raise mistake(f"{shown(value)} is no distance (allowed: metres such as 30 m, or pixels such as 512 px)")
    return value


Length = Annotated[
    NonNegative | Annotated[str, Field(pattern=r"^\s*[0-9.]+([eE][-+]?[0-9]+)?\s*(m|px)\s*$")],
    BeforeValidator(_check_distance),
]
ClassIndex = Annotated[int, Field(ge=0, lt=IGNORED)]


class SourceConfig(Section):
    """Image, or several that a pattern names, with their labels.

    `{name}` in a path of images stands for any text within a folder or file name; the same text stands in its place in
    the other keys. Other words in braces work too, such as mosaics/{site}_{date}.tif.
    """

    image: Text
    """Image: a file, an address that GDAL opens, or a pattern such as mosaics/{name}.tif."""
    labels: Text | None = None
    """Vector file with polygons, or label raster on any grid; without it all labelled pixels are background."""
    layer: Text | None = None
    """Layer of the vector file; needed if it has several."""
    areas: Text | None = None
    """Vector file with polygons inside which everything was labelled; default: the whole image was."""
    areas_layer: Text | None = None
    """Layer of areas; needed if the file has several."""
    site: Text | None = None
    """Name of the place; default: the name of the image."""
    date: Text | int | None = None
    """Date of the image, YYYY-MM-DD or YYYYMMDD."""
    split: Text | None = None
    """train, val or test; for split.by: given."""


class ClassesConfig(Section):
    """Classes, and the values that stand for them in the labels. Class 0 is the background, unless it has a name."""

    name: Text | None = None
    """Name of the only class: all polygons are of it, index 1."""
    column: Text | None = None
    """Column of the polygons that holds the class."""
    map: Annotated[dict[str | int, ClassIndex | Literal["ignore"]], Field(min_length=1)] | None = None
    """Class index, or ignore, of each value of the column or of the label raster; "*" for all other values."""
    names: Annotated[list[Text], Field(min_length=2, max_length=IGNORED)] | None = None
    """Name of each class, by index; default: background, then the values of map."""


class PriorityConfig(Section):
    """Order of classes where polygons of several overlap."""

    priority: Annotated[list[Text], Field(min_length=1)]
    """Classes, or values of the column: the first wins. Classes that are left out lose."""


class SharesConfig(Section):
    """Share of each split; they sum to 1."""

    train: Fraction
    """Share of the train split."""
    val: Fraction = 0.0
    """Share of the val split."""
    test: Fraction = 0.0
    """Share of the test split; with folds the only one that counts."""


class SplitConfig(Section):
    """Division into train, val and test."""

    by: Literal["block", "site", "date", "column", "given"] = "block"
    """Unit that is drawn as a whole: block of ground, site, date, value of a column; given: each source has a split."""
    column: Text | None = None
    """Column of the areas (without areas: of the labels) for by: column; train, val and test are the split itself."""
    block_size: Length | None = None
    """Side of the blocks, such as 200 m or 2048 px; default: 4 tiles."""
    shares: SharesConfig = Field(default_factory=lambda: SharesConfig(train=0.7, val=0.15, test=0.15))
    """Share of each split; default: train 0.7, val 0.15, test 0.15."""
    seed: Seed = 0
    """Seed of the draw."""
    guard: Length | None = None
    """Smallest distance between blocks of two splits, such as 30 m or 512 px; default: one tile."""
    folds: Annotated[int, Field(ge=2, le=100)] | None = None
    """Number of folds for cross-validation of what isn't in the test split."""


class SelectConfig(Section):
    """Blocks that are used; the others stay in the table, with the reason."""

    max_nodata: Fraction = 0.9
    """Largest share of a block without image data."""
    min_labelled: Fraction = 0.01
    """Smallest share of a block's valid pixels with a label."""


class PrepareConfig(Section):
    """A data set to prepare."""

    output_dir: Text
    """Folder that is written, relative to the working directory."""
    tile_size: TileSize = 512
    """Side of the windows that will be trained on, pixels."""
    sources: Annotated[list[SourceConfig], Field(min_length=1)]
    """Images with their labels; paths are relative to the working directory."""
    classes: ClassesConfig
    """Classes, and the values that stand for them."""
    overlap: Literal["error", "ignore"] | PriorityConfig = "error"
    """Ground that polygons of several classes claim: an error, pixels without a label, or an order of classes."""
    border_ignore: Length = 0
    """Pixels within this distance of an outline have no label, such as 0.2 m or 2 px."""
    all_touched: bool = False
    """True: polygons fill all pixels that they touch; false: those whose centre they hold."""
    split: SplitConfig = Field(default_factory=SplitConfig)
    """Division into train, val and test."""
    select: SelectConfig = Field(default_factory=SelectConfig)
    """Blocks that are used."""

    @property
    def class_names(self) -> list[str]:
        """Name of each class, by index."""
        classes = self.classes
        if classes.names is not None:
            return list(classes.names)
        found = {0: _numbered(0)}
        for key, index in reversed((classes.map or {}).items()):  # of several values of a class the first is its name
            if index != IGNORE:
                found[int(index)] = key if isinstance(key, str) else _numbered(int(index))
        if classes.name is not None:
            found[1] = classes.name
        return [found.get(index, _numbered(index)) for index in range(max(found) + 1)]

    @property
    def values(self) -> dict[str, int]:
        """Class of each value of the labels, or IGNORED; empty if label rasters hold the class indices."""
        return {str(key): IGNORED if index == IGNORE else int(index) for key, index in (self.classes.map or {}).items()}

    @property
    def priority(self) -> list[int]:
        """Classes that win where polygons overlap, the first most; empty if overlaps have no order."""
        if not isinstance(self.overlap, PriorityConfig):
            return []
        values = self.values
        order = [values.get(name, IGNORED) for name in self.overlap.priority]
        found = [
            self.class_names.index(name) if name in self.class_names else index
            for name, index in zip(self.overlap.priority, order, strict=True)
        ]
        return [index for index in dict.fromkeys(found) if index != IGNORED]


def _numbered(index: int) -> str:
    return "background" if index == 0 else f"class_{index}"
