"""Command line of mapping: `python inference.py IN.tif OUT.tif`, or `python -m inference.inference`."""

import argparse
import dataclasses
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

if __name__ in ("__main__", "inference") and not __package__:
    # Run as a file, or where another module of this folder is run, as by `cd inference; python -m inference.card`,
    # Python searches this folder first, where this file would hide the package of the same name.
    _folder = Path(__file__).resolve().parent
    if sys.path and Path(sys.path[0] or ".").resolve() == _folder:
        sys.path[0] = str(_folder.parent)
    # The package is this folder, also in a copy with another name.
    _spec = importlib.util.spec_from_file_location(
        "inference", _folder / "__init__.py", submodule_search_locations=[str(_folder)]
    )
    assert _spec is not None
    assert _spec.loader is not None
    sys.modules["inference"] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules["inference"])

EXAMPLES = """\
examples:
  python inference.py mosaic.tif kelp.tif
  python inference.py mosaic.tif kelp.tif --model weights/kelp.onnx --probabilities p.tif --threshold 0.4
  python inference.py mosaic.tif kelp.tif --model kelp.onnx --backend openvino --precision bf16
  python inference.py https://example.org/mosaic.tif kelp.tif --bands 3,2,1
  python inference.py mosaic.tif kelp.tif --polygons kelp.gpkg --min-area 0.2 --sites sites.gpkg --table kelp.csv
  python inference.py mosaics/ maps/ --polygons .gpkg
  python inference.py '2026/*/ortho.tif' maps/ --dry-run
  python inference.py mosaics/ maps/ --ray --workers 4
  python inference.py s3://bucket/mosaics/ s3://bucket/maps
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser; allowed values and defaults are those of `inference.options`."""
    from inference import options
    from inference.batch.distributed.options import LOCAL, SPLIT_PX, ray_address
    from inference.common.cli import Parser, number, whole_number
    from inference.vector.options import add_vector_options

    default = {field.name: field.default for field in dataclasses.fields(options.Options)}
    arguments = Parser(
        prog="inference.py",
        description="Map a mosaic of any size, or many mosaics, with an exported model.",
        examples=EXAMPLES,
        batch="mosaics",
        argument_default=argparse.SUPPRESS,
    )
    add = arguments.add_argument
    add(
        "sources",
        nargs="+",
        metavar="IN.tif",
        help="mosaic: anything GDAL reads, /vsicurl/ and s3:// addresses included; for a batch several, a folder, a "
        "pattern in quotes, a list of files (.txt, or .csv with the columns image, output, site, date) or an s3:// "
        "prefix",
    )
    add(
        "target",
        metavar="OUT.tif",
        help="map: a GeoTIFF on the mosaic's grid, class numbers as uint8; for a batch the folder of the maps, also "
        "s3://BUCKET/FOLDER",
    )
    add = arguments.add_argument_group("model").add_argument
    add("--model", metavar="FILE", help=".onnx or .pt (default: the one in inference/weights)")
    add("--card", metavar="FILE.json", help="model card, ours or habitat-mapper's (default: the model's)")
    add("--backend", choices=options.BACKEND_NAMES, help=f"default: {default['backend']}")
    add("--device", choices=options.DEVICE_NAMES, help=f"default: {default['device']}")
    add(
        "--precision",
        choices=options.PRECISION_NAMES,
        help=f"default: {default['precision']}; fp32 gives the same result on every back end",
    )
    add("--threads", type=whole_number, metavar="N", help="CPU threads (default: all)")
    add_mapping_options(arguments, bands="+")
    add = arguments.add_argument_group("output").add_argument
    add(
        "--probabilities",
        metavar="OUT2.tif",
        help="write probabilities too: float32, one band per class, NaN: invalid",
    )
    add("--no-cog", dest="cog", action="store_false", help="write a plain tiled GeoTIFF instead of a COG: faster")
    add("--overwrite", action="store_true", help="replace existing files")
    add_vector_options(arguments, "--polygons")
    add = arguments.add_argument_group("batch").add_argument
    add("--dry-run", action="store_true", help="say what would be mapped, how long it would take and how large it is")
    add("--retries", type=whole_number, metavar="N", help="attempts after a failure that may pass (default: 2)")
    add(
        "--work-dir",
        metavar="DIR",
        help="folder in which maps that go to s3:// are made, one at a time (default: that of temporary files)",
    )
    add(
        "--ray",
        nargs="?",
        const=LOCAL,
        type=ray_address,
        metavar="ADDRESS",
        help="map several mosaics at a time in workers of Ray: on the cluster at HOST:PORT or auto, or without an "
        "address on this machine",
    )
    add("--workers", type=whole_number, metavar="N", help="workers of Ray (default: one a GPU, or one a 4 CPUs)")
    add("--gpus-per-worker", type=number, metavar="X", help="GPUs of each worker, 0.5 for two workers on one")
    add(
        "--split-px",
        type=whole_number,
        metavar="N",
        help=f"pixels above which several workers of Ray share a mosaic, 0 for none (default: {SPLIT_PX:,})",
    )
    return arguments


