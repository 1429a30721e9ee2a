"""Prepared data sets of a few pixels, written with SQLite alone."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from inference.common.raster import read_header
from tests.conftest import scene, write_raster
from train.data.image_digest import image_bytes, image_digest
from train.data.prepared import IGNORED, Block, Settings, Source

NAMES = ("background", "kelp")
SETTINGS = Settings(NAMES, 32, 1.0, 32, "block", None, 0)


def write_tables(
    folder: Path, sources: Sequence[Source], blocks: Sequence[Block], settings: Settings = SETTINGS
) -> Path:
    """Writes dataset.gpkg without polygons and returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "dataset.gpkg"
    path.unlink(missing_ok=True)
    rows = []
    for block in blocks:
        row = asdict(block)
        shares = row.pop("shares") or (1.0,) + (0.0,) * (len(settings.class_names) - 1)
        named = zip(settings.class_names, shares, strict=True)
        rows.append({"note": "extra"} | row | {f"share_{i}_{name}": s for i, (name, s) in enumerate(named)})
    with closing(sqlite3.connect(path)) as database:
        write_table(database, "sources", [asdict(source) for source in sources])
        write_table(database, "blocks", rows)
        values = [{"key": key, "value": json.dumps(value)} for key, value in asdict(settings).items()]
        write_table(database, "settings", values)
        database.commit()
    return path


def write_table(database: sqlite3.Connection, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    database.execute(f"CREATE TABLE {name} (fid INTEGER PRIMARY KEY, {', '.join(rows[0])})")
    marks = ", ".join("?" * len(rows[0]))
    database.executemany(
        f"INSERT INTO {name} ({', '.join(rows[0])}) VALUES ({marks})", [tuple(row.values()) for row in rows]
    )


def edit(folder: Path, statement: str) -> None:
    """Changes the tables as a user does in QGIS."""
    with closing(sqlite3.connect(folder / "dataset.gpkg")) as database:
        database.execute(statement)
        database.commit()


def source_of(image: Path, folder: Path, site: str | None = None) -> Source:
    header = read_header(image)
    name = image.stem
    return Source(
        name,
        f"../{image.relative_to(folder.parent)}",
        site or name,
        None,
        header.width,
        header.height,
        header.count,
        header.dtype,
        "EPSG:32609",
        0.1,
        image_bytes(image),
        image_digest(image, header),
    )


def shares_of(label: np.ndarray) -> tuple[float, float, float]:
    """Share of unlabelled pixels and of each of two classes."""
    unlabelled, background, kelp = (float((label == value).mean()) for value in (IGNORED, 0, 1))
    return unlabelled, background, kelp


def make_prepared(
    root: Path,
    mosaics: int = 2,
    size: tuple[int, int] = (150, 210),
    block: int = 60,
    bands: int = 3,
    settings: Settings = SETTINGS,
    **profile: Any,
) -> Path:
    """Writes mosaics and a prepared set of their blocks, and returns its folder, `root`/out.

    Blocks lie at least a guard apart; their rows and columns are no multiples of anything. The splits take turns.
    """
    folder = root / "out"
    sources: list[Source] = []
    blocks: list[Block] = []
    for number in range(mosaics):
        rng = np.random.default_rng(number)
        name = f"m{number}"
        image, label = scene(rng, *size, bands)
        label[:, :7] = IGNORED
        path = write_raster(root / "mosaics" / f"{name}.tif", image, origin=(5e5 + 1000 * number, 5.8e6), **profile)
        write_raster(folder / "labels" / f"{name}.tif", label, origin=(5e5 + 1000 * number, 5.8e6), nodata=IGNORED)
        sources.append(source_of(path, folder))
        gap = settings.guard_pixels
        corners = [
            (row, col)
            for row in range(3, size[0] - block // 2, block + gap)
            for col in range(5, size[1] - block // 2, block + gap)
        ]
        for row, col in corners:
            high, wide = min(block, size[0] - row), min(block, size[1] - col)
            unlabelled, *shares = shares_of(label[row : row + high, col : col + wide])
            blocks.append(
                Block(
                    f"{name}_r{row}_c{col}",
                    name,
                    row,
                    col,
                    high,
                    wide,
                    ("train", "val", "train", "test")[len(blocks) % 4],
                    unlabelled=unlabelled,
                    shares=tuple(shares),
                )
            )
    if settings.folds is not None:
        blocks = [replace(b, fold=None if b.split == "test" else 1 + i % settings.folds) for i, b in enumerate(blocks)]
    write_tables(folder, sources, blocks, settings)
    return folder
