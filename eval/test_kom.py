"""Command `python eval/test_kom.py [MODEL.onnx] [IMAGE.tif ..]`: compare our maps with those of Kelp-O-Matic."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

LARGEST_FILTER = 255
"""Largest side of a filter, pixels: OpenCV's median filter counts up to 2^16 pixels."""

if __name__ == "__main__" and not __package__:
    # Run as a file, Python puts the file's own folder first on sys.path; the package `eval` is in its parent.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

EXAMPLES = """\
examples:
  python eval/test_kom.py
  python eval/test_kom.py inference/weights/kelp_dice=0.9100.onnx --data /data/kelp
  python eval/test_kom.py kelp.onnx mosaic.tif --blur 5 --out compared
  python eval/test_kom.py new.onnx --data /data/kelp --production in_use.onnx --production-card in_use.json

Without MODEL, the model in inference/weights is used. Without images, the test split of --data is mapped, by default
that of the demo data set. On first use, uv installs habitat-mapper into a separate environment.
"""


def parser() -> argparse.ArgumentParser:
    """Build the argument parser."""
    from inference.common.cli import Parser, file_or_folder, whole_number

    arguments = Parser(
        prog="python eval/test_kom.py",
        description="Map images with Kelp-O-Matic (habitat-mapper) and with inference.py, and compare the maps.",
        examples=EXAMPLES,
        check="the maps differ for an unknown reason, or habitat-mapper fails",
    )
    add = arguments.add_argument
    add("files", nargs="*", type=file_or_folder, metavar="FILE", help="MODEL.onnx and images without labels")
    add("--data", metavar="DIR", help="folder with SPLIT/x and SPLIT/y (default: demo://kelp)")
    add("--split", choices=("train", "val", "test"), default="test", help="default: test")
    add(
        "--blur",
        type=whole_number,
        default=5,
        metavar="N",
        help="side of habitat-mapper's median filter for the post-processed map, pixels (default: 5)",
    )
    add(
        "--morph",
        type=whole_number,
        default=0,
        metavar="N",
        help="side of its morphological opening and closing, pixels (default: 0)",
    )
    add(
        "--production",
        action="append",
        type=file_or_folder,
        default=[],
        metavar="MODEL2",
        help="model in use, .onnx or .pt, to score on the same labels; repeatable",
    )
    add(
        "--production-card",
        type=file_or_folder,
        metavar="FILE.json",
        help="its card, ours or habitat-mapper's (default: embedded, or MODEL2 with the suffix .json)",
    )
    add("--environment", type=file_or_folder, metavar="DIR", help="Python environment that contains habitat-mapper")
    add("--ignore-index", type=whole_number, metavar="N", help="label value to ignore (default: that of the card)")
    add(
        "--out",
        type=file_or_folder,
        metavar="DIR",
        help="folder for the maps and for rasters of the reason of each difference",
    )
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    from inference.common.cli import exit_code

    os.environ.setdefault("CPL_LOG", os.devnull)
    return exit_code(lambda: _run(parser().parse_args(argv)))


def _run(options: argparse.Namespace) -> int:
    from inference.common.errors import UserError
    from inference.common.text import LONGEST_NAME, clean_line
    from inference.model.choose import choose_model

    models = [path for path in options.files if path.suffix.lower() == ".onnx"]
    images = [path for path in options.files if path.suffix.lower() != ".onnx"]
    if wrong := [path for path in images if path.is_dir() or path.suffix.lower() in {".pt", ".ckpt"}]:
        raise UserError(f"{wrong[0]}: habitat-mapper runs .onnx files only (train/convert_checkpoint.py makes them)")
    stems = [path.stem for path in images]
    if twice := [path for path in images if stems.count(path.stem) > 1]:
        raise UserError(f"{twice[0]} and {twice[1]}: their maps would have the same name (compare one at a time)")
    if len(models) > 1:
        raise UserError(f"{models[1]}: only one MODEL is allowed, {models[0]} is already given")
    if images and options.data is not None:
        raise UserError(f"{images[0]}: images and --data exclude each other (give one of them)")
    if missing := [path for path in images if not path.is_file()]:
        raise UserError("\n".join(f"{path}: no such file" for path in missing))
    if options.production_card is not None and len(options.production) != 1:
        raise UserError(
            f"--production-card: needs exactly one --production, found {len(options.production)} (for several, put a "
            "JSON file of the same name beside each model)"
        )
    for option in ("blur", "morph"):
        value = getattr(options, option)
        if not 0 <= value <= LARGEST_FILTER or (value and value % 2 == 0):
            found = clean_line(str(value), LONGEST_NAME)
            raise UserError(f"--{option}: {found} (allowed: 0 for none, or an odd number up to {LARGEST_FILTER})")
    model = models[0] if models else choose_model()
    if model.suffix.lower() != ".onnx":
        raise UserError(f"{model}: habitat-mapper runs .onnx files only")

    from eval.kom.run import ComparisonOptions, compare_maps

    comparison = ComparisonOptions(
        model=model,
        images=images,
        data=options.data,
        split=options.split,
        blur=options.blur,
        morph=options.morph,
        production=options.production,
        production_card=options.production_card,
        environment=options.environment,
        ignore_index=options.ignore_index,
        out=options.out,
    )
    return compare_maps(comparison)


if __name__ == "__main__":
    from inference.common.cli import run_as_script

    run_as_script(main)
