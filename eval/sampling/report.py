"""Results of an estimate as text for the terminal, as JSON and as CSV."""

import csv
import io
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from eval.sampling.accuracy import Ratios
from eval.sampling.design import UNLABELLED, UNSURE
from eval.sampling.estimators import Areas
from eval.sampling.intervals import LEVEL
from eval.sampling.run_estimate import Estimate, Extremes
from inference.common.text import LONGEST_NAME, clean_line

VERSION = 1
"""Version of the layout of `area.json`."""
HECTARE = 1e4
METHODS = {
    "probability": "difference estimator: the map's probabilities, recalibrated and corrected by the labels (Särndal "
    "et al. 1992; Angelopoulos et al. 2023); intervals with a variance that is shrunk towards the model's own "
    "(moderated t, Smyth 2004)",
    "map": "stratified estimator of Olofsson et al. 2014: the map, corrected by the labels; Jeffreys intervals of the "
    "strata, combined by MOVER (Zou et al. 2009)",
    "none": "stratified estimator of Stehman 2014: the labels alone; Jeffreys intervals of the strata, combined by "
    "MOVER (Zou et al. 2009)",
}
"""Description of the estimator and of its intervals, by auxiliary variable."""


def headline(estimate: Estimate) -> list[str]:
    """Return a sentence about the area of each class but the first, which is usually the background."""
    names, areas = estimate.areas.class_names, estimate.areas
    return [
        f"{names[k]}: {square_metres(areas.area[k])} ({100 * LEVEL:g} % interval "
        f"{square_metres(areas.low[k], False)} to {square_metres(areas.high[k], False)}), from "
        f"{estimate.labelled:,} checked points; pixels counted: "
        f"{square_metres(estimate.pixel_area[k])}"
        for k in range(1, len(names))
    ]


def square_metres(value: float, unit: bool = True) -> str:
    """Return an area with a sensible number of digits."""
    digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 100 else 2
    return f"{round(value, digits) + 0.0:,.{digits}f}{' m²' if unit else ''}"  # never -0


def text_report(estimate: Estimate) -> str:
    """Return all results as tables for the terminal."""
    design = estimate.record.design
    waiting = int((estimate.labels == UNLABELLED).sum())
    doubtful = int((estimate.labels == UNSURE).sum())
    counts = f"labelled: {estimate.labelled:,} of {len(estimate.labels):,} points; {design.unsure}: {doubtful:,}"
    counts += f"; without a label: {waiting:,}"
    lines = [*headline(estimate), "", *_area_table("class", estimate.areas, estimate.pixel_area), ""]
    if estimate.labels_alone is not None:
        lines += [alone_line(estimate.labels_alone), ""]
    lines += [*_accuracy_table(estimate), "", *_matrix(estimate), ""]
    for site in estimate.sites:
        lines += [f"site {site.name}: {square_metres(site.area)}, {site.points} points"]
        lines += [*_area_table("class", site.areas, site.areas.mapped), ""]
    for extremes, what in (
        (estimate.unsure, design.unsure),
        (estimate.unchecked, f"{design.unsure} or without a label"),
    ):
        if extremes is not None:
            lines += [_extreme_line(estimate.areas, extremes, what)]
    lines += [counts, METHODS[estimate.areas.auxiliary]]
    return "\n".join(lines)


def alone_line(areas: Areas) -> str:
    """Return the areas that don't rely on probabilities, on one line."""
    parts = [
        f"{clean_line(name, LONGEST_NAME)} {square_metres(areas.area[k], False)} "
        f"({square_metres(areas.low[k], False)} to {square_metres(areas.high[k], False)})"
        for k, name in enumerate(areas.class_names)
    ]
    return (
        f"by the labels alone, m²: {', '.join(parts)}; use these if the model may overlook whole objects without a "
        "trace (--estimator labels)"
    )


