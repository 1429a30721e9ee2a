"""Results of an estimate as one HTML page, with a picture of the intervals, and the folder of all results."""

import io
import json
import math
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from eval.report.page import escape, page, table
from eval.sampling.report import (
    HECTARE,
    METHODS,
    accuracy_rows,
    accuracy_values,
    alone_line,
    area_csv,
    area_json,
    headline,
    percent,
    square_metres,
)
from eval.sampling.run_estimate import Estimate
from inference.common.files import replace
from inference.common.palette import BLUE, ORANGE
from inference.common.signals import finishing
from inference.common.staging import StagingFolder
from inference.common.targets import check_target
from train.run.figures import STYLE, figure_style, figure_text

FILES = ("area.html", "area.csv", "area.json")
"""Names of the files of a result, in the order in which they are published."""
_MOST_SITES = 40  # in the picture


def write_results(estimate: Estimate, folder: Path, overwrite: bool) -> list[Path]:
    """Write `area.html`, `area.csv` and `area.json`; all are replaced, or none.

    Results of the same sample are replaced without being asked.

    Args:
        estimate: Results.
        folder: Folder to write to; it is made if it doesn't exist.
        overwrite: True to replace the results of another sample.

    Returns:
        Paths of the files.

    Raises:
        UserError: They can't be written.
    """
    inputs: dict[str | Path, str] = {estimate.path: "the sample"}
    with StagingFolder(folder, "--out", "areas") as staging:
        same = overwrite or _is_of_sample(folder / FILES[-1], estimate)
        for name in FILES:
            check_target(folder / name, "--out", overwrite=same, inputs=inputs)
        texts = (html_page(estimate), area_csv(estimate), area_json(estimate))
        for name, text in zip(FILES, texts, strict=True):
            (staging.folder / name).write_text(text, encoding="utf-8", newline="\n")
        with finishing():
            for name in FILES:
                replace(staging.folder / name, folder / name)
    return [folder / name for name in FILES]


