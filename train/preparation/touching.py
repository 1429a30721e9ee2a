"""Check that polygons lie on the images that they are given for."""

from collections.abc import Collection, Sequence

import numpy as np
import shapely
from rasterio.warp import transform_bounds

from inference.common.raster import GDAL_ERRORS, Header
from inference.common.text import quoted
from inference.common.vector import VectorLayer
from train.preparation.label_sources import ImageLabels, bounds_of


def touch_problems(
    labels: Sequence[ImageLabels], known: Collection[str] = ()
) -> tuple[list[str], dict[str, list[str]]]:
    """Check that the polygons of every file touch one of its images.

    Args:
        labels: Labels of images.
        known: Files that are known to touch other images.

    Returns:
        Problems: files none of whose polygons touches an image. Notices, by the name of an image: images that no
        polygon of a file touches.
    """
    problems: list[str] = []
    notices: dict[str, list[str]] = {}
    for what in ("polygon", "area"):
        touched: set[int] = set()
        missed: dict[int, list[ImageLabels]] = {}
        for each in labels:
            layer, placed = each.placed(what)
            if layer is not None and len(placed):
                touched.add(id(layer))
            elif layer is not None:
                missed.setdefault(id(layer), []).append(each)
        for key, images in missed.items():
            layer, _ = images[0].placed(what)
            assert layer is not None
            named = f"{layer.path}: layer {quoted(layer.name)}"
            if key in touched or layer.path in known or (what == "polygon" and not len(layer.geometries)):
                effect = "it is background" if what == "polygon" else "nothing of it is labelled"
                for each in images:
                    line = f"{named} has no {what} on {each.source.image.path}: {effect}"
                    notices.setdefault(each.source.name, []).append(line)
            else:
                first = images[0].source.image
                also = f" and {len(images) - 1} other images" if len(images) > 1 else ""
                problems.append(
                    f"{named}: none of its {len(layer.geometries):,} polygons touches {first.path}{also}"
                    f"{_where(layer, first)} (check the files and their CRS)"
                )
    return problems, notices


def _where(layer: VectorLayer, header: Header) -> str:
    """Describe where a layer's polygons and an image lie, in degrees, for a message; empty if that isn't known."""
    try:
        one = transform_bounds(layer.crs, "EPSG:4326", *shapely.total_bounds(layer.geometries))
        other = transform_bounds(header.crs, "EPSG:4326", *bounds_of(header))
    except (*GDAL_ERRORS, ValueError):
        return ""
    if not np.isfinite([*one, *other]).all():
        return ""
    return f": they lie at {_degrees(one)}, the image at {_degrees(other)}"


def _degrees(bounds: tuple[float, float, float, float]) -> str:
    west, south, east, north = bounds
    return f"longitude {west:.4f} to {east:.4f}, latitude {south:.4f} to {north:.4f}"