def _area_table(head: str, areas: Areas, counted: Any) -> list[str]:
    names = [clean_line(name, LONGEST_NAME) for name in areas.class_names]
    wide = max(8, *map(len, names))
    lines = [f"{head:<{wide}} {'pixels, m²':>15} {'area, m²':>15} {'SE':>12} {'from':>15} {'to':>15} {'area, ha':>13}"]
    for k, name in enumerate(names):
        lines.append(
            f"{name:<{wide}} {counted[k]:>15,.1f} {round(areas.area[k], 1) + 0.0:>15,.1f} "
            f"{areas.standard_error[k]:>12,.1f} "
            f"{areas.low[k]:>15,.1f} {areas.high[k]:>15,.1f} {round(areas.area[k] / HECTARE, 4) + 0.0:>13,.4f}"
        )
    return lines


def accuracy_rows(estimate: Estimate) -> Iterator[tuple[str, Ratios, int | None]]:
    """Yield the name of each accuracy, its values, and its place in them; None for a single value."""
    accuracy, names = estimate.accuracy, estimate.areas.class_names
    yield "overall accuracy", accuracy.overall, None
    for what, ratios in (("user's accuracy", accuracy.users), ("producer's accuracy", accuracy.producers)):
        for k, name in enumerate(names):
            yield f"{what} of {clean_line(name, LONGEST_NAME)}", ratios, k


def accuracy_values(ratios: Ratios, place: int | None) -> tuple[float, float, float, float]:
    """Return value, standard error, and bounds of the interval; NaN where undefined."""
    values = (ratios.value, ratios.standard_error, ratios.low, ratios.high)
    one, error, low, high = (float(each if place is None else each[place]) for each in values)
    return one, error, low, high


def percent(value: float) -> str:
    """Return a proportion in percent; n/a if undefined."""
    return "n/a" if math.isnan(value) else f"{100 * value:.2f} %"


def _accuracy_table(estimate: Estimate) -> list[str]:
    rows = [(name, accuracy_values(ratios, place)) for name, ratios, place in accuracy_rows(estimate)]
    wide = max(len(name) for name, _ in rows)
    lines = [f"{'accuracy':<{wide}} {'':>10} {'SE':>10} {'from':>10} {'to':>10}"]
    return lines + [f"{name:<{wide}} " + " ".join(f"{percent(each):>10}" for each in values) for name, values in rows]


def _matrix(estimate: Estimate) -> list[str]:
    names = [clean_line(name, LONGEST_NAME) for name in estimate.areas.class_names]
    wide = max(10, *(len(name) for name in names)) + 10
    lines = [f"{'share of the area':<{wide}} " + " ".join(f"{f'is {name}':>{wide}}" for name in names)]
    for name, row in zip(names, estimate.accuracy.matrix, strict=True):
        lines.append(f"{f'mapped {name}':<{wide}} " + " ".join(f"{percent(share):>{wide}}" for share in row))
    return lines


def _extreme_line(areas: Areas, extremes: Extremes, what: str) -> str:
    parts = [
        f"{clean_line(name, LONGEST_NAME)} {square_metres(extremes.none[k], False)} to "
        f"{square_metres(extremes.every[k])}"
        for k, name in enumerate(areas.class_names)
    ]
    return (
        f"if none or all of the {extremes.points:,} points that are {what} were of a class, its area would be: "
        f"{'; '.join(parts)}"
    )


