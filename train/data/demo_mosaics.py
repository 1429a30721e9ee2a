"""Demo survey: three synthetic mosaics and the GeoPackage of an annotator who drew kelp on them.

It has the form in which drone surveys arrive, and is what `python -m train.prepare` starts from: `{point,cove,bar}.tif`
in UTM, and `kelp.gpkg` in degrees. Layer `kelp` has polygons whose column `label` is kelp or unsure. Layer `labelled`
has the polygons in which the annotator finished; of the third mosaic a part was left.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyogrio
import shapely
from pyproj import Transformer
from rasterio import Affine
from rasterio.features import shapes

from train.data.demo import CRS, ORIGIN, SEED, outline, write_geotiff
from train.data.demo_scene import KELP, PIXEL_SIZE, Site, draw_scene

HEIGHT, WIDTH = 1280, 1536
SPACING = 400.0  # metres from one mosaic to the next, northwards
MOSAICS = {
    "point": Site(shore="rock", waterline=0.15, kelp=0.35, islets=4),
    "cove": Site(shore="sand", waterline=0.2, kelp=0.3),
    "bar": Site(shore="rock", waterline=0.35, kelp=0.3, islets=3),
}
"""Name and coast of each mosaic."""
FINISHED = (1.0, 1.0, 0.8)
"""Share of each mosaic, from the west, in which the annotator finished."""
SMALLEST = 60
"""Area of the smallest polygon, pixels: annotators draw no specks."""

Shape = tuple[str, Any]
"""Label and polygon in pixels, or in degrees."""


def draw_mosaics(folder: Path, index: int) -> None:
    """Draw the mosaic with a number, and with the last one the GeoPackage, into a folder."""
    name, site = list(MOSAICS.items())[index]
    rng = np.random.default_rng((SEED, 1000 + index))
    image, label = draw_scene(rng, site, HEIGHT, WIDTH)
    valid = outline(rng, HEIGHT, WIDTH)
    # Black marks nodata, so no valid pixel may be black.
    image = np.maximum(image, 1)
    image[~valid], label[~valid] = 0, 0
    write_geotiff(folder / f"{name}.tif", image.transpose(2, 0, 1), corner(index), nodata=0)
    np.save(folder / f"{name}.npy", label)
    if index < len(MOSAICS) - 1:
        return
    drawn: list[Shape] = []
    finished: list[Shape] = []
    for number, mosaic in enumerate(MOSAICS):
        stored = folder / f"{mosaic}.npy"
        drawn += [(what, _in_degrees(shape, number)) for what, shape in polygons(np.load(stored))]
        area = shapely.box(0, 0, round(WIDTH * FINISHED[number]), HEIGHT)
        finished.append((mosaic, _in_degrees(area, number)))
        stored.unlink()
    _write_layer(folder / "kelp.gpkg", "kelp", "label", drawn)
    _write_layer(folder / "kelp.gpkg", "labelled", "mosaic", finished)


def corner(index: int) -> tuple[float, float]:
    """Return easting and northing of the upper left corner of a mosaic, metres."""
    return ORIGIN[0], ORIGIN[1] + 2000 + index * SPACING


def polygons(label: npt.NDArray[np.uint8]) -> list[Shape]:
    """Return the polygons that an annotator would draw around the classes of a label (H, W), in pixels."""
    drawn: dict[int, list[Any]] = {}
    for geometry, value in shapes(label, mask=label > 0):
        polygon = shapely.geometry.shape(geometry)
        if polygon.area >= SMALLEST:
            drawn.setdefault(int(value), []).append(polygon.simplify(1.0))
    kelp = drawn.pop(KELP, [])
    bed = shapely.union_all(kelp)
    unsure = [part for shape in drawn.values() for each in shape for part in shapely.get_parts(each.difference(bed))]
    return [("kelp", shape) for shape in kelp] + [("unsure", part) for part in unsure if part.area >= SMALLEST]


def _in_degrees(polygon: Any, index: int) -> Any:
    """Convert a polygon in pixels of a mosaic to longitude and latitude."""
    east, north = corner(index)
    transform = Affine(PIXEL_SIZE, 0, east, 0, -PIXEL_SIZE, north)
    to_degrees = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True)

    def place(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.column_stack(to_degrees.transform(*(transform @ tuple(points.T))))

    return shapely.transform(polygon, place)


def _write_layer(path: Path, layer: str, column: str, drawn: Sequence[Shape]) -> None:
    """Write polygons in degrees with one text column as a layer of a GeoPackage."""
    pyogrio.raw.write(
        path,
        geometry=shapely.to_wkb([shapely.MultiPolygon([shape]) for _, shape in drawn]),
        field_data=[np.array([what for what, _ in drawn], object)],
        fields=[column],
        layer=layer,
        driver="GPKG",
        geometry_type="MultiPolygon",
        crs="EPSG:4326",
        append=path.exists(),
        dataset_options={} if path.exists() else {"VERSION": "1.2"},  # read without a warning by GDAL 3.6 and older
    )
