"""Command `python eval/area.py sample | estimate`: areas with error bars, from a probability sample checked by eye."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if __name__ == "__main__" and not __package__:
    # Run as a file, Python puts the file's own folder first on sys.path; the package `eval` is in its parent.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

if TYPE_CHECKING:
    from inference.common.cli import Parser

EXAMPLES = """\
examples:
  python eval/area.py sample kelp.tif --probabilities p.tif --points 300 --out sample.gpkg
  python eval/area.py estimate sample.gpkg --map kelp.tif --out areas
  python eval/area.py sample kelp.tif --probabilities p.tif --more 100 --out sample.gpkg

Between the first two, label each point in QGIS. --help of sample and estimate shows their options.
"""
SAMPLE_EXAMPLES = """\
examples:
  python eval/area.py sample kelp.tif --probabilities p.tif
  python eval/area.py sample kelp.tif --probabilities p.tif --sites sites.gpkg --points 300 --out sample.gpkg
  python eval/area.py sample classes.tif --class-names 1=water,2=kelp,3=rock --points 400 --out sample.gpkg

Without --out, only the expected widths of the intervals are printed, for several numbers of points.
"""
ESTIMATE_EXAMPLES = """\
examples:
  python eval/area.py estimate sample.gpkg
  python eval/area.py estimate sample.gpkg --map kelp.tif --training-data prepared/dataset.gpkg --out areas