def _is_of_sample(path: Path, estimate: Estimate) -> bool:
    """Return True if earlier results are of the same sample, or of an earlier phase of it."""
    if not path.exists():
        return False
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        design = estimate.record.design
        found = (content["map"]["sha256"], *(content["sample"][key] for key in ("seed", "strata", "plot_size")))
        phases = tuple(content["sample"]["phases"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
    same = found == (design.map_sha256, design.seed, design.strata, design.plot_size)
    return bool(same and phases == design.phases[: len(phases)])


def html_page(estimate: Estimate) -> str:
    """Return the results as one self-contained page."""
    design = estimate.record.design
    title = f"Areas of {design.map_file}"
    extremes = [(estimate.unsure, design.unsure), (estimate.unchecked, f"{design.unsure} or without a label")]
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="note">{estimate.labelled:,} checked points, {escape(design.strata)} strata</p>',
        *(f'<p class="verdict">{escape(line)}</p>' for line in headline(estimate)),
        *(f'<p class="note">Notice: {escape(notice)}</p>' for notice in estimate.notices),
        "<h2>Areas</h2>",
        _area_table(estimate),
        *(
            []
            if estimate.labels_alone is None
            else [f'<p class="note">{escape(alone_line(estimate.labels_alone))}</p>']
        ),
        draw_intervals(estimate),
        "<h2>Accuracy of the map</h2>",
        _accuracy_table(estimate),
        "<h2>Error matrix</h2>",
        '<p class="note">Shares of the area; in brackets the number of points.</p>',
        _matrix(estimate),
    ]
    if estimate.sites:
        parts += ["<h2>Sites</h2>", _site_table(estimate)]
    for found, what in extremes:
        if found is not None:
            parts += [
                f"<h2>{found.points:,} points that are {escape(what)}</h2>",
                '<p class="note">Area in m² if none, and if all of them, were of the class. The areas above leave them '
                "out, as if they were like the other points of their stratum.</p>",
                table(
                    ["class", "if none", "if all"],
                    [
                        [name, square_metres(found.none[k], False), square_metres(found.every[k], False)]
                        for k, name in enumerate(design.class_names)
                    ],
                ),
            ]
    parts += ["<h2>Strata</h2>", _strata_table(estimate), "<h2>Methods</h2>", _methods(estimate)]
    return page(title, parts)


def _area_table(estimate: Estimate) -> str:
    areas, design = estimate.areas, estimate.record.design
    rows = []
    for k, name in enumerate(areas.class_names):
        values = (estimate.pixel_area[k], areas.area[k], areas.standard_error[k], areas.low[k], areas.high[k])
        hectares = [f"{value / HECTARE:,.4f}" for value in (areas.area[k], areas.low[k], areas.high[k])]
        rows.append([name, f"{design.pixels[k]:,}", *(square_metres(value, False) for value in values), *hectares])
    heads = ["class", "pixels", "pixels counted, m²", "area, m²", "standard error", "from", "to"]
    return table([*heads, "area, ha", "from", "to"], rows)


def _accuracy_table(estimate: Estimate) -> str:
    rows = [
        [name, *(percent(each) for each in accuracy_values(ratios, place))]
        for name, ratios, place in accuracy_rows(estimate)
    ]
    return table(["accuracy", "value", "standard error", "from", "to"], rows)


def _matrix(estimate: Estimate) -> str:
    names, accuracy = estimate.areas.class_names, estimate.accuracy
    rows = []
    for name, shares, counts in zip(names, accuracy.matrix, accuracy.counts, strict=True):
        cells = [f"{percent(share)} ({int(count)})" for share, count in zip(shares, counts, strict=True)]
        rows.append([f"mapped as {name}", *cells, percent(float(shares.sum()))])
    total = accuracy.matrix.sum(axis=0)
    rows.append(["all", *(percent(share) for share in total), percent(float(total.sum()))])
    return table(["share of the area (points)", *(f"is {name}" for name in names), "all"], rows)


def _site_table(estimate: Estimate) -> str:
    rows = []
    for site in estimate.sites:
        for k, name in enumerate(site.areas.class_names):
            values = (site.areas.mapped[k], site.areas.area[k], site.areas.low[k], site.areas.high[k])
            rows.append([site.name, name, site.points, *(square_metres(value, False) for value in values)])
    return table(["site", "class", "points", "mapped, m²", "area, m²", "from", "to"], rows, 'class="sortable"')


def _strata_table(estimate: Estimate) -> str:
    record = estimate.record
    strata, drawn = record.strata, np.bincount(record.drawn.stratum, minlength=len(record.strata.names))
    labelled = record.sample(estimate.labels).sizes(len(strata.names))
    rows = [
        [name, f"{strata.totals.units[h]:,.0f}", percent(strata.weights[h]), int(drawn[h]), int(labelled[h])]
        for h, name in enumerate(strata.names)
    ]
    unit = "pixels" if record.design.plot_size == 1 else "plots"
    return table(["stratum", unit, "share of the area", "points drawn", "labelled"], rows)


def _methods(estimate: Estimate) -> str:
    design = estimate.record.design
    unit = "pixels" if design.plot_size == 1 else f"plots of {design.plot_size} x {design.plot_size} pixels"
    lines = [
        f"{sum(design.phases):,} {unit} were drawn at random, without replacement, from each stratum of "
        f"{design.map_file}, in {len(design.phases)} phase(s), seed {design.seed}; SHA-256 of the map's content "
        f"{design.map_sha256}.",
        f"Areas: {METHODS[estimate.areas.auxiliary]}. Bounds are those of a 95 % confidence interval.",
        "Accuracies and the error matrix are estimated from the labels alone, weighted by the areas of the strata "
        "(Olofsson et al. 2014, doi:10.1016/j.rse.2014.02.015; Stehman 2014, doi:10.1080/01431161.2014.930207); their "
        "intervals are Jeffreys' with the effective sample size.",
        "Pixels counted: ground area of the pixels of each class. It is biased by the errors of the map.",
        "In a site, differences between labels and map outside of it count as 0, with the strata of the whole map.",
    ]
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"


def draw_intervals(estimate: Estimate) -> str:
    """Return a picture of the intervals as SVG: for each class a panel with the whole map and each site."""
    rows = [("whole map", estimate.areas, estimate.pixel_area)]
    rows += [(site.name, site.areas, site.areas.mapped) for site in estimate.sites[:_MOST_SITES]]
    names = estimate.areas.class_names
    with figure_style(STYLE | {"svg.fonttype": "none", "svg.hashsalt": "areas"}):
        across = min(2, len(names))
        down = math.ceil(len(names) / across)
        figure = Figure(figsize=(10, 0.3 + down * (1.3 + 0.3 * len(rows))), layout="constrained")
        panels = figure.subplots(down, across, squeeze=False).ravel()
        for k, axis in enumerate(panels):
            if k >= len(names):
                axis.set_axis_off()
                continue
            for y, (_, areas, counted) in enumerate(rows):
                axis.plot([areas.low[k], areas.high[k]], [y, y], color=BLUE, linewidth=2.2, zorder=2)
                labels = ("estimate", "pixels counted") if y == 0 else (None, None)
                axis.plot(areas.area[k], y, "o", color=BLUE, markersize=5, zorder=3, label=labels[0])
                axis.plot(counted[k], y, "d", color=ORANGE, markersize=6, label=labels[1])
            axis.set(title=figure_text(names[k]), xlabel="m²", ylim=(len(rows) - 0.5, -0.5))
            axis.set_yticks(range(len(rows)), [figure_text(name, 30) for name, _, _ in rows])
            axis.grid(axis="x", color="0.92")
            axis.set_axisbelow(True)
            axis.ticklabel_format(axis="x", style="plain", useOffset=False)
            axis.tick_params(axis="x", labelrotation=20)
        figure.legend(*panels[0].get_legend_handles_labels(), frameon=False, loc="outside upper right", ncols=2)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    return text[text.index("<svg") :]
