"""`python eval/test_new_model.py [MODEL] [CONFIG.yml]`: is this model better than the one in use, and how surely?"""

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__" and not __package__:
    # Run as a file: its own folder comes first on the path, and there `eval` is not to be found.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

EPILOG = """\
examples:
  python eval/test_new_model.py
  python eval/test_new_model.py runs/kelp/unet-20260101-120000 --baseline inference/weights/kelp_dice=0.9100.onnx
  python eval/test_new_model.py "hakai/kom-kelp-rgb/model-ab12cd34:v3" kelp.yml --data /data/kelp --group "^[a-z]+"

MODEL is a W&B artifact, a .ckpt, a run folder, an .onnx or a .pt; without it, the model in inference/weights.
Without --data: the data set it was trained on, where it says so; else the demo.

exit codes: 0 done, 1 our fault, 2 something to mend in your input, 3 a checkpoint's trace would not give its answers,
130 interrupted
"""


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    from inference.common.cli import Parser

    arguments = Parser(
        prog="python eval/test_new_model.py",
        description="Judge a model on labelled images, through the code that maps mosaics.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = arguments.add_argument
    add("model", nargs="?", metavar="MODEL", help="what to judge (default: the model in inference/weights)")
    add("config", nargs="?", metavar="CONFIG.yml", help="the YAML it was trained with; our own checkpoints know")
    add("overrides", nargs="*", metavar="KEY=VALUE", help="replaces a key of the config")
    add("--data", metavar="DIR", help="folder with SPLIT/x and SPLIT/y, or demo://kelp")
    add("--split", choices=("train", "val", "test"), default="test", help="default: test")
    add("--baseline", metavar="MODEL2", help="a second model, compared on the same images")
    add(
        "--group",
        metavar="REGEX",
        help="what in an image's name says which belong together (default: those that touch)",
    )
    add("--out", type=Path, metavar="DIR", help="where the report goes (default: runs/judged/MODEL-SPLIT)")
    add("--card", type=Path, metavar="FILE.json", help="card of MODEL, ours or habitat-mapper's (default: its own)")
    add("--baseline-card", type=Path, metavar="FILE.json", help="card of MODEL2 (default: its own)")
    add("--bands", type=_bands, metavar="B,B,..", help="bands to read, such as 3,2,1 (default: the card's)")
    add("--ignore-index", type=int, metavar="N", help="label value that counts nowhere (default: the card's)")
    add("--boundary-pixels", type=float, default=3, metavar="N", help="how far off outlines may be (default: 3)")
    add("--boundary-metres", type=float, default=0.5, metavar="M", help="the same on the ground (default: 0.5)")
    add("--no-threshold", action="store_true", help="don't map the validation split to find the best threshold")
    add("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="default: auto")
    add("--wandb", action="store_true", help="log scores and report to W&B; offline where it can't be reached")
    return arguments


def _bands(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) for part in parts):
        raise argparse.ArgumentTypeError(f"{text} (allowed: numbers from 1 with commas between, such as 3,2,1)")
    return tuple(int(part) for part in parts)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    from inference.common.cli import exit_code

    options = parser().parse_intermixed_args(argv)
    # GDAL's threads write their errors straight to stderr; what matters of them is in ours.
    os.environ.setdefault("CPL_LOG", os.devnull)
    from inference.card import CardError

    return exit_code(lambda: _run(options), CardError, interrupted="interrupted; no report was written")


def _arrange(options: argparse.Namespace) -> None:
    """A YAML or KEY=VALUE in the place of another positional argument is meant as what it is."""
    from inference.common.errors import UserError

    words = [word for word in (options.model, options.config, *options.overrides) if word is not None]
    pairs = [word for word in words if _is_override(word)]
    files = [word for word in words if word not in pairs and Path(word).suffix.lower() in {".yml", ".yaml"}]
    models = [word for word in words if word not in pairs and word not in files]
    for kind, found in (("MODEL", models), ("CONFIG.yml", files)):
        if len(found) > 1:
            raise UserError(
                f"{found[1]}: one {kind} is enough, {found[0]} is one already (--baseline for a second model)"
            )
    if pairs and not files:
        raise UserError(f"{pairs[0]}: overrides a config, but none was given (CONFIG.yml comes after MODEL)")
    for option in ("boundary_pixels", "boundary_metres"):
        if not 0 < getattr(options, option) < 1e4:
            raise UserError(f"--{option.replace('_', '-')}: {getattr(options, option):g} (allowed: above 0)")
    options.model, options.config = next(iter(models), None), next(iter(files), None)
    options.overrides = tuple(pairs)


def _is_override(word: str) -> bool:
    """Whether a word is KEY=VALUE: our models' files have a = in their names too."""
    key = word.partition("=")[0]
    if "=" not in word or re.fullmatch(r"[A-Za-z_]\w*(\.\w+)*", key) is None or Path(word).exists():
        return False
    return "." in key or Path(word).suffix.lower() not in {".onnx", ".pt", ".ckpt"}


def _run(options: argparse.Namespace) -> int:
    from inference.model.choose import choose_model

    _arrange(options)

    if options.config is not None:
        from train.configs.loader import load_config

        load_config(options.config, options.overrides)  # a typo must not wait for PyTorch
    if options.model is None:
        choose_model()  # nor a missing model
    from eval.evaluate import Session, evaluate

    written, said = evaluate(Session(**_session(options)))
    sys.stdout.write(f"{said}\n")
    for path in written:
        sys.stdout.write(f"wrote: {path}\n")
    return 0


def _session(options: argparse.Namespace) -> dict[str, Any]:
    chosen = dict(vars(options))
    chosen["threshold"] = not chosen.pop("no_threshold")
    return chosen


if __name__ == "__main__":
    sys.exit(main())
