"""Prepared data set: mosaics, the blocks that they are divided into, and the split of each block.

`python -m train.prepare` writes it to a folder: `dataset.gpkg` with the tables below, `labels/NAME.tif` with the class
indices on the grid of each image, and `statistics.json`. The images stay where they are.

A block is a rectangle of whole pixels of one image. Training reads windows inside blocks only. No pixel of a selected
block of one split (or fold) lies within the guard distance of a selected block of another one.
"""

from dataclasses import dataclass, field
from pathlib import Path

from inference.common.paths import Address, is_address

DATASET = "dataset.gpkg"
"""File name of the tables."""
LABELS = "labels"
"""Folder of the label rasters."""
STATISTICS = "statistics.json"
"""File name of the statistics of the selected blocks of the train split."""
OVERVIEW = "overview.png"
"""File name of a picture of images, labels and splits."""
SOURCES_TABLE, BLOCKS_TABLE, SETTINGS_TABLE = "sources", "blocks", "settings"
"""Names of the tables: images, blocks (both with polygons), and settings (columns `key` and `value`, JSON)."""
IGNORED = 255
"""Value of unlabelled pixels in label rasters; their nodata value."""
SHARE = "share_{index}_{name}"
"""Column of `blocks` with the share of a class, 0 to 1; `name` with all but letters and digits replaced by `_`."""


@dataclass(frozen=True)
class Source:
    """Image of a prepared data set; the columns of table `sources` have the names of the attributes.

    Attributes:
        name: Unique name; its label raster is `labels/NAME.tif`.
        image: Path relative to the folder where possible, or an address.
        site: Name of the place; the image's name if none was given.
        date: Date of the image, YYYY-MM-DD; None if unknown.
        width: Columns, pixels.
        height: Rows, pixels.
        bands: Number of bands.
        dtype: Data type.
        crs: Authority code such as EPSG:32609, else WKT; None if there is none.
        gsd: Ground sample distance, metres; None if unknown.
        bytes: Size of the file; None for an address that doesn't say.
        sha256: SHA-256 of the file's size, header, first and last MiB.
    """

    name: str
    image: str
    site: str
    date: str | None
    width: int
    height: int
    bands: int
    dtype: str
    crs: str | None
    gsd: float | None
    bytes: int | None
    sha256: str


@dataclass(frozen=True)
class Block:
    """Rectangle of an image; the columns of table `blocks` have the names of the attributes, and one a class's share.

    Attributes:
        block: Unique name, such as NAME_r3_c12.
        source: Name of its image.
        row: First row, pixels.
        col: First column, pixels.
        height: Rows, pixels.
        width: Columns, pixels.
        split: train, val or test.
        fold: Fold for cross-validation, from 1; None without folds, and for the test split.
        selected: True if the block is used.
        reason: Why it isn't selected; empty if it is.
        nodata: Share of pixels that are invalid in the image, 0 to 1.
        unlabelled: Share of valid pixels without a label, 0 to 1.
        shares: Share of labelled, valid pixels of each class; with `nodata` and `unlabelled` they sum to 1.
    """

    block: str
    source: str
    row: int
    col: int
    height: int
    width: int
    split: str
    fold: int | None = None
    selected: bool = True
    reason: str = ""
    nodata: float = 0.0
    unlabelled: float = 0.0
    shares: tuple[float, ...] = ()


@dataclass(frozen=True)
class Settings:
    """Settings of a prepared data set; table `settings` has a row for each attribute.

    Attributes:
        class_names: Name of each class, by index.
        tile_size: Side of the windows that the guard was made for, pixels.
        guard: Smallest distance on the ground between blocks of two splits, metres; None if no image is georeferenced.
        guard_pixels: The same in pixels, for images that aren't georeferenced.
        by: What the splits were drawn by: block, site, date, column or given.
        folds: Number of folds; None without folds.
        seed: Seed of the draw.
        version: Version of the layout of this file.
    """

    class_names: tuple[str, ...]
    tile_size: int
    guard: float | None
    guard_pixels: int
    by: str
    folds: int | None
    seed: int
    version: int = 1


@dataclass(frozen=True)
class PreparedSet:
    """Contents of a prepared data set.

    Attributes:
        folder: Folder of the data set, or its address.
        settings: Settings.
        sources: Images by name.
        blocks: Blocks in the order of the file.
    """

    folder: Path | Address
    settings: Settings
    sources: dict[str, Source] = field(default_factory=dict)
    blocks: list[Block] = field(default_factory=list)

    def image(self, source: str) -> Path | str:
        """Return the path or address of an image.

        Raises:
            ValueError: The data set has an address, and the image lies outside its bucket, host or archive.
        """
        image = self.sources[source].image
        if is_address(image):
            return image
        if isinstance(self.folder, Path) or Path(image).is_absolute():
            return Path(self.folder) / image
        return str(self.folder.joined(image))

    def label(self, source: str) -> Path | Address:
        """Return the path or address of a label raster."""
        return self.folder / LABELS / f"{source}.tif"
