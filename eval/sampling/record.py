"""Record of a sample: how it was drawn, from what, and which units; all that an estimate needs but the labels."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rasterio.transform import Affine

from eval.sampling.design import UNLABELLED, Ints, Sample, Strata
from eval.sampling.draw import Drawn

VERSION = 1
"""Version of the layout of sample files."""
UNSURE_WORDS = ("unsure", "not sure", "can't tell")
"""Label of a unit whose class can't be told: the first of these that no class is called."""


@dataclass(frozen=True)
class Design:
    """Design of a sample: the map, the options and the phases.

    Attributes:
        version: Version of the layout of the file.
        software: Name and version of the software that drew the sample.
        map_file: File name of the map.
        map_sha256: Hash of the map's content, see `CountedMap.digest`.
        probabilities_file: File name of the probabilities; None without any.
        probabilities_sha256: SHA-256 of that file; None without any, or if it is an address.
        sites_file: File name of the sites; None without any.
        site_column: Column that names the sites; None for the default.
        crs: CRS of the map as WKT.
        transform: Transform of the map from (column, row) to the CRS: a, b, c, d, e, f.
        height: Rows of the map, pixels.
        width: Columns of the map, pixels.
        class_names: Name of each class.
        class_values: Value of each class in the map.
        nodata: Value of invalid pixels of the map; None for no value.
        pixels: Number of pixels of each class.
        pixel_area: Ground area of the pixels of each class, m².
        strata: Kind of strata, "class" or "probability".
        allocation: Rule of the first phase's allocation.
        seed: Seed of the random keys.
        plot_size: Side of a unit, pixels.
        show_map: True if the class of the map is shown with each point.
        phases: Number of points that were drawn in each phase.
    """

    version: int
    software: str
    map_file: str
    map_sha256: str
    probabilities_file: str | None
    probabilities_sha256: str | None
    sites_file: str | None
    site_column: str | None
    crs: str
    transform: tuple[float, ...]
    height: int
    width: int
    class_names: tuple[str, ...]
    class_values: tuple[int, ...]
    nodata: float | None
    pixels: tuple[int, ...]
    pixel_area: tuple[float, ...]
    strata: str
    allocation: str
    seed: int
    plot_size: int
    show_map: bool
    phases: tuple[int, ...]

    @property
    def unsure(self) -> str:
        """Label of a unit whose class can't be told."""
        names = {name.casefold() for name in self.class_names}
        return next((word for word in UNSURE_WORDS if word not in names), "?")

    @property
    def affine(self) -> Any:
        """Transform of the map."""
        return Affine(*self.transform)

    def corners(self, row: Ints, col: Ints) -> tuple[Ints, Ints, Ints, Ints]:
        """Return first row, first column, row after the last and column after the last of units, in pixels."""
        top, left = row * self.plot_size, col * self.plot_size
        bottom = np.minimum(top + self.plot_size, self.height)
        return top, left, bottom, np.minimum(left + self.plot_size, self.width)


@dataclass(frozen=True)
class SampleRecord:
    """Record of a sample of n units.

    Attributes:
        design: Design.
        strata: Strata with the totals of the map and of the sites.
        ids: Number of each unit, (n,), from 1; random within each phase.
        phase: Phase in which each unit was drawn, (n,), from 1.
        drawn: The units.
    """

    design: Design
    strata: Strata
    ids: Ints
    phase: Ints
    drawn: Drawn

    def sample(self, label: Ints | None = None) -> Sample:
        """Return the units with labels (n,), by default none, as the estimators take them."""
        drawn = self.drawn
        label = np.full(len(drawn), UNLABELLED, np.int64) if label is None else label
        return Sample(drawn.stratum, label, drawn.mapped, drawn.area, drawn.probability, drawn.membership)

    def checksum(self) -> str:
        """Return a SHA-256 of the record, from which an edit of any of its values is told."""
        totals = [self.strata.totals, *(totals for _, totals in self.strata.domains)]
        content = [
            dataclasses.asdict(self.design),
            [self.strata.kind, self.strata.names, [name for name, _ in self.strata.domains]],
            [_lists(each) for each in totals],
            self.ids.tolist(),
            self.phase.tolist(),
            _lists(self.drawn),
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def joined(record: SampleRecord, drawn: Drawn, strata: Strata) -> SampleRecord:
    """Return the record of a sample to which units were added in a new phase."""
    first = len(record.ids)
    design = dataclasses.replace(record.design, phases=(*record.design.phases, len(drawn)))
    return SampleRecord(
        design,
        strata,
        np.concatenate([record.ids, first + 1 + np.arange(len(drawn))]),
        np.concatenate([record.phase, np.full(len(drawn), len(design.phases))]),
        _concatenated(record.drawn, drawn),
    )


def _concatenated(one: Drawn, other: Drawn) -> Drawn:
    values: dict[str, Any] = {}
    for field in dataclasses.fields(Drawn):
        parts: Sequence[Any] = [getattr(one, field.name), getattr(other, field.name)]
        values[field.name] = None if parts[0] is None else np.concatenate(parts)
    return Drawn(**values)


def _lists(record: Any) -> list[Any]:
    values = [getattr(record, field.name) for field in dataclasses.fields(record)]
    return [None if value is None else value.tolist() for value in values]
