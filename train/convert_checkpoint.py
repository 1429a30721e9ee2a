"""Command line of the export: `python train/convert_checkpoint.py SOURCE [CONFIG.yml] --model_name N --task T`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__" and not __package__:
    # Python puts the folder of a script first on the path, and the package `train` is in its parent folder.
    sys.path[0] = str(ROOT)

EXAMPLES = """\
examples:
  python train/convert_checkpoint.py "hakai/kom-mussels-rgb/model-nzty80z7:v0" \\
      train/configs/mussels-rgb/unetpp-efficientnetv2-m.yml \\
      --model_name UNetPlusPlus_EfficientNetV2M --task mussel_presence_rgb
  python train/convert_checkpoint.py runs/demo-kelp/unet-mobilenetv2-20260101-120000
  python train/convert_checkpoint.py old.ckpt my.yml data_module.data_dir=/data/kelp --score 0.91 --formats onnx
"""


def parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    from inference.common.cli import Parser, file_or_folder, number
    from train.export.formats import ALL_FORMATS, FORMATS

    known = ",".join(FORMATS)
    arguments = Parser(
        prog="python train/convert_checkpoint.py",
        description="Convert a checkpoint to ONNX and TorchScript files with the same outputs.",
        examples=EXAMPLES,
        check="an exported file does not reproduce the checkpoint; nothing is written",
    )
    arguments.add_argument("source", metavar="SOURCE", help="a W&B artifact (name or URL), a .ckpt, or a run folder")
    arguments.add_argument(
        "config",
        nargs="?",
        metavar="CONFIG.yml",
        help="YAML of the training; optional for checkpoints that contain it",
    )
    arguments.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="override a key of the config")
    add = arguments.add_argument
    add("--model_name", "--model-name", metavar="N", help="model name in the file names (default: the card's)")
    add("--task", metavar="T", help="task in the file names, what the model maps (default: the card's)")
    add(
        "--score",
        type=number,
        metavar="DICE",
        help="Dice score in the file names and in the card (default: that of the artifact or card)",
    )
    add("--weights", metavar="SET", help="set of weights of a checkpoint that holds several, such as model or ema")
    add(
        "--formats",
        default=known,
        metavar="LIST",
        help=f"formats to write, of {', '.join(ALL_FORMATS)} (default: {known})",
    )
    add(
        "--output",
        choices=["probabilities", "logits"],
        default="probabilities",
        help="kind of output (default: probabilities)",
    )
    add("--dynamic", action="store_true", help="accept any height and width instead of the tile size only")
    add(
        "--revision",
        metavar="YYYYMMDD[-X]",
        help="revision of the model (default: day of training and hash of the weights)",
    )
    add("--licence", "--license", metavar="SPDX", help="licence of the model, such as CC-BY-4.0")
    add("--device", default="auto", metavar="D", help="device of the check: auto, cpu, cuda or mps (default: auto)")
    add(
        "--output_dir",
        "--output-dir",
        type=file_or_folder,
        default=ROOT / "inference" / "weights",
        metavar="DIR",
        help="output folder (default: inference/weights)",
    )
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    from inference.common.cli import exit_code

    interrupted = "interrupted; nothing was written"
    return exit_code(lambda: _run(parser().parse_intermixed_args(argv)), interrupted)


def _run(options: argparse.Namespace) -> int:
    import re

    from inference.common.errors import UserError
    from inference.common.paths import names_a_file
    from train.configs.loader import load_config
    from train.export.formats import ALL_FORMATS

    config, overrides = options.config, list(options.overrides)
    if config is not None and "=" in config and not names_a_file(config):
        overrides.insert(0, config)
        config = None
    if overrides and config is None:
        raise UserError(f"{overrides[0]}: overrides a config, but none was given (give CONFIG.yml after SOURCE)")
    formats = list(dict.fromkeys(name.strip() for name in options.formats.split(",") if name.strip()))
    if not formats or (unknown := [name for name in formats if name not in ALL_FORMATS]):
        found = ", ".join(unknown) if formats else "nothing"
        raise UserError(f"--formats: found {found} (allowed: {', '.join(ALL_FORMATS)}, with commas between)")
    if options.revision is not None and not re.fullmatch(r"\d{8}(-\S+)?", options.revision):
        raise UserError(f"--revision: {options.revision} is not a revision (allowed: YYYYMMDD or YYYYMMDD-variant)")
    if config is not None:
        load_config(config, overrides)  # reports a typo before the slow import of PyTorch

    from inference.common.imports import large_imports
    from train.models import import_timm

    sys.stderr.write("loading ...\n")
    with large_imports():
        import_timm()
        from train.export.convert import ConversionRequest, convert

    written = convert(
        ConversionRequest(
            source=options.source,
            folder=options.output_dir,
            config=config,
            overrides=overrides,
            model_name=options.model_name,
            task=options.task,
            score=options.score,
            weights=options.weights,
            revision=options.revision,
            licence=options.licence,
            formats=formats,
            output=options.output,
            dynamic=options.dynamic,
            device=options.device,
        )
    )
    for path in written:
        sys.stdout.write(f"{path}\n")
    model = written[0]
    try:
        shown = model.resolve().relative_to(ROOT / "inference")
    except ValueError:
        shown = model.resolve()
    sys.stdout.write(f'\nnext: cd {ROOT / "inference"}; python inference.py IN.tif OUT.tif --model "{shown}"\n')
    return 0


if __name__ == "__main__":
    from inference.common.cli import run_as_script

    run_as_script(main)