def add_mapping_options(arguments: argparse.ArgumentParser, bands: str | None = None) -> None:
    """Add the options that decide what a map contains; an option that isn't given is absent from the result.

    Args:
        arguments: Parser of a command that maps.
        bands: `nargs` of --bands: "+" for several words.
    """
    from inference import options
    from inference.common.cli import band_numbers, nodata_value, number, whole_number

    default = {field.name: field.default for field in dataclasses.fields(options.Options)}

    def group(title: str) -> Callable[..., Any]:
        return partial(arguments.add_argument_group(title).add_argument, default=argparse.SUPPRESS)

    add = group("tiles")
    add("--tile-size", type=whole_number, metavar="N", help="side of a tile, pixels (default: the card's)")
    add(
        "--overlap",
        type=number,
        metavar="X",
        help=f"share of a tile, 0 to {options.LARGEST_OVERLAP:g} (default: {default['overlap']:g})",
    )
    add("--window", choices=options.WINDOW_NAMES, help=f"default: {default['window']}")
    add("--batch-size", type=whole_number, metavar="N", help="tiles in a batch (default: 1)")
    add("--tta", action="store_true", help="average over the eight flips and turns: 8 times the work")
    add = group("mosaic")
    add(
        "--bands",
        type=band_numbers,
        nargs=bands,
        metavar="B" if bands else "B,B,..",
        help="bands to read, such as 3,2,1 (default: the card's)",
    )
    add("--nodata", type=nodata_value, metavar="X", help="value of invalid pixels, or none (default: the file's)")
    add("--max-pixel-value", type=number, metavar="X", help="value that pixels are divided by (default: the card's)")
    add("--resample", action="store_true", help="read at the card's ground sample distance")
    add = group("classes")
    add("--threshold", type=number, metavar="P", help="probability above which a pixel is target (default: card's)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    # GDAL's threads print their errors to stderr; ours contain what the user needs.
    os.environ.setdefault("CPL_LOG", os.devnull)
    from inference.common.cli import exit_code

    return exit_code(lambda: _run(argv))  # from here on signals are handled, also while libraries are loaded


def _run(argv: Sequence[str] | None) -> int:
    arguments = parser()
    found, more = arguments.parse_known_args(argv)
    if unknown := [word for word in more if word.startswith("-")]:
        arguments.error(f"unrecognized arguments: {' '.join(unknown)}")
    options: dict[str, Any] = vars(found)
    # Options may stand between the files, of which argparse leaves those over that come after them.
    words: list[str] = [*options.pop("sources"), options.pop("target"), *more]
    sources, target = words[:-1], words[-1]
    if "bands" in options:
        options["bands"] = [band for part in options["bands"] for band in part]
    from inference.common.imports import large_imports

    with large_imports():
        from inference.batch.items import names_a_batch
        from inference.common.errors import UserError
        from inference.common.text import print_line
        from inference.predict import predict

    if names_a_batch(sources, target):
        from inference.batch.command import run

        return run(sources, target, **options)
    for name in ("dry_run", "retries", "work_dir", "ray", "workers", "gpus_per_worker", "split_px"):
        if name in options:
            raise UserError(f"--{name.replace('_', '-')}: is for several mosaics and a folder (leave it out)")
    summary = predict(sources[0], target, progress=True, **options)
    print_line(str(summary), sys.stdout)
    return 0


if __name__ == "__main__":
    from inference.common.cli import run_as_script

    run_as_script(main)
