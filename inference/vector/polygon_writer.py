"""Polygons of a map, made and written while the rows of the map come from top to bottom.

    rows -> regions -> holes filled, small ones dropped -> erased, clipped, simplified -> dissolved -> file

Areas, lengths and probabilities are those of the pixels, or of the part of them that a cut leaves; what simplification
does to the outlines has no effect on them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray

from inference.common.areas import ground_sample_distance
from inference.common.qgis_style import polygon_style
from inference.common.vector_grid import ground_areas
from inference.vector.cuts import Mask
from inference.vector.features import Features, MapInfo
from inference.vector.formats import PolygonFile, layer_name
from inference.vector.ground import Ground
from inference.vector.regions import RegionFinder, Regions
from inference.vector.simplify import bottoms, simplified
from inference.vector.specks import Counts, SpeckFilter

BAND = 128
"""Rows in which regions are found at once, a multiple of `CELL_ROWS`."""
_BATCH = 20_000  # features that are written at once


@dataclass(frozen=True)
class PolygonPlan:
    """Plan of the polygons of a map.

    Attributes:
        info: Contents of the map.
        path: File to write.
        classes: Classes to make polygons of.
        overwrite: True if the file may replace an existing one.
        min_area: Smallest ground area of a polygon, m².
        fill_holes: Largest ground area of a hole that is filled, m².
        simplify: Tolerance of the simplification, pixels; 0 for none.
        diagonal: True if pixels that share a corner belong to one polygon.
        dissolve: True for one feature a class.
        erase: Area that is cut out.
        clip: Area outside which all is cut off.
    """

    info: MapInfo
    path: Path
    classes: Sequence[int]
    overwrite: bool = False
    min_area: float = 0.0
    fill_holes: float = 0.0
    simplify: float = 0.0
    diagonal: bool = False
    dissolve: bool = False
    erase: Mask | None = None
    clip: Mask | None = None


@dataclass
class PolygonCounts:
    """Numbers and ground areas, m², of the polygons of a map.

    Attributes:
        written: Polygons in the file, before they were dissolved.
        dropped: Polygons that were too small.
        filled: Holes that were filled.
        erased: Polygons that the erased area has cut or removed, with the area that they lost.
        clipped: Polygons that reached beyond the area that they were clipped to, with the area that they lost.
    """

    written: Counts = field(default_factory=Counts)
    dropped: Counts = field(default_factory=Counts)
    filled: Counts = field(default_factory=Counts)
    erased: Counts = field(default_factory=Counts)
    clipped: Counts = field(default_factory=Counts)


class PolygonWriter:
    """Writer of the polygons of a map, fed with its rows.

    Args:
        plan: What to write.

    Attributes:
        counts: Polygons so far.

    Raises:
        UserError: The file can't be written.
    """

    def __init__(self, plan: PolygonPlan) -> None:
        header, info = plan.info.header, plan.info
        self._plan, self._ground = plan, Ground(header)
        self._finder = RegionFinder(header.width, plan.diagonal)
        holes = plan.fill_holes > 0 and info.background is not None and info.background not in plan.classes
        self._background = RegionFinder(header.width) if holes else None
        self._specks = SpeckFilter(header.width, plan.min_area, plan.fill_holes)
        self.counts = PolygonCounts(dropped=self._specks.dropped, filled=self._specks.filled)
        self._held: list[Regions] = []  # until their outlines can be simplified
        self._most_held = _BATCH  # beyond which those are looked for that can be
        self._ready: list[Features] = []  # until there are enough to write
        self._written = 0
        self._file = PolygonFile(
            plan.path,
            plan.overwrite,
            layer=layer_name(plan.path),
            crs=header.crs.to_string(),
            multi=bool(plan.diagonal or plan.erase or plan.clip or plan.dissolve),
            style=polygon_style('"name"', info.categories(plan.classes)),
            pixel=ground_sample_distance(header.crs, header.transform, header.height, header.width) or np.nan,
        )

    def add(
        self,
        row: int,
        values: NDArray[np.uint8],
        invalid: NDArray[np.bool_] | None,
        probability: NDArray[np.float32] | None,
    ) -> None:
        """Add the next rows of the map.

        Args:
            row: First of the rows, a multiple of `CELL_ROWS`.
            values: Class of each pixel, (n, width).
            invalid: True at invalid pixels, (n, width); None if all are valid.
            probability: Probability of each pixel's class, (n, width); None if it isn't known.
        """
        for start in range(0, len(values), BAND):
            rows = np.s_[start : start + BAND]
            part = values[rows]
            valid = True if invalid is None else ~invalid[rows]
            areas = self._ground.of_runs(row + start, len(part))
            regions = self._finder.add(
                part, self._wanted(part) & valid, areas, None if probability is None else probability[rows]
            )
            background = None
            if self._background is not None:
                background = self._background.add(part, (part == self._plan.info.background) & valid, areas)
            self._process(regions, background)

    def _wanted(self, values: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Return True at pixels of the classes that polygons are made of; some comparisons of bytes beat a look-up."""
        wanted = np.zeros(values.shape, np.bool_)
        for value in self._plan.classes:
            wanted |= values == value
        return wanted

    def complete(self) -> None:
        """Add the polygons that reach the last row, and complete the file; it keeps its temporary name."""
        self._process(self._finder.finish(), None if self._background is None else self._background.finish())
        if self._ready or not self._written:
            features = Features.joined(self._ready)
            self._write(features.dissolved() if self._plan.dissolve else features)
        self._file.complete()

    @property
    def written(self) -> bool:
        """True if there is a file, once it is complete."""
        return self._file.written

    def publish(self) -> None:
        """Give the file its name."""
        self._file.publish()

    def discard(self) -> None:
        """Remove what was written."""
        self._file.discard()

    def _process(self, regions: Regions, background: Regions | None) -> None:
        """Filter, measure and cut regions that have ended, and write those that can be written."""
        self._held.append(self._specks.filter(regions, background, self._finder.oldest))
        if not self._plan.simplify or not self._finder.open or sum(map(len, self._held)) > self._most_held:
            held = Regions.joined(self._held)
            # Outlines that may come near each other are simplified together. A simplified outline stays in the box
            # around its polygon, and of all that follows the boxes begin at the first row of an open region.
            ends = np.ones(len(held), np.bool_)
            if self._plan.simplify and self._finder.open:
                ends = bottoms(held.geometry) < self._finder.oldest // self._plan.info.header.width
            features = self._features(held[ends])
            self.counts.written.add(features.area)
            self._ready.append(features)
            self._held = [held[~ends]]
            self._most_held = max(_BATCH, 2 * len(self._held[0]))
        if not self._plan.dissolve and sum(map(len, self._ready)) >= _BATCH:
            self._write(Features.joined(self._ready))

    def _write(self, features: Features) -> None:
        columns = features.columns(self._plan.info, self._written + 1)
        self._file.write(features.in_crs(self._plan.info.header), columns)
        self._written += len(features)
        self._ready = []

    def _features(self, regions: Regions) -> Features:
        """Return the features of regions; those of which nothing is left are gone."""
        exact, area, pixels = regions.geometry, regions.area, regions.pixels
        drawn = exact
        if self._plan.simplify and len(regions):
            drawn = simplified(exact, self._plan.simplify)
        for mask, counts, cut in (
            (self._plan.erase, self.counts.erased, Mask.erase),
            (self._plan.clip, self.counts.clipped, Mask.clip),
        ):
            if mask is None:
                continue
            left = cut(mask, exact)
            changed = np.array([one is not other for one, other in zip(left, exact, strict=True)], np.bool_)
            area_left = area.copy()
            area_left[changed] = np.minimum(ground_areas(left[changed], self._plan.info.header), area[changed])
            counts.add((area - area_left)[changed])
            pixels = np.where(changed, np.rint(shapely.area(left)), pixels).astype(np.int64)
            drawn = left if drawn is exact else cut(mask, drawn)
            exact, area = left, area_left
        features = Features(
            drawn,
            regions.value,
            area,
            self._ground.perimeters(exact),
            pixels,
            regions.probability,
            regions.lowest.astype(np.float64),
        )
        return features[~(shapely.is_empty(drawn) | shapely.is_empty(exact))]
