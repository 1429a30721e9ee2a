"""Command `python eval/test_new_model.py [MODEL] [CONFIG.yml]`: evaluate a model, optionally against a baseline."""

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

LARGEST_DISTANCE = 1000
"""Largest distance of a boundary score, pixels or metres: so many rows are read beyond each part of an image."""

if __name__ == "__main__" and not __package__:
    # Run as a file, Python puts the file's own folder first on sys.path; the package `eval` is in its parent.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

EXAMPLES = """\
examples:
  python eval/test_new_model.py
  python eval/test_new_model.py runs/kelp/unet-20260101-120000 --baseline inference/weights/kelp_dice=0.9100.onnx
  python eval/test_new_model.py "hakai/kom-kelp-rgb/model-ab12cd34:v3" kelp.yml --data /data/kelp --group "^[a-z]+"

MODEL is a W&B artifact, a .ckpt, a run folder, an .onnx or a .pt file; default: the model in inference/weights.
Without --data, the data set that the model was trained on is used if it is known, else the demo data set.
"""


def parser() -> argparse.ArgumentParser:
    """Build the argument parser."""
    from inference.common.cli import Parser, file_or_folder, number, whole_number
    from inference.inference import add_mapping_options

    arguments = Parser(
        prog="python eval/test_new_model.py",
        description="Evaluate a model on labelled images with the inference code, and write a report.",
        examples=EXAMPLES,
        check="the TorchScript trace of a checkpoint differs from it",
    )
    add = arguments.add_argument
    add("model", nargs="?", metavar="MODEL", help="model to evaluate (default: the model in inference/weights)")
    add(
        "config",
        nargs="?",
        metavar="CONFIG.yml",
        help="YAML that the model was trained with; checkpoints of this project contain it",
    )
    add("overrides", nargs="*", metavar="KEY=VALUE", help="override a key of the config")
    add("--data", metavar="DIR", help="folder with SPLIT/x and SPLIT/y or that train.prepare wrote, or demo://kelp")
    add("--split", choices=("train", "val", "test"), default="test", help="default: test")
    add("--baseline", metavar="MODEL2", help="second model to compare with on the same images")
    add(
        "--group",
        metavar="REGEX",
        help="part of an image's name that is equal for images of one group, for the confidence intervals (default: "
        "images whose footprints touch are one group, or the blocks of one site)",
    )
    add("--out", type=file_or_folder, metavar="DIR", help="folder for the report (default: runs/judged/MODEL-SPLIT)")
    add(
        "--card",
        type=file_or_folder,
        metavar="FILE.json",
        help="card of MODEL, ours or habitat-mapper's (default: embedded)",
    )
    add("--baseline-card", type=file_or_folder, metavar="FILE.json", help="card of MODEL2 (default: embedded)")
    add("--ignore-index", type=whole_number, metavar="N", help="label value to ignore (default: that of the card)")
    add(
        "--boundary-pixels",
        type=number,
        default=3,
        metavar="N",
        help="distance for boundary IoU and F1, pixels (default: 3)",
    )
    add(
        "--boundary-metres",
        type=number,
        default=0.5,
        metavar="M",
        help="the same on the ground, metres (default: 0.5)",
    )
    add("--no-threshold", action="store_true", help="don't search for the best threshold on the validation split")
    add("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="default: auto")
    add("--overwrite", action="store_true", help="replace the report of another evaluation")
    add("--wandb", action="store_true", help="log scores and report to W&B; offline if it can't be reached")
    add_mapping_options(arguments)
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    from inference.common.cli import exit_code

    # GDAL's threads write errors directly to stderr; the relevant ones are reported by our own messages.
    os.environ.setdefault("CPL_LOG", os.devnull)
    return exit_code(lambda: _run(parser().parse_intermixed_args(argv)))


def _sort_positionals(options: argparse.Namespace) -> None:
    """Sort the positional arguments into MODEL, CONFIG.yml and KEY=VALUE by their form, whatever their order."""
    from inference.common.errors import UserError

    words = [word for word in (options.model, options.config, *options.overrides) if word is not None]
    pairs = [word for word in words if _is_override(word)]
    files = [word for word in words if word not in pairs and Path(word).suffix.lower() in {".yml", ".yaml"}]
    models = [word for word in words if word not in pairs and word not in files]
    for kind, found in (("MODEL", models), ("CONFIG.yml", files)):
        if len(found) > 1:
            raise UserError(
                f"{found[1]}: only one {kind} is allowed, {found[0]} is already given (--baseline takes a second model)"
            )
    if pairs and not files:
        raise UserError(f"{pairs[0]}: overrides a config, but none was given (add CONFIG.yml after MODEL)")
    for option in ("boundary_pixels", "boundary_metres"):
        if not 0 < getattr(options, option) <= LARGEST_DISTANCE:
            raise UserError(
                f"--{option.replace('_', '-')}: {getattr(options, option):g} (allowed: above 0, up to "
                f"{LARGEST_DISTANCE})"
            )
    options.model, options.config = next(iter(models), None), next(iter(files), None)
    options.overrides = tuple(pairs)


def _is_override(word: str) -> bool:
    """Return True for KEY=VALUE, but not for a model file with a = in its name."""
    from inference.common.paths import names_a_file

    key = word.partition("=")[0]
    if "=" not in word or re.fullmatch(r"[A-Za-z_]\w*(\.\w+)*", key) is None or names_a_file(word):
        return False
    return "." in key or Path(word).suffix.lower() not in {".onnx", ".pt", ".ckpt"}


def _run(options: argparse.Namespace) -> int:
    from inference.common.text import print_line
    from inference.model.choose import choose_model

    _sort_positionals(options)

    if options.config is not None:
        from train.configs.loader import load_config

        load_config(options.config, options.overrides)  # report a typo before PyTorch is imported
    if options.model is None:
        choose_model()  # the same for a missing model
    from eval.evaluate import EvaluationOptions, evaluate

    written, verdict = evaluate(EvaluationOptions(**_evaluation_options(options)))
    print_line(verdict, sys.stdout)
    for path in written:
        sys.stdout.write(f"wrote: {path}\n")
    return 0


def _evaluation_options(options: argparse.Namespace) -> dict[str, Any]:
    from eval.predictions import MAPPING_OPTIONS

    chosen = dict(vars(options))
    mapping = {name: chosen.pop(name) for name in MAPPING_OPTIONS if name in chosen}
    chosen["mapping"] = mapping
    chosen["threshold"] = not chosen.pop("no_threshold")
    return chosen


if __name__ == "__main__":
    from inference.common.cli import run_as_script

    run_as_script(main)
