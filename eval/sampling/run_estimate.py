"""Estimates from a labelled sample: areas and accuracies, of the whole map and of each site."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eval.sampling.accuracy import Accuracy, estimate_accuracy
from eval.sampling.design import UNLABELLED, UNSURE, Floats, Ints
from eval.sampling.estimators import Areas, Auxiliary, areas_at_extremes, default_auxiliary, estimate_areas
from eval.sampling.labels import read_labels
from eval.sampling.record import SampleRecord
from eval.sampling.run_sample import read_sampled_map
from eval.sampling.sample_reading import read_sample
from eval.sampling.training_overlap import overlap_notice
from inference.common.errors import UserError
from inference.common.text import limited

ESTIMATORS: dict[str, Auxiliary] = {"probabilities": "probability", "map": "map", "labels": "none"}
"""Auxiliary variable of each estimator that the command offers."""
_FEWEST = 2
_FEW = 5  # points in a site below which its estimate rests on the model
_SHOWN = 10


@dataclass(frozen=True)
class Extremes:
    """Estimates if the points of some kind belong to other classes, or all to each class.

    Attributes:
        points: Number of such points.
        none: (K,), area in m² if none belongs to the class.
        every: (K,), area in m² if each belongs to the class.
    """

    points: int
    none: Floats
    every: Floats


@dataclass(frozen=True)
class SiteEstimate:
    """Estimate of one site.

    Attributes:
        name: Name of the site.
        points: Number of labelled points that lie in it, in part or as a whole.
        area: Ground area in m² of the valid pixels.
        areas: Estimated areas.
    """

    name: str
    points: int
    area: float
    areas: Areas


@dataclass(frozen=True)
class Estimate:
    """Estimates from a labelled sample.

    Attributes:
        path: File of the sample.
        record: What was drawn.
        labels: Label of each unit, (n,).
        areas: Areas over the whole map.
        accuracy: Error matrix and accuracies.
        sites: Estimate of each site; empty without sites.
        labels_alone: Areas that don't rely on probabilities; None where `areas` doesn't either.
        unsure: What the points labelled unsure could change; None without any.
        unchecked: What these and the points without a label could change; None if every point has a label.
        notices: Notices for the user, a line each.
    """

    path: str
    record: SampleRecord
    labels: Ints
    areas: Areas
    accuracy: Accuracy
    sites: tuple[SiteEstimate, ...]
    labels_alone: Areas | None
    unsure: Extremes | None
    unchecked: Extremes | None
    notices: tuple[str, ...] = ()

    @property
    def labelled(self) -> int:
        """Number of points whose label is a class."""
        return int((self.labels >= 0).sum())

    @property
    def pixel_area(self) -> Floats:
        """Ground area of the pixels of each class of the map, (K,) in m²."""
        return np.array(self.record.design.pixel_area)


def estimate(
    path: Path, map_path: str | None = None, training_data: str | None = None, estimator: str | None = None
) -> Estimate:
    """Estimate areas and accuracies from a labelled sample.

    Args:
        path: File of the sample.
        map_path: Map that it was drawn from, to check that it is; None for no check.
        training_data: GeoPackage of a prepared data set, or other polygons, to see whether the model was trained on
            drawn points.
        estimator: What the labels correct, see ESTIMATORS; None for the probabilities, or the map without any.

    Raises:
        UserError: The file isn't a sample, was edited where it must not be, has too few labels, or the map is another.
    """
    record, points = read_sample(path)
    labels = read_labels(record, points, str(path))
    _check_sizes(record, labels, str(path))
    if map_path is not None:
        read_sampled_map(map_path, record.design, str(path))
    sample, strata = record.sample(labels), record.strata
    checked = sample.keep(labels != UNLABELLED)
    unlabelled = bool((labels == UNLABELLED).any())
    auxiliary = default_auxiliary(strata, sample) if estimator is None else ESTIMATORS[estimator]
    if auxiliary == "probability" and sample.probability is None:
        raise UserError(f"--estimator {estimator}: {path} was drawn without probabilities (allowed: map, labels)")
    sites = tuple(_sites(record, labels, auxiliary))
    notices = [*_site_notices(sites)]
    if training_data is not None:
        notices += overlap_notice(record, training_data)
    return Estimate(
        str(path),
        record,
        labels,
        estimate_areas(strata, sample, auxiliary),
        estimate_accuracy(strata, sample),
        sites,
        estimate_areas(strata, sample, "none") if auxiliary == "probability" else None,
        _extremes(int((labels == UNSURE).sum()), *areas_at_extremes(strata, checked, auxiliary)),
        _extremes(int((labels < 0).sum()), *areas_at_extremes(strata, sample, auxiliary)) if unlabelled else None,
        tuple(notices),
    )


def _extremes(points: int, none: Floats, every: Floats) -> Extremes | None:
    if not points:
        return None
    return Extremes(points, np.maximum(none, 0), every)


def _sites(record: SampleRecord, labels: Ints, auxiliary: Auxiliary) -> Iterator[SiteEstimate]:
    sample, strata = record.sample(labels), record.strata
    for number, (name, totals) in enumerate(strata.domains):
        assert sample.membership is not None
        inside = (sample.membership[:, number] > 0) & sample.labelled
        area = float(totals.area.sum())
        yield SiteEstimate(name, int(inside.sum()), area, estimate_areas(strata, sample, auxiliary, name))


def _site_notices(sites: tuple[SiteEstimate, ...]) -> Iterator[str]:
    few = [f"{site.name} ({site.points})" for site in sites if site.points < _FEW and site.area > 0]
    if few:
        yield (
            f"{len(few)} of {len(sites)} sites have fewer than {_FEW} labelled points, so that their intervals rest on "
            f"points elsewhere: {', '.join(limited(few, _SHOWN))} (draw more with --more N, or draw a sample of each)"
        )


def _check_sizes(record: SampleRecord, labels: Ints, path: str) -> None:
    """Check that each stratum has two labelled points, or all that it has.

    Raises:
        UserError: One has fewer; the message says which points to label.
    """
    stratum, strata = record.drawn.stratum, record.strata
    if not (labels >= 0).any():
        raise UserError(
            f"{path}: none of the {len(labels):,} points is labelled with a class yet (open it in QGIS, look at each "
            f"point of layer points in the image, and choose its label)"
        )
    sizes = np.bincount(stratum[labels >= 0], minlength=len(strata.names))
    wanted = np.minimum(_FEWEST, np.ceil(strata.totals.units)).astype(np.int64)
    lines = []
    for h in np.flatnonzero(sizes < wanted):
        waiting = record.ids[(stratum == h) & (labels == UNLABELLED)].tolist()
        missing = int(wanted[h] - sizes[h])
        fix = (
            f"label {missing} more of the points {', '.join(limited(map(str, waiting), _SHOWN, len(waiting)))}"
            if len(waiting) >= missing
            else "judge the unsure ones again, or draw more with --more N"
        )
        share = strata.weights[h]
        lines.append(
            f"{path}: {sizes[h]} of the points in a part of {share:.2%} of the area are labelled with a class "
            f"(allowed: {wanted[h]} or more; {fix})"
        )
    if lines:
        raise UserError("\n".join(lines))
