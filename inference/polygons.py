"""Command line of polygons: `python polygons.py MAP.tif OUT.gpkg`, or `python -m inference.polygons`."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

if __name__ == "__main__" and not __package__:
    # Run as a file: the module `inference` beside it makes the package of this folder importable.
    import inference  # noqa: F401

EXAMPLES = """\
examples:
  python polygons.py kelp.tif kelp.gpkg --min-area 0.2 --fill-holes 0.5
  python polygons.py kelp.tif kelp.gpkg --probabilities p.tif --erase eelgrass.gpkg --simplify 1
  python polygons.py kelp.tif --sites sites.gpkg --table kelp.csv
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser; allowed values and defaults are those of `inference.vector.options`."""
    from inference.common.cli import Parser, nodata_value
    from inference.common.targets import VECTOR_SUFFIXES
    from inference.vector.options import add_vector_options, class_names

    arguments = Parser(
        prog="polygons.py",
        description="Write a map of classes as polygons, and the areas of sites as a table.",
        examples=EXAMPLES,
        argument_default=argparse.SUPPRESS,
    )
    add = arguments.add_argument
    add("source", metavar="MAP.tif", help="map that inference.py wrote, or any raster of one band of class numbers")
    add("polygons", nargs="?", metavar="OUT.gpkg", help=f"file for the polygons: {', '.join(VECTOR_SUFFIXES)}")
    add = arguments.add_argument_group("map").add_argument
    add("--probabilities", metavar="P.tif", help="probabilities of the map, as inference.py writes them")
    add("--class-names", type=class_names, metavar="A,B", help="names of 0, 1, .., or 0=A,5=B (default: the map's)")
    add("--nodata", type=nodata_value, metavar="X", help="value of unmapped pixels, or none (default: the file's)")
    add_vector_options(arguments, None)
    arguments.add_argument(
        "--areas", metavar="area.json", help="add the intervals of eval/area.py estimate to the table of sites"
    )
    arguments.add_argument("--overwrite", action="store_true", help="replace existing files")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    # GDAL's threads print their errors to stderr; ours contain what the user needs.
    os.environ.setdefault("CPL_LOG", os.devnull)
    from inference.common.cli import exit_code

    return exit_code(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    options: dict[str, Any] = vars(parser().parse_args(argv))
    from inference.common.text import print_line
    from inference.common.vector import vector_libraries

    vector_libraries()  # before the modules that need them
    from inference.vector.polygonize import polygonize

    summary = polygonize(options.pop("source"), options.pop("polygons", None), progress=True, **options)
    print_line(str(summary), sys.stdout)
    return 0


if __name__ == "__main__":
    from inference.common.cli import run_as_script

    run_as_script(main)
