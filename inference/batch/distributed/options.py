"""Options of a batch on Ray: names, allowed values and defaults; imports nothing that is slow."""

import importlib.util
import re
from argparse import ArgumentTypeError
from dataclasses import dataclass
from typing import Any

from inference.common.errors import UserError
from inference.common.text import LONGEST_NAME, clean_line, quoted

LOCAL = "local"
"""Address of a Ray that the command starts on this machine, and ends with itself."""
INSTALL = "--ray: needs Ray (pip install 'ray>=2.40,<3')"
"""Message where Ray isn't installed; the extra `ray` names the same versions."""
MOST_WORKERS = 4096
MOST_GPUS = 64
SPLIT_PX = 1_000_000_000
"""Pixels above which a mosaic is split, by default."""
MOST_SPLIT_PX = 10**15
_ADDRESS = re.compile(r"auto|local|(\[[0-9A-Fa-f:.]+\]|[\w.-]+):[0-9]{1,5}")


@dataclass(frozen=True)
class RayOptions:
    """Options of a batch on Ray.

    Attributes:
        address: Address of the head node of a cluster, HOST:PORT; `auto` for the cluster that this machine belongs to;
            `local` for a Ray on this machine alone.
        workers: Number of workers; None for one a GPU, or one for each four CPUs.
        gpus: GPUs of each worker, which may be a share of one; None for 1 where there are GPUs, else 0.
        split_px: Pixels above which a mosaic is split into row bands that several workers map; 0 to split none.
    """

    address: str = LOCAL
    workers: int | None = None
    gpus: float | None = None
    split_px: int = SPLIT_PX

    def check(self) -> None:
        """Check the values, and that Ray is installed.

        Raises:
            UserError: A value is invalid, one line each, or Ray isn't installed.
        """
        problems = []
        if not _ADDRESS.fullmatch(self.address):
            problems.append(f"--ray: {_not_an_address(self.address)}")
        if self.workers is not None and not 1 <= self.workers <= MOST_WORKERS:
            problems.append(
                f"--workers: {clean_line(str(self.workers), LONGEST_NAME)} (allowed: 1 to {MOST_WORKERS:,})"
            )
        if self.gpus is not None and not (
            0 <= self.gpus <= MOST_GPUS and (self.gpus < 1 or float(self.gpus).is_integer())
        ):
            problems.append(f"--gpus-per-worker: {self.gpus:g} (allowed: 0 to 1, or a whole number up to {MOST_GPUS})")
        if not 0 <= self.split_px <= MOST_SPLIT_PX:
            problems.append(
                f"--split-px: {clean_line(str(self.split_px), LONGEST_NAME)} (allowed: pixels, 1 to {MOST_SPLIT_PX:,}, "
                "or 0 to split no mosaic)"
            )
        if problems:
            raise UserError("\n".join(problems))
        if importlib.util.find_spec("ray") is None:
            raise UserError(INSTALL)


def ray_address(text: str) -> str:
    """Convert the text of --ray to an address."""
    if not _ADDRESS.fullmatch(text):
        raise ArgumentTypeError(_not_an_address(text))
    return text


def _not_an_address(text: str) -> str:
    return (
        f"{quoted(text)} is no address of a Ray cluster (allowed: HOST:PORT, auto; for a Ray on this machine give "
        "--ray after OUT_DIR)"
    )


def take_ray_options(options: dict[str, Any]) -> RayOptions | None:
    """Remove the options of Ray from those of a command and return them; None to use no Ray.

    Raises:
        UserError: An option is given without --ray, or a value is invalid.
    """
    names = {"ray": "address", "workers": "workers", "gpus_per_worker": "gpus", "split_px": "split_px"}
    given = {field: options.pop(name) for name, field in names.items() if name in options}
    if "address" not in given:
        for name, field in names.items():
            if field in given:
                raise UserError(f"--{name.replace('_', '-')}: is for a batch on Ray (add --ray after OUT_DIR)")
        return None
    result = RayOptions(**given)
    result.check()
    return result
