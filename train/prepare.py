"""Command line `python -m train.prepare PREPARE.yml [KEY=VALUE ...]`."""

import argparse
import sys
from collections.abc import Sequence

from inference.common.cli import Parser, exit_code, file_or_folder, run_as_script

EXAMPLES = """\
examples:
  python -m train.prepare train/configs/demo/prepare.yml
  python -m train.prepare prepare.yml --check
  python -m train.prepare prepare.yml split.seed=3 split.guard="30 m"
  python -m train.prepare prepare.yml --chips chips
"""


def parser() -> argparse.ArgumentParser:
    """Build the parser of the arguments."""
    arguments = Parser(
        prog="python -m train.prepare",
        description="Make a data set of mosaics and polygons: labels, and splits that don't touch on the ground.",
        examples=EXAMPLES,
    )
    arguments.add_argument("config", nargs="?", metavar="PREPARE.yml", help="config file")
    arguments.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="replace a value of the config, such as tile_size=256",
    )
    arguments.add_argument(
        "--check", action="store_true", help="read everything, say what would be done, write nothing"
    )
    arguments.add_argument(
        "--chips",
        metavar="DIR",
        type=file_or_folder,
        help="also write the selected blocks as images, {train,val,test}/{x,y}/",
    )
    arguments.add_argument(
        "--overwrite", action="store_true", help="replace dataset.gpkg even if its splits were edited by hand"
    )
    arguments.add_argument("--schema", action="store_true", help="print the JSON Schema of a config, for editors")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command, and return its exit code."""
    return exit_code(lambda: _run(parser().parse_intermixed_args(argv)))


def _run(options: argparse.Namespace) -> int:
    from inference.common.errors import UserError
    from train.preparation.loader import load_prepare_config, schema

    if options.schema:
        sys.stdout.write(schema() + "\n")
        return 0
    if options.config is None:
        raise UserError("a config is missing: python -m train.prepare PREPARE.yml (python -m train.prepare --help)")
    if options.check and options.chips is not None:
        raise UserError("--check: writes nothing, so --chips can't be given as well (remove one)")
    loaded = load_prepare_config(options.config, options.overrides)

    # Slow imports come after the config is validated, so that a typo in the YAML is reported at once.
    from train.preparation.run import prepare

    prepare(loaded, check=options.check, overwrite=options.overwrite, chips=options.chips)
    return 0


if __name__ == "__main__":
    run_as_script(main)
