"""`python -m train CONFIG.yml [KEY=VALUE ...]`: the command line, nothing else."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from inference.common.cli import Parser, exit_code

EPILOG = """\
examples:
  python -m train train/configs/demo/unet-mobilenetv2.yml
  python -m train my.yml data_module.data_dir=/data/kelp trainer.max_epochs=3 tile_size=512
  python -m train my.yml --check
  python -m train my.yml --lr-find
  python -m train --resume runs/PROJECT/NAME-TIMESTAMP trainer.max_epochs=40

exit codes: 0 done, 1 our fault, 2 something to mend in your input, 130 interrupted
"""

# What may change when a run goes on: how long, on what, and where it is logged. Anything else makes another run of it.
RESUMABLE = (
    "max_epoch",
    "trainer.max_epochs",
    "trainer.max_steps",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.accelerator",
    "trainer.log_every_n_steps",
    "data_module.num_workers",
    "data_module.pin_memory",
    "data_module.persistent_workers",
    "enable_logging",
    "tags",
    "logging.",
)


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    arguments = Parser(
        prog="python -m train",
        description="Train a segmentation model on GeoTIFFs from one YAML file.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    arguments.add_argument("config", nargs="?", metavar="CONFIG.yml", help="what to train on what")
    arguments.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="replaces a key of the config; dotted keys, YAML values"
    )
    instead = arguments.add_mutually_exclusive_group()
    instead.add_argument("--check", action="store_true", help="check config, data and model; train nothing")
    instead.add_argument(
        "--lr-find", action="store_true", help="draw the loss over a rising learning rate, and suggest one"
    )
    arguments.add_argument("--resume", metavar="RUN", help="go on with the run in this folder, with its own config")
    arguments.add_argument("--force", action="store_true", help="let --resume change any key")
    arguments.add_argument("--schema", action="store_true", help="print the JSON Schema of a config, for editors")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    options = parser().parse_intermixed_args(argv)
    return exit_code(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    from inference.common.errors import UserError
    from train.configs.loader import load_config, schema

    if options.schema:
        sys.stdout.write(schema() + "\n")
        return 0
    overrides = list(options.overrides)
    resume = None
    if options.resume is not None:
        if options.config is not None:
            if "=" not in options.config:
                raise UserError(
                    f"--resume: takes its config from the run, so {options.config} can't be used (leave it out; "
                    "KEY=VALUE may follow)"
                )
            overrides.insert(0, options.config)
        for option, given in (("--check", options.check), ("--lr-find", options.lr_find)):
            if given:
                raise UserError(f"--resume: can't be used together with {option}")
        options.config, resume = _resumed(Path(options.resume), overrides, options.force)
    elif options.config is None:
        raise UserError("a config is missing: python -m train CONFIG.yml (python -m train --help)")
    loaded = load_config(options.config, overrides)

    # Only now what is slow to import: a typo in the YAML must not wait for it.
    sys.stderr.write("loading ...\n")
    from train.models.import_timm import import_timm

    import_timm()
    if options.check:
        from train.run.check import check

        return check(loaded.config, loaded.notices)
    if options.lr_find:
        from train.run.lr_find import find_learning_rate

        sys.stdout.write(find_learning_rate(loaded.config, loaded.notices) + "\n")
        return 0
    from train.run.callbacks import Interrupted
    from train.run.fit import train
    from train.run.folder import existing_run
    from train.run.results import report

    folder = existing_run(resume) if resume is not None else None
    try:
        result = train(loaded.config, loaded.notices, folder)
    except Interrupted as stopped:
        if stopped.args:
            sys.stderr.write(f"stopped; go on with: python -m train --resume {stopped.args[0]}\n")
        return 130
    if result.folder.summary.is_file():
        sys.stdout.write(report(loaded.config, options.config, result) + "\n")
    return 0


def _resumed(folder: Path, overrides: Sequence[str], force: bool) -> tuple[str, Path]:
    """The config of a run to go on with; refuses overrides that would make another run of it."""
    from inference.common.errors import UserError

    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder (--resume takes a run folder, such as runs/PROJECT/NAME-TIMESTAMP)")
    if not (folder / "config.yml").is_file():
        raise UserError(f"{folder}: is no run folder: it has no config.yml")
    for text in overrides:
        key = text.partition("=")[0].strip()
        if not force and key not in RESUMABLE and not key.startswith("logging."):
            allowed = ", ".join(k for k in RESUMABLE if not k.endswith(".")) + ", logging.*"
            raise UserError(
                f"override: {key}: would change the run that is resumed (allowed: {allowed}; or add --force)"
            )
    return str(folder / "config.yml"), folder


if __name__ == "__main__":
    sys.exit(main())
