"""Burning of polygons into rows of class indices.

A pixel belongs to a polygon if its centre lies inside (or, with `all_touched`, if the polygon touches it). GDAL decides
this row by row, from the edges that cross the row; so rows can be burned in strips, and the result doesn't depend on
their height. The pixels equal those of `rasterio.features.rasterize` over the whole image in its own transform. With
`all_touched` pixels may differ that a polygon touches at a point of their edge only, where GDAL's own rounding decides.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio import Affine
from rasterio.features import rasterize

from train.data.prepared import IGNORED
from train.preparation.outlines import Outlines

_BESIDE = 2
"""Rows beside a strip that are burned with it where all touched pixels count."""
_STRIP = 8 * 2**20
"""Pixels that are burned at once, which bounds the memory of masks."""


@dataclass(frozen=True)
class BurnRule:
    """Rule for what polygons become on the pixel grid.

    Attributes:
        order: Classes whose polygons win over those of other classes, the first of them most; classes that aren't named
            lose. Empty to ignore pixels that two classes claim.
        priority: True if `order` decides; False to ignore pixels that two classes claim.
        border: Distance from an outline within which pixels are ignored, as (rows, columns) in pixels; zeros for none.
        all_touched: True to burn all pixels that a polygon touches.
        background: Class of labelled pixels outside all polygons.
    """

    order: tuple[int, ...] = ()
    priority: bool = False
    border: tuple[float, float] = (0.0, 0.0)
    all_touched: bool = False
    background: int = 0


@dataclass
class Burner:
    """Burner of the polygons of one image.

    Args:
        height: Height of the image, pixels.
        width: Width of the image, pixels.
        geometries: (n,) valid polygons in pixel coordinates.
        classes: (n,) class of each, or IGNORED.
        areas: (m,) polygons inside which everything is labelled; None for the whole image.
        rule: Rule.
        upwards: True if northings grow as rows fall, as they do in most images: the transform has a negative
            determinant. Decides only on horizontal edges through the centres of pixels.

    Attributes:
        conflicts: Pixels so far that polygons of two classes claim.
    """

    height: int
    width: int
    geometries: NDArray[Any]
    classes: NDArray[np.uint8]
    areas: NDArray[Any] | None = None
    rule: BurnRule = field(default_factory=BurnRule)
    upwards: bool = True
    conflicts: int = 0

    def __post_init__(self) -> None:
        self._outlines = Outlines(self.geometries, self.upwards)
        self._mixed = _mixed(self.geometries, self.classes, 1.0 if self.rule.all_touched else 0.0)
        self._areas = None if self.areas is None else Outlines(self.areas, self.upwards)
        self._rings: dict[int, Any] = {}
        order: Sequence[int] = self.rule.order
        rank = {value: len(order) - place for place, value in enumerate(order)}
        # The order of burning: what wins comes last.
        ascending = sorted({int(value) for value in self.classes}, key=lambda value: (rank.get(value, 0), value))
        self._rank = np.zeros(256, np.int64)
        self._rank[ascending] = np.arange(len(ascending))

    def rows(self, row: int, count: int) -> NDArray[np.uint8]:
        """Return the labels of some rows, (count, width) uint8; IGNORED where there is no label."""
        labels = np.full((count, self.width), self.rule.background, np.uint8)
        step = max(1, _STRIP // self.width)
        for start in range(0, count, step):
            self._burn_strip(labels[start : start + step], row + start)
        return labels

    def _burn_strip(self, labels: NDArray[np.uint8], row: int) -> None:
        """Burn polygons, borders and areas into the labels of a strip of rows."""
        found = self._outlines.near(row, len(labels))
        owners = self._outlines.owners(found)
        classes = self.classes[owners]
        counted = classes != IGNORED
        ranked = np.argsort(self._rank[classes[counted]], kind="stable")
        names, values, mixed = found[counted][ranked], classes[counted][ranked], self._mixed[owners][counted][ranked]
        touched = self.rule.all_touched
        self._burn(labels, self._outlines, names, values, row, touched)
        if mixed.any():
            # What is burned in the opposite order differs where two classes claim a pixel.
            other = labels.copy()
            self._burn(other, self._outlines, names[mixed][::-1], values[mixed][::-1], row, touched)
            conflict = labels != other
            self.conflicts += int(np.count_nonzero(conflict))
            if not self.rule.priority:
                labels[conflict] = IGNORED
        self._burn(labels, self._outlines, found[~counted], classes[~counted], row, touched)
        if any(self.rule.border):
            rings = self._borders(row, len(labels))
            near = rings.near(row, len(labels))
            self._burn(labels, rings, near, np.full(len(near), IGNORED), row)
        if self._areas is not None:
            near = self._areas.near(row, len(labels))
            inside = np.zeros(labels.shape, np.uint8)
            self._burn(inside, self._areas, near, np.ones(len(near), int), row)
            labels[inside == 0] = IGNORED

    def _borders(self, row: int, count: int) -> Outlines:
        """Return the ground within the border distance of the outlines that reach into some rows."""
        high, wide = self.rule.border
        beside = int(np.ceil(high)) + 1
        near = np.unique(self._outlines.owners(self._outlines.near(row - beside, count + 2 * beside)))
        # A ring is kept as long as rows touch it: what GEOS draws depends on the whole outline.
        self._rings = {name: ring for name, ring in self._rings.items() if name in set(near.tolist())}
        missing = np.array([name for name in near.tolist() if name not in self._rings], np.intp)
        if len(missing):
            # Stretched, so that the distance is the same along both axes.
            stretched = shapely.transform(self.geometries[missing], lambda at: at * (high / wide, 1))
            rings = shapely.buffer(shapely.boundary(stretched), high, quad_segs=16)
            rings = shapely.transform(rings, lambda at: at * (wide / high, 1))
            self._rings.update(zip(missing.tolist(), rings, strict=True))
        return Outlines(np.array(list(self._rings.values()), object), self.upwards)

    def _burn(
        self,
        labels: NDArray[np.uint8],
        outlines: Outlines,
        polygons: NDArray[np.intp],
        values: NDArray[Any],
        row: int,
        all_touched: bool = False,
    ) -> None:
        """Burn values of polygons into the labels of a strip of rows, in order."""
        if not len(polygons):
            return
        first, last = row, row + len(labels)
        if all_touched:
            # GDAL draws lines that touch a row from outside only where the row beyond is a part of the image.
            first, last = max(0, first - _BESIDE), min(self.height, last + _BESIDE)
        strip = labels
        if (first, last) != (row, row + len(labels)):
            strip = np.zeros((last - first, self.width), np.uint8)
            strip[row - first : row - first + len(labels)] = labels
        # On a horizontal edge GDAL decides by the direction of the ring, so rows count upwards, as northings do.
        sign = -1 if self.upwards else 1
        shapes: Iterable[tuple[dict[str, Any], int]] = (
            (outlines.drawn(polygon, first, last - first, whole=all_touched), value)
            for polygon, value in zip(polygons.tolist(), values.tolist(), strict=True)
        )
        rasterize(shapes, out=strip, transform=Affine(1, 0, 0, 0, sign, sign * first), all_touched=all_touched)
        if strip is not labels:
            labels[:] = strip[row - first : row - first + len(labels)]


def _mixed(geometries: NDArray[Any], classes: NDArray[np.uint8], beside: float) -> NDArray[np.bool_]:
    """Return True for polygons whose bounds touch those of a polygon of another class, (n,).

    Args:
        geometries: Polygons.
        classes: Class of each; ignored ones don't count.
        beside: Distance by which bounds are widened, pixels.
    """
    mixed = np.zeros(len(geometries), np.bool_)
    counted = classes != IGNORED
    if len(np.unique(classes[counted])) < 2:
        return mixed
    widened = geometries
    if beside:
        widened = shapely.box(*(shapely.bounds(geometries) + np.array([-beside, -beside, beside, beside])).T)
    one, other = shapely.STRtree(geometries).query(widened)  # compares bounds
    apart = (classes[one] != classes[other]) & counted[one] & counted[other]
    mixed[one[apart]] = True
    mixed[other[apart]] = True
    return mixed
