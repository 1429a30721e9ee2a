"""Command of a batch, the part of `inference.py` for several mosaics."""

import sys
from collections.abc import Sequence
from typing import Any

from inference.batch.arguments import make_batch
from inference.batch.distributed.options import take_ray_options
from inference.batch.run import run_batch
from inference.common.text import print_line
from inference.options import Options

SOME_FAILED = 4
"""Exit code where some images failed."""


def run(
    inputs: Sequence[str],
    folder: str,
    *,
    dry_run: bool = False,
    retries: int = 2,
    work_dir: str | None = None,
    **options: Any,
) -> int:
    """Run a batch and return the exit code.

    Args:
        inputs: Files, folders, patterns, manifests and prefixes.
        folder: Folder of the maps, or its address in a bucket.
        dry_run: True to say what would be done.
        retries: Number of further attempts after a failure that may pass.
        work_dir: Folder in which maps that go to a bucket are made.
        **options: Fields of `inference.options.Options`, and `ray`, `workers`, `gpus_per_worker` and `split_px`.
    """
    ray = take_ray_options(options)
    batch = make_batch(inputs, folder, Options(**options), retries, work_dir)
    if dry_run:
        from inference.batch.estimate import estimate

        print_line(str(estimate(batch, ray=ray)), sys.stdout)
        return 0
    result = run_batch(batch, progress=True, ray=ray)
    print_line(str(result), sys.stdout)
    return SOME_FAILED if result.failed else 0