"""
LARGEST_PLOT = 1000
MOST_POINTS = 1_000_000


def parser() -> argparse.ArgumentParser:
    """Build the argument parser."""
    from inference.common.cli import Parser

    prog = "python eval/area.py"
    arguments = Parser(
        prog=prog, description="Estimate areas of classes with error bars from checked points.", examples=EXAMPLES
    )
    commands = arguments.add_subparsers(dest="command", metavar="sample | estimate", required=True)
    _add_sample(commands, prog)
    _add_estimate(commands, prog)
    return arguments


def _add_sample(commands: "argparse._SubParsersAction[Parser]", prog: str) -> None:
    from inference.common.cli import file_or_folder, nodata_value, whole_number
    from inference.vector.options import class_names

    text = "Draw a stratified random sample of a map's pixels, to be checked by eye in QGIS."
    sample = commands.add_parser(
        "sample", prog=f"{prog} sample", help="draw points to check", description=text, examples=SAMPLE_EXAMPLES
    )
    add = sample.add_argument
    add("map", metavar="MAP.tif", help="map of classes, such as inference.py writes")
    add(
        "--probabilities",
        metavar="P.tif",
        help="the model's probability of each class on the same grid (inference.py --probabilities); halves the width",
    )
    add("--out", type=file_or_folder, metavar="SAMPLE.gpkg", help="GeoPackage to write (default: print widths only)")
    add("--points", type=whole_number, default=300, metavar="N", help="number of points (default: 300)")
    add("--more", type=whole_number, metavar="N", help="add N points to the sample --out, and keep its labels")
    add("--sites", metavar="SITES.gpkg", help="polygons of sites, to estimate the areas in each")
    add("--site-column", metavar="NAME", help="column with the names of the sites (default: site, name, ...)")
    add(
        "--class-names",
        type=class_names,
        metavar="A,B or VALUE=A,...",
        help="names of the values 0, 1, .., or of others (default: the map's)",
    )
    add("--nodata", type=nodata_value, metavar="X", help="value of invalid pixels, or none (default: the map's)")
    add(
        "--strata",
        choices=("probability", "class"),
        help="what strata are made from (default: probability with --probabilities, else class)",
    )
    add(
        "--allocation",
        choices=("neyman", "proportional", "equal"),
        default="neyman",
        help="points in each stratum: where errors are expected, by area, or equal (default: neyman)",
    )
    add("--seed", type=whole_number, default=0, metavar="N", help="seed of the random draw (default: 0)")
    add(
        "--plot-size",
        type=whole_number,
        default=1,
        metavar="N",
        help="check plots of N x N pixels instead of single ones (default: 1)",
    )
    add("--show-map", action="store_true", help="show the map's class at each point, which leads the interpreter")
    add("--overwrite", action="store_true", help="replace an existing file, and the labels in it")


def _add_estimate(commands: "argparse._SubParsersAction[Parser]", prog: str) -> None:
    from inference.common.cli import file_or_folder

    text = "Estimate areas and accuracies, with intervals, from the labels of a sample."
    estimate = commands.add_parser(
        "estimate", prog=f"{prog} estimate", help="estimate areas", description=text, examples=ESTIMATE_EXAMPLES
    )
    add = estimate.add_argument
    add("sample", type=file_or_folder, metavar="SAMPLE.gpkg", help="sample with its labels")
    add("--map", metavar="MAP.tif", help="map that was sampled, to check that it is unchanged")
    add(
        "--training-data",
        metavar="OUT/dataset.gpkg",
        help="data set of train.prepare, or other polygons: report points where the model was trained",
    )
    add(
        "--estimator",
        choices=("probabilities", "map", "labels"),
        help="what the labels correct: the probabilities, the map, or nothing (default: the first that the sample has)",
    )
    add(
        "--out",
        type=file_or_folder,
        metavar="DIR",
        help="folder for area.json, area.csv and area.html (default: print results only)",
    )
    add("--overwrite", action="store_true", help="replace the results of another sample")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    from inference.common.cli import exit_code

    # GDAL's threads write errors directly to stderr; the relevant ones are reported by our own messages.
    os.environ.setdefault("CPL_LOG", os.devnull)
    return exit_code(lambda: _run(parser().parse_args(argv)))


def _run(options: argparse.Namespace) -> int:
    return _run_sample(options) if options.command == "sample" else _run_estimate(options)


def _check_numbers(options: argparse.Namespace) -> None:
    from inference.common.errors import UserError

    limits = {"points": (1, MOST_POINTS), "plot_size": (1, LARGEST_PLOT), "seed": (0, 2**63 - 1)}
    if options.more is not None:
        limits["more"] = (1, MOST_POINTS)
    for name, (low, high) in limits.items():
        if not low <= getattr(options, name) <= high:
            option = f"--{name.replace('_', '-')}"
            raise UserError(f"{option}: {getattr(options, name):,} (allowed: {low} to {high:,})")
    if options.more is not None and options.out is None:
        raise UserError("--more: which sample to add to is missing (name it with --out)")
    if options.more is not None and options.overwrite:
        raise UserError("--more: keeps the sample, --overwrite replaces it (leave one out)")


def _run_sample(options: argparse.Namespace) -> int:
    from inference.common.paths import user_source

    _check_numbers(options)
    files = {"map": options.map, "probabilities": options.probabilities, "sites": options.sites}
    for name, file in files.items():
        if file is not None:
            option = "MAP.tif" if name == "map" else f"--{name}"
            setattr(options, name, user_source(file, option))
    from eval.sampling.run_sample import SampleOptions, draw_more, draw_sample

    chosen = {name: value for name, value in vars(options).items() if name != "command"}
    record = draw_sample(SampleOptions(**chosen)) if options.more is None else draw_more(SampleOptions(**chosen))
    if record is not None:
        unit = "pixels" if record.design.plot_size == 1 else "plots"
        sys.stdout.write(f"drawn: {record.design.phases[-1]:,} {unit}\nwrote: {options.out}\n")
    return 0


def _run_estimate(options: argparse.Namespace) -> int:
    from inference.common.paths import user_source
    from inference.common.text import print_line

    map_path = None if options.map is None else user_source(options.map, "--map")
    training = None if options.training_data is None else user_source(options.training_data, "--training-data")
    from eval.sampling.report import text_report
    from eval.sampling.run_estimate import estimate

    result = estimate(options.sample, map_path, training, options.estimator)
    for notice in result.notices:
        print_line(f"notice: {notice}")
    print_line(text_report(result), sys.stdout)
    if options.out is not None:
        from eval.sampling.report_html import write_results

        for path in write_results(result, options.out, options.overwrite):
            sys.stdout.write(f"wrote: {path}\n")
    return 0


if __name__ == "__main__":
    from inference.common.cli import run_as_script

    run_as_script(main)
