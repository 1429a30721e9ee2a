"""Small maps with probabilities and a known truth, and interpreters who label samples of them."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import rasterio
import shapely
from numpy.typing import NDArray

from eval.area import main
from inference.common.geopackage import write_layer
from tests.conftest import write_raster

# The tests write hundreds of layers, none of which must survive a power cut.
pyogrio.set_gdal_config_options({"OGR_SQLITE_SYNCHRONOUS": "OFF"})


@dataclass(frozen=True)
class World:
    """Map with its probabilities and the truth; the upper left corner is nodata."""

    map: Path
    probabilities: Path
    truth: NDArray[np.int64]
    valid: NDArray[np.bool_]
    names: tuple[str, ...]

    def area(self, k: int) -> float:
        """Return the true area of a class, m², of pixels of 0.01 m² by their side on the projection."""
        return float(((self.truth == k) & self.valid).sum()) * 0.01


def write_world(folder: Path, height: int = 150, width: int = 190, classes: int = 2, **profile: Any) -> World:
    """Write a map and its probabilities; each pixel is of a class with just its probability."""
    rng = np.random.default_rng(5)
    rows, cols = np.mgrid[:height, :width]
    waves = [np.sin(rows / (9 + 4 * k)) + np.cos(cols / (7 + 5 * k)) for k in range(1, classes)]
    logits = np.stack([np.full((height, width), 3.5), *(3 * wave for wave in waves)])
    chance = np.exp(logits) / np.exp(logits).sum(axis=0)
    chance = chance.astype(np.float32)
    truth = (rng.random((height, width)) > np.cumsum(chance, axis=0)[:-1]).sum(axis=0)
    mapped = chance.argmax(axis=0).astype(np.uint8)
    valid = np.ones((height, width), np.bool_)
    valid[:20, :30] = False
    names = ("water", "kelp", "rock", "sand")[:classes]
    mapped[~valid] = 255
    path = write_raster(folder / "map.tif", mapped, nodata=255, **profile)
    with rasterio.open(path, "r+") as file:
        file.update_tags(CLASS_NAMES=json.dumps(dict(enumerate(names))))
    chance[:, ~valid] = np.nan
    return World(path, write_raster(folder / "p.tif", chance, nodata=np.nan, **profile), truth, valid, names)


def run(*arguments: object) -> int:
    """Run the command and return its exit code."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as end:
        return int(end.code or 0)


Change = Callable[[str, dict[str, Any], Any], tuple[dict[str, Any], Any] | None]


def rewrite(path: Path, change: Change, crs: str | None = None, order: int = 1) -> None:
    """Write all layers of a GeoPackage anew, as ogr2ogr does, each after a change; None leaves a layer out.

    Args:
        path: The file; it is replaced.
        change: Given the name of a layer, its columns and geometries (None for a table), returns both.
        crs: CRS of the layers; None for their own.
        order: -1 to write the layers in reverse order.
    """
    layers = []
    for name, _ in pyogrio.list_layers(path):
        meta, _, shapes, values = pyogrio.raw.read(path, layer=name)
        geometries = None if shapes is None else shapely.from_wkb(shapes)
        changed = change(name, dict(zip(meta["fields"].tolist(), values, strict=True)), geometries)
        if changed is not None:
            layers.append((name, meta, *changed))
    path.unlink()
    for name, meta, columns, geometries in layers[::order]:
        kind = "Unknown" if geometries is None else geometries[0].geom_type
        write_layer(path, name, geometries, columns, crs or meta["crs"], kind)


def label(path: Path, world: World, answers: Mapping[int, Any] | None = None) -> dict[int, str]:
    """Label each point with the truth below it, or as `answers` say by number; return what was written."""
    with rasterio.open(world.map) as file:
        inverse = ~file.transform
    given: dict[int, str] = {}

    def change(name: str, columns: dict[str, Any], shapes: Any) -> tuple[dict[str, Any], Any]:
        if name == "points":
            col, row = (np.floor(each).astype(int) for each in inverse @ shapely.get_coordinates(shapes).T)
            ids = columns["id"].tolist()
            truth = [world.names[k] for k in world.truth[row, col]]
            given.update(dict(zip(ids, truth, strict=True)) | dict(answers or {}))
            columns["label"] = np.array([given[number] for number in ids], object)
        return columns, shapes

    rewrite(path, change)
    return given


def read_points(path: Path) -> tuple[dict[str, Any], NDArray[np.float64]]:
    """Return the columns and the coordinates of the points of a sample."""
    meta, _, shapes, values = pyogrio.raw.read(path, layer="points")
    return dict(zip(meta["fields"].tolist(), values, strict=True)), shapely.get_coordinates(shapely.from_wkb(shapes))
