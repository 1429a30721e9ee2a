"""Tiny surveys for tests of a preparation: mosaics, and polygons on them."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import shapely
from rasterio import Affine
from rasterio.warp import transform as to_crs

from tests.conftest import write_raster

CRS = "EPSG:32609"
ORIGIN = (5e5, 5.8e6)
PIXEL = 0.1
"""Metres."""


def write_mosaic(
    path: Path, size: tuple[int, int] = (120, 160), at: tuple[float, float] = (0.0, 0.0), **profile: Any
) -> Path:
    """Write a mosaic of three bands whose upper left corner lies `at` metres east and south of ORIGIN."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(len(path.stem)).integers(1, 255, (3, *size)).astype(np.uint8)
    east, north = ORIGIN[0] + at[0], ORIGIN[1] - at[1]
    return write_raster(path, image, origin=(east, north), **profile)


def ground(row: float, col: float, height: float, width: float, at: tuple[float, float] = (0.0, 0.0)) -> Any:
    """Return the rectangle of pixels of a mosaic in CRS."""
    transform = Affine(PIXEL, 0, ORIGIN[0] + at[0], 0, -PIXEL, ORIGIN[1] - at[1])
    corners = [(col, row), (col + width, row), (col + width, row + height), (col, row + height)]
    return shapely.Polygon([transform @ corner for corner in corners])


def write_polygons(
    path: Path,
    shapes: Sequence[Any],
    columns: Mapping[str, Sequence[Any]] | None = None,
    crs: str | None = CRS,
    layer: str | None = None,
    **options: Any,
) -> Path:
    """Write polygons, which are given in CRS, in a CRS of their own."""
    path.parent.mkdir(parents=True, exist_ok=True)

    def moved(points: np.ndarray) -> np.ndarray:
        return np.column_stack(to_crs(CRS, crs, *points.T))

    placed = (
        list(shapes) if crs in {CRS, None} else [None if s is None else shapely.transform(s, moved) for s in shapes]
    )
    columns = columns or {"label": ["kelp"] * len(placed)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # some tests are about files without a CRS
        pyogrio.raw.write(
            path,
            geometry=shapely.to_wkb(placed),
            field_data=[np.array(list(values), object) for values in columns.values()],
            fields=list(columns),
            geometry_type="Unknown",
            crs=crs,
            layer=layer,
            append=path.exists(),
            **options,
        )
    return path


CONFIG = """\
output_dir: out
tile_size: 16
sources:
  - {image: "m/{name}.tif", labels: kelp.gpkg}
classes: {column: label, map: {kelp: 1, eelgrass: 2, unsure: ignore}}
split: {block_size: 40 px, guard: 8 px, shares: {train: 0.6, val: 0.2, test: 0.2}}
"""
Run = Callable[..., tuple[int, str, str]]


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all files below a folder, by name."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def refused(run: Run, *arguments: str, config: str | None = None) -> str:
    """Run the command on bad input: one line, and the folder is as it was."""
    folder = Path("out")
    before = contents(folder) if folder.exists() else None
    code, out, err = run(*arguments, config=config)
    assert code == 2, err
    assert out == ""
    lines = [line for line in err.splitlines() if not line.startswith("notice: ")]
    assert len(lines) == 1, err
    assert (contents(folder) if folder.exists() else None) == before
    return lines[0]


def source(**keys: str) -> str:
    """Return a config with one source, whose file of labels is the given one."""
    lines = CONFIG.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("  - "))
    values = {"image": "m/north.tif", "labels": "kelp.gpkg"} | keys
    lines[at] = "  - {" + ", ".join(f"{key}: {value}" for key, value in values.items()) + "}"
    return "\n".join(lines) + "\n"
