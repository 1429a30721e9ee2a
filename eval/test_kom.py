"""`python eval/test_kom.py [MODEL.onnx] [IMAGE.tif ..]`: does Kelp-O-Matic (habitat-mapper) give the same map?"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__" and not __package__:
    # Run as a file: its own folder comes first on the path, and there `eval` is not to be found.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

EPILOG = """\
examples:
  python eval/test_kom.py
  python eval/test_kom.py inference/weights/kelp_dice=0.9100.onnx --data /data/kelp
  python eval/test_kom.py kelp.onnx mosaic.tif --blur 5 --out compared
  python eval/test_kom.py new.onnx --data /data/kelp --production in_use.onnx --production-card in_use.json

Without MODEL: the one in inference/weights. Without images: the test split of --data, by default of the demo.
habitat-mapper is installed with uv into an environment of its own, once.

exit codes: 0 the maps agree but for what is known of habitat-mapper, 1 our fault, 2 something to mend in your input,
3 they differ for another reason, or habitat-mapper fails, 130 interrupted
"""


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    from inference.common.cli import Parser

    arguments = Parser(
        prog="python eval/test_kom.py",
        description="Compare habitat-mapper's map of a model with ours, pixel by pixel.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = arguments.add_argument
    add("files", nargs="*", type=Path, metavar="FILE", help="MODEL.onnx, and images without labels")
    add("--data", metavar="DIR", help="folder with SPLIT/x and SPLIT/y (default: demo://kelp)")
    add("--split", choices=("train", "val", "test"), default="test", help="default: test")
    add("--blur", type=int, default=5, metavar="N", help="median filter of the map with post-processing (default: 5)")
    add("--morph", type=int, default=0, metavar="N", help="opening and closing of that map (default: 0)")
    add(
        "--production",
        action="append",
        type=Path,
        default=[],
        metavar="MODEL2",
        help="a model in use, .onnx or .pt, scored on the same labels; may be given several times",
    )
    add(
        "--production-card",
        type=Path,
        metavar="FILE.json",
        help="its card, ours or habitat-mapper's (default: its own, or MODEL2 with .json)",
    )
    add("--environment", type=Path, metavar="DIR", help="a Python environment that has habitat-mapper")
    add("--ignore-index", type=int, metavar="N", help="label value that counts nowhere (default: the card's)")
    add("--out", type=Path, metavar="DIR", help="keep the maps here, and where and why they differ")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    from inference.common.cli import exit_code

    options = parser().parse_args(argv)
    os.environ.setdefault("CPL_LOG", os.devnull)
    from inference.card import CardError

    return exit_code(lambda: _run(options), CardError)


def _run(options: argparse.Namespace) -> int:
    from inference.common.errors import UserError
    from inference.model.choose import choose_model

    models = [path for path in options.files if path.suffix.lower() == ".onnx"]
    images = [path for path in options.files if path.suffix.lower() != ".onnx"]
    if wrong := [path for path in images if path.is_dir() or path.suffix.lower() in {".pt", ".ckpt"}]:
        raise UserError(f"{wrong[0]}: habitat-mapper runs .onnx files only (train/convert_checkpoint.py makes them)")
    stems = [path.stem for path in images]
    if twice := [path for path in images if stems.count(path.stem) > 1]:
        raise UserError(f"{twice[0]} and {twice[1]}: their maps would have the same name (give one at a time)")
    if len(models) > 1:
        raise UserError(f"{models[1]}: one MODEL is enough, {models[0]} is one already")
    if images and options.data is not None:
        raise UserError(f"{images[0]}: images and --data don't go together (give one of them)")
    if missing := [path for path in images if not path.is_file()]:
        raise UserError("\n".join(f"{path}: no such file" for path in missing))
    if options.production_card is not None and len(options.production) != 1:
        raise UserError(
            f"--production-card: is for one --production, there are {len(options.production)} (put a JSON of its name "
            "beside each)"
        )
    for option in ("blur", "morph"):
        value = getattr(options, option)
        if value < 0 or (value and value % 2 == 0):
            raise UserError(f"--{option}: {value} (allowed: 0 for none, or an odd number)")
    model = models[0] if models else choose_model()
    if model.suffix.lower() != ".onnx":
        raise UserError(f"{model}: habitat-mapper runs .onnx files only")

    from eval.kom.run import Session, compare_maps

    session = Session(
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
    return compare_maps(session)


if __name__ == "__main__":
    sys.exit(main())
