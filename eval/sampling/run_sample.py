"""Drawing of a sample from a map, and of more units for one that exists."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import numpy as np

from eval.sampling.allocation import MINIMUM, Allocation, allocate, allocate_more, expected_half_widths
from eval.sampling.class_map import CountedMap, count_class_map
from eval.sampling.design import Floats, Strata, Totals
from eval.sampling.draw import Domain, Drawn, draw
from eval.sampling.labels import count_labels, read_labels
from eval.sampling.population import Histogram, Population, count
from eval.sampling.record import VERSION, Design, SampleRecord, joined
from eval.sampling.sample_file import check_not_in_use, extend_sample, write_sample
from eval.sampling.sample_reading import read_sample
from eval.sampling.stratify import stratify
from inference.common.errors import UserError
from inference.common.paths import is_address
from inference.common.targets import GEOPACKAGE_SUFFIXES, check_target
from inference.common.text import print_line

_SIZES = (50, 100, 200, 300, 500, 1000, 2000)
_EQUAL = 1e-9  # relative difference of totals that were summed from the same probabilities


@dataclass(frozen=True)
class SampleOptions:
    """Options of the drawing; None where a default depends on the input.

    Attributes:
        map: File of the map.
        out: GeoPackage to write; None to print the expected half widths alone.
        probabilities: File of probabilities.
        points: Number of units to draw.
        sites: File of sites.
        site_column: Column that names the sites.
        class_names: Names of the classes by value.
        nodata: Value of invalid pixels of the map in place of the file's; "none" for no value.
        strata: Kind of strata.
        allocation: Rule of the allocation.
        seed: Seed.
        plot_size: Side of a unit, pixels.
        show_map: Show the class of the map with each point.
        more: Number of units to add to `out`; None to draw a new sample.
        overwrite: Replace an existing file.
    """

    map: str
    out: Path | None = None
    probabilities: str | None = None
    points: int = 300
    sites: str | None = None
    site_column: str | None = None
    class_names: Mapping[int, str] | None = None
    nodata: float | str | None = None
    strata: Literal["class", "probability"] | None = None
    allocation: Allocation = "neyman"
    seed: int = 0
    plot_size: int = 1
    show_map: bool = False
    more: int | None = None
    overwrite: bool = False


def draw_sample(options: SampleOptions) -> SampleRecord | None:
    """Draw a sample and write it; print the half widths to be expected from several sample sizes before.

    Returns:
        What was drawn; None without `out`.

    Raises:
        UserError: Invalid input; nothing is written.
    """
    if options.strata == "probability" and options.probabilities is None:
        raise UserError(
            "--strata probability: needs the model's probabilities (give --probabilities, or --strata class)"
        )
    out = None if options.out is None else _check_out(options)
    class_map = count_class_map(options.map, options.class_names, options.nodata)
    if class_map.nodata == 0 and options.nodata is None:
        print_line(
            f"notice: {options.map}: 0 is its nodata value, so these pixels are outside the sample (to read them as a "
            "class: --nodata none)"
        )
    population = Population(class_map, options.probabilities, options.plot_size)
    histogram = count(population)
    kind = options.strata or ("class" if options.probabilities is None else "probability")
    for line in expected_lines(histogram, class_map.names, kind, options.allocation, options.points):
        print_line(line)
    if out is None:
        return None
    stratification = stratify(histogram, class_map.names, kind, options.points)
    available = float(stratification.strata.totals.units.sum())
    if options.points > available:
        raise UserError(f"--points: {options.points:,} (allowed: up to {available:,.0f}, all that the map has)")
    try:
        sizes = allocate(stratification.strata, options.points, options.allocation)
    except ValueError:
        least = int(np.minimum(stratification.strata.totals.units, MINIMUM).sum())
        raise UserError(
            f"--points: {options.points:,} (allowed: {least} or more, {MINIMUM} in each of the "
            f"{len(stratification.strata.names)} strata)"
        ) from None
    domains = _domains(options, class_map)
    drawn, totals = draw(population, stratification, sizes, options.seed, domains)
    strata = _with_domains(stratification.strata, domains, totals)
    record = SampleRecord(
        _design(options, class_map, histogram, kind, len(drawn)),
        strata,
        1 + np.arange(len(drawn)),
        np.ones(len(drawn), np.int64),
        drawn,
    )
    write_sample(out, record, options.overwrite)
    return record


def draw_more(options: SampleOptions) -> SampleRecord:
    """Add units to a sample, where they narrow the intervals most by what its labels say.

    Raises:
        UserError: Invalid input; the file is unchanged.
    """
    assert options.out is not None
    assert options.more is not None
    path = options.out
    if not path.is_file():
        raise UserError(f"{path}: no such file (--more adds points to a sample that --out names)")
    path = check_target(path, "--out", overwrite=True, inputs=_inputs(options), suffixes=GEOPACKAGE_SUFFIXES)
    check_not_in_use(path)
    record, points = read_sample(path)
    labels = read_labels(record, points, str(path))
    if points.crs is None or not _same_crs(points.crs, record.design.crs):
        raise UserError(f"{path}: its points are in {points.crs}, not in the CRS of the map (restore the file)")
    _check_same_input(options, record.design, path)
    class_map = read_sampled_map(options.map, record.design, str(path))
    population = Population(class_map, options.probabilities, record.design.plot_size)
    first = record.design.phases[0]
    stratification = stratify(count(population), class_map.names, _kind(record), first)
    _check_equal(record.strata.totals, stratification.strata.totals, options.probabilities or options.map, str(path))
    sample = record.sample(labels)
    drawn = np.bincount(sample.stratum, minlength=len(record.strata.names)).astype(np.int64)
    left = float(record.strata.totals.units.sum()) - len(sample)
    if options.more > left:
        raise UserError(f"--more: {options.more:,} (allowed: up to {left:,.0f}, all that are left)")
    extra = allocate_more(record.strata, sample, options.more)
    domains = _domains(options, class_map)
    again, totals = draw(population, stratification, drawn + extra, record.design.seed, domains)
    strata = _with_domains(record.strata, domains, totals)
    for (name, before), (_, now) in zip(record.strata.domains, strata.domains, strict=True):
        _check_equal(before, now, f"{options.sites}: site {name}", str(path))
    whole = joined(record, _new_units(record, again), record.strata)
    if len(whole.drawn) != len(record.drawn) + options.more:
        raise UserError(f"{path}: its points aren't those that its seed draws from this map (restore the file)")
    extend_sample(path, whole, len(record.drawn))
    return whole


def expected_lines(
    histogram: Histogram,
    names: tuple[str, ...],
    kind: Literal["class", "probability"],
    allocation: Allocation,
    points: int,
) -> list[str]:
    """Return a table of the half widths to be expected from several sample sizes."""
    whole = histogram.area.sum()
    guess = histogram.pixel_area if histogram.probability is None else histogram.probability.sum(axis=(0, 1))
    shown = np.argsort(guess, kind="stable")[:6]  # rare classes first: their intervals are the widest
    shown = shown[guess[shown] > 0]
    wide = max(12, *(len(names[k]) for k in shown))
    lines = [
        f"expected half width of the 95 % interval, m² and share of the class's expected area ({kind} strata):",
        f"{'points':>8}  " + "  ".join(f"{names[k]:>{wide + 8}}" for k in shown),
    ]
    for size in sorted({*_SIZES, points}):
        try:
            strata = stratify(histogram, names, kind, size).strata
            half = expected_half_widths(strata, allocate(strata, size, allocation))
        except ValueError:  # too few for all strata
            continue
        if size > strata.totals.units.sum():
            break
        cells = [f"{half[k]:>{wide},.1f} {_share(half[k], guess[k]):>7}" for k in shown]
        lines.append(f"{size:>8,}  " + "  ".join(cells))
    return [*lines, f"area: {whole:,.1f} m²; the labels decide how wide the interval will be"]


def _share(part: float, whole: float) -> str:
    share = part / whole
    return f"{share:>6.1%}" if share < 10 else f"{share:>6.0f}x"


def read_sampled_map(map_path: str, design: Design, path: str) -> CountedMap:
    """Read the map that a sample was drawn from.

    Args:
        map_path: File of the map.
        design: Design of the sample.
        path: File of the sample, for error messages.

    Raises:
        UserError: It is another map, or has changed.
    """
    names = dict(zip(design.class_values, design.class_names, strict=True))
    class_map = count_class_map(map_path, names, "none" if design.nodata is None else design.nodata)
    if class_map.digest != design.map_sha256 or not _same_crs(class_map.header.crs.to_wkt(), design.crs):
        raise UserError(
            f"{map_path}: isn't the map that {path} was drawn from, {design.map_file}, or was changed since: SHA-256 "
            f"of its content {class_map.digest[:12]}..., drawn from {design.map_sha256[:12]}... (give that map, or "
            "draw a new sample from this one)"
        )
    return class_map


def _check_out(options: SampleOptions) -> Path:
    assert options.out is not None
    check_not_in_use(options.out)
    if options.out.is_file():
        labels = count_labels(options.out)
        if labels and not options.overwrite:
            raise UserError(
                f"{options.out}: exists already, and {labels} of its points are labelled: these labels would be lost "
                "(choose another --out; --more N adds points and keeps them; --overwrite replaces them)"
            )
        if labels:
            print_line(f"notice: {options.out}: is replaced, with {labels} labels")
    return check_target(
        options.out, "--out", overwrite=options.overwrite, inputs=_inputs(options), suffixes=GEOPACKAGE_SUFFIXES
    )


def _inputs(options: SampleOptions) -> dict[str | Path, str]:
    named = {options.map: "the map", options.probabilities: "the probabilities", options.sites: "the sites"}
    return {file: what for file, what in named.items() if file is not None}


def _domains(options: SampleOptions, class_map: CountedMap) -> Sequence[Domain]:
    if options.sites is None:
        return ()
    from eval.sampling.sites import site_domains

    return site_domains(options.sites, class_map.header, options.site_column)


def _with_domains(strata: Strata, domains: Sequence[Domain], totals: Sequence[Totals]) -> Strata:
    pairs = tuple((domain.name, total) for domain, total in zip(domains, totals, strict=True))
    return Strata(strata.kind, strata.class_names, strata.names, strata.totals, pairs)


def _kind(record: SampleRecord) -> Literal["class", "probability"]:
    return record.strata.kind


def _design(options: SampleOptions, class_map: CountedMap, histogram: Histogram, kind: str, points: int) -> Design:
    header = class_map.header
    return Design(
        version=VERSION,
        software=f"hakai-ml-train {_version()}",
        map_file=_file_name(options.map),
        map_sha256=class_map.digest,
        probabilities_file=None if options.probabilities is None else _file_name(options.probabilities),
        probabilities_sha256=None if options.probabilities is None else _file_hash(options.probabilities),
        sites_file=None if options.sites is None else _file_name(options.sites),
        site_column=options.site_column,
        crs=header.crs.to_wkt(),
        transform=tuple(map(float, header.transform[:6])),
        height=header.height,
        width=header.width,
        class_names=class_map.names,
        class_values=tuple(class_map.values.tolist()),
        nodata=class_map.nodata,
        pixels=tuple(class_map.pixels.tolist()),
        pixel_area=tuple(histogram.pixel_area.tolist()),
        strata=kind,
        allocation=options.allocation,
        seed=options.seed,
        plot_size=options.plot_size,
        show_map=options.show_map,
        phases=(points,),
    )


def _version() -> str:
    try:
        return version("hakai-ml-train")
    except PackageNotFoundError:
        return "0"


def _file_name(path: str) -> str:
    return Path(path.partition("?")[0]).name


def _file_hash(path: str) -> str | None:
    if is_address(path) or not Path(path).is_file():
        return None
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _same_crs(one: str, other: str) -> bool:
    from rasterio.crs import CRS

    return bool(CRS.from_user_input(one) == CRS.from_user_input(other))


def _check_same_input(options: SampleOptions, design: Design, path: Path) -> None:
    """Check that probabilities and sites are given again if the sample was drawn with some."""
    for option, given, drawn in (
        ("--probabilities", options.probabilities, design.probabilities_file),
        ("--sites", options.sites, design.sites_file),
    ):
        if drawn is not None and given is None:
            raise UserError(f"{option}: is missing; {path} was drawn with {drawn} (give it again)")
        if drawn is None and given is not None:
            raise UserError(f"{option}: {path} was drawn without (leave it out, or draw a new sample)")


def _check_equal(before: Totals, now: Totals, what: str, path: str) -> None:
    """Check that totals are those of the drawing, so that the probabilities or the sites haven't changed."""
    for name in ("units", "area", "mapped", "probability", "variance"):
        one, other = getattr(before, name), getattr(now, name)
        same = (one is None) == (other is None) and (one is None or one.shape == other.shape)
        if not same or (one is not None and not np.allclose(one, other, rtol=_EQUAL, atol=_EQUAL * _largest(before))):
            raise UserError(f"{what}: isn't what {path} was drawn with, or was changed since (give the same file)")


def _largest(totals: Totals) -> float:
    area: Floats = totals.area
    return float(area.max(initial=1.0))


def _new_units(record: SampleRecord, drawn: Drawn) -> Drawn:
    """Return the units that a record doesn't have yet."""
    old = set(zip(record.drawn.row.tolist(), record.drawn.col.tolist(), strict=True))
    new = [unit not in old for unit in zip(drawn.row.tolist(), drawn.col.tolist(), strict=True)]
    return drawn.take(np.array(new, np.bool_))