def area_json(estimate: Estimate) -> str:
    """Return all results as JSON; undefined values are null."""
    record, design, accuracy = estimate.record, estimate.record.design, estimate.accuracy
    drawn = np.bincount(record.drawn.stratum, minlength=len(record.strata.names))
    labelled = record.sample(estimate.labels).sizes(len(record.strata.names))
    content = {
        "version": VERSION,
        "unit": "m2",
        "level": estimate.areas.level,
        "auxiliary": estimate.areas.auxiliary,
        "method": METHODS[estimate.areas.auxiliary],
        "map": {"file": design.map_file, "sha256": design.map_sha256},
        "probabilities": {"file": design.probabilities_file, "sha256": design.probabilities_sha256},
        "sample": {
            "points": len(estimate.labels),
            "labelled": estimate.labelled,
            "unsure": int((estimate.labels == UNSURE).sum()),
            "unlabelled": int((estimate.labels == UNLABELLED).sum()),
            "phases": list(design.phases),
            "seed": design.seed,
            "strata": design.strata,
            "allocation": design.allocation,
            "plot_size": design.plot_size,
        },
        "classes": _class_entries(estimate.areas, design.class_values, estimate.pixel_area),
        "labels_alone": None
        if estimate.labels_alone is None
        else _class_entries(estimate.labels_alone, design.class_values, estimate.pixel_area),
        "if_unsure": _extreme_entries(estimate, estimate.unsure),
        "if_unsure_or_unlabelled": _extreme_entries(estimate, estimate.unchecked),
        "accuracy": {
            "overall": _ratio_entry(accuracy.overall, None),
            "users": {name: _ratio_entry(accuracy.users, k) for k, name in enumerate(design.class_names)},
            "producers": {name: _ratio_entry(accuracy.producers, k) for k, name in enumerate(design.class_names)},
        },
        "error_matrix": {
            "rows": "class of the map",
            "columns": "label",
            "classes": list(design.class_names),
            "area_share": accuracy.matrix.tolist(),
            "points": accuracy.counts.astype(int).tolist(),
        },
        "strata": [
            {
                "name": name,
                "units": float(record.strata.totals.units[h]),
                "area": float(record.strata.totals.area[h]),
                "drawn": int(drawn[h]),
                "labelled": int(labelled[h]),
            }
            for h, name in enumerate(record.strata.names)
        ],
        "sites": [
            {
                "name": site.name,
                "points": site.points,
                "area": site.area,
                "classes": _class_entries(site.areas, design.class_values, site.areas.mapped),
            }
            for site in estimate.sites
        ],
        "notices": list(estimate.notices),
    }
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def area_csv(estimate: Estimate) -> str:
    """Return a row for each class of the map, then of each site, as CSV; the site of the whole map is empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    columns = ["pixels_m2", "area_m2", "standard_error_m2", "low_m2", "high_m2"]
    writer.writerow(["site", "class", "value", *columns, "area_ha", "low_ha", "high_ha", "points"])
    values = estimate.record.design.class_values
    rows = [("", estimate.areas, estimate.pixel_area, estimate.labelled)]
    rows += [(site.name, site.areas, site.areas.mapped, site.points) for site in estimate.sites]
    for site, areas, counted, points in rows:
        for entry in _class_entries(areas, values, counted):
            metres = [entry[key] for key in ("pixels", "area", "standard_error", "low", "high")]
            hectares = [entry[key] / HECTARE for key in ("area", "low", "high")]
            cells = [f"{value:.10g}" for value in (*metres, *hectares)]
            writer.writerow([site, entry["name"], entry["value"], *cells, points])
    return out.getvalue()


def _class_entries(areas: Areas, values: Sequence[int], counted: Any) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "value": values[k],
            "pixels": float(counted[k]),
            "area": float(areas.area[k]),
            "standard_error": float(areas.standard_error[k]),
            "low": float(areas.low[k]),
            "high": float(areas.high[k]),
        }
        for k, name in enumerate(areas.class_names)
    ]


def _extreme_entries(estimate: Estimate, extremes: Extremes | None) -> dict[str, Any] | None:
    if extremes is None:
        return None
    pairs = zip(estimate.areas.class_names, extremes.none.tolist(), extremes.every.tolist(), strict=True)
    return {"points": extremes.points, "classes": [{"name": n, "none": low, "every": high} for n, low, high in pairs]}


def _ratio_entry(ratios: Ratios, place: int | None) -> dict[str, float | None]:
    values = [None if math.isnan(value) else value for value in accuracy_values(ratios, place)]
    return dict(zip(("value", "standard_error", "low", "high"), values, strict=True))
