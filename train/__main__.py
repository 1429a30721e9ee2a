"""Command line `python -m train CONFIG.yml [KEY=VALUE ...]`."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack

from inference.common.cli import Parser, exit_code, run_as_script

EXAMPLES = """\
examples:
  python -m train train/configs/demo/unet-mobilenetv2.yml
  python -m train my.yml data_module.data_dir=/data/kelp trainer.max_epochs=3 tile_size=512
  python -m train my.yml --check
  python -m train my.yml --lr-find
  python -m train --resume runs/PROJECT/NAME-TIMESTAMP trainer.max_epochs=40
  python -m train my.yml --resume-or-start runs/kelp/night
"""


def parser() -> argparse.ArgumentParser:
    """Build the parser of the arguments."""
    arguments = Parser(
        prog="python -m train",
        description="Train a segmentation model on GeoTIFFs from one YAML file.",
        examples=EXAMPLES,
    )
    arguments.add_argument("config", nargs="?", metavar="CONFIG.yml", help="config file")
    arguments.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="replace a value of the config, such as tile_size=512",
    )
    mode = arguments.add_mutually_exclusive_group()
    mode.add_argument("--check", action="store_true", help="check config, data and model without training")
    mode.add_argument(
        "--lr-find", action="store_true", help="suggest a learning rate, and draw the loss over the learning rate"
    )
    arguments.add_argument("--resume", metavar="RUN", help="resume the run in this folder, with its own config")
    arguments.add_argument(
        "--resume-or-start",
        metavar="RUN",
        help="resume the run in this folder, or start one there if it holds none: for jobs that may be started again",
    )
    arguments.add_argument(
        "--force", action="store_true", help="allow a resumed run to change any key, and to use other data"
    )
    arguments.add_argument("--schema", action="store_true", help="print the JSON Schema of a config, for editors")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command, and return its exit code."""
    return exit_code(lambda: _run(parser().parse_intermixed_args(argv)))


def _run(options: argparse.Namespace) -> int:
    from train.configs.loader import schema

    if options.schema:
        sys.stdout.write(schema() + "\n")
        return 0
    with ExitStack() as held:  # holds the lock of a claimed run folder
        return _train(options, held)


def _train(options: argparse.Namespace, held: ExitStack) -> int:
    from inference.common.errors import UserError
    from inference.common.paths import user_path
    from inference.common.text import print_line
    from train.configs.loader import load_config
    from train.run.claim import claim_run, is_finished, resumed_config
    from train.run.folder import existing_run
    from train.run.launch import is_first_process

    overrides = list(options.overrides)
    folder = claimed = None
    _check_modes(options)
    if options.resume is not None:
        if options.config is not None:
            overrides.insert(0, options.config)
        folder = existing_run(user_path(options.resume, "--resume"))
        _check_overrides(overrides, options.force)
        options.config = str(folder.config)
    loaded = load_config(options.config, overrides)
    if options.resume_or_start is not None:
        if not loaded.config.checkpoint.save_last:
            raise UserError("--resume-or-start: needs last.ckpt, but checkpoint.save_last is false (set it to true)")
        claimed = claim_run(user_path(options.resume_or_start, "--resume-or-start"), held)
        if claimed.resumes:
            loaded = resumed_config(loaded, options.config, claimed.folder, options.force)
            _import_slow_libraries()
            if is_finished(claimed.folder, loaded.config):
                if is_first_process():
                    print_line(
                        f"{claimed.folder.path}: the run is finished (to prolong it, raise max_epoch)", sys.stdout
                    )
                return 0

    # PyTorch is imported after config and data are checked, so that mistakes in them are reported at once.
    from train.data.class_weights import with_class_weights
    from train.data.find_scenes import with_class_names
    from train.data.labelled_images import LabelledImages
    from train.data.survey import survey

    images = LabelledImages(loaded.config)
    surveyed = survey(images) if options.check else None
    images.prepare()
    config, weights = with_class_weights(with_class_names(loaded.config, images.prepared), images)
    notices = [*loaded.notices, *weights]
    if claimed is None or not claimed.resumes:
        _import_slow_libraries()
    if surveyed is not None:
        from train.run.check import check

        return check(config, notices, surveyed)
    if options.lr_find:
        from train.run.lr_find import find_learning_rate

        sys.stdout.write(find_learning_rate(config, notices, images) + "\n")
        return 0
    from inference.common.signals import exit_status
    from train.run.fit import train
    from train.run.interrupt import Interrupted
    from train.run.results import report

    try:
        result = train(config, notices, folder, options.force, images, claimed)
    except Interrupted as stopped:
        if stopped.args[0]:
            line = f"stopped; resume with: python -m train --resume {stopped.args[0]}"
        else:
            line = "stopped; there is no last.ckpt to resume from (checkpoint.save_last: false)"
        if is_first_process():
            print_line(line)
        return exit_status(stopped.number)
    if is_first_process():
        print_line(report(config, options.config, result), sys.stdout)
    return 0


def _check_modes(options: argparse.Namespace) -> None:
    """Check that there is a config, unless a run is resumed, and that the options go together."""
    from inference.common.errors import UserError

    if options.resume is not None and options.config is not None and "=" not in options.config:
        raise UserError(
            f"--resume: uses the config of the run, so {options.config} can't be given as well (remove it; "
            "KEY=VALUE is allowed)"
        )
    for option, given in (("--resume", options.resume), ("--resume-or-start", options.resume_or_start)):
        others = {"--check": options.check, "--lr-find": options.lr_find}
        if option == "--resume":
            others["--resume-or-start"] = options.resume_or_start is not None
        for other, also in others.items():
            if given is not None and also:
                raise UserError(f"{option}: can't be used together with {other}")
    if options.resume is None and options.config is None:
        raise UserError("a config is missing: python -m train CONFIG.yml (python -m train --help)")


def _import_slow_libraries() -> None:
    """Import PyTorch, Lightning and timm, which takes seconds."""
    from inference.common.imports import large_imports
    from train.models import import_timm

    sys.stderr.write("loading ...\n")
    with large_imports():
        import_timm()
        import train.run.fit  # noqa: F401


def _check_overrides(overrides: Sequence[str], force: bool) -> None:
    """Check that overrides of a resumed run change only keys in `RESUMABLE`, unless forced."""
    from inference.common.errors import UserError
    from train.run.folder import RESUMABLE, is_resumable

    for text in overrides:
        key = text.partition("=")[0].strip()
        if not force and not is_resumable(key):
            allowed = ", ".join(k for k in RESUMABLE if not k.endswith(".")) + ", logging.*"
            raise UserError(
                f"override: {key}: would change the run that is resumed (allowed: {allowed}; or add --force)"
            )


if __name__ == "__main__":
    run_as_script(main)
