"""`batch_size: auto`: the largest batch that a device's memory holds."""

import os
from collections.abc import Callable
from pathlib import Path

import torch

from inference.common.errors import UserError
from train.configs.config import Config
from train.datamodule import DataModule
from train.model import SegmentationModel
from train.optim.precision import device_kind
from train.run.bare_loop import Trial
from train.run.memory import memory, one_step

CANDIDATES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""Batches that are tried, in this order: larger ones learn no better."""
MOST_ON_CPU = 8
"""A CPU is no faster with more."""
STEPS_OF_AN_EPOCH = 10
"""An epoch is left at least as many batches."""
_SHARE = 0.9  # of what is free: a run's memory isn't the same in every step
_SHARE_OF_CPU = 0.5


def with_batch_size(config: Config, data: DataModule, model: SegmentationModel) -> tuple[Config, str]:
    """Puts a number in the place of `batch_size: auto`.

    On an NVIDIA GPU training steps are taken with ever larger batches until the memory is full; elsewhere memory is
    estimated from a small step, as `--check` does.

    Args:
        config: With `batch_size: auto`.
        data: Prepared; takes the number over.
        model: Any weights; is worthless afterwards.

    Returns:
        The config, with a number, and a line for the user.

    Raises:
        UserError: Not even one window fits, or several devices are asked for.
    """
    kind = device_kind(config.trainer.accelerator)
    devices = config.trainer.devices
    if config.trainer.num_nodes > 1 or (
        devices not in (1, "auto") and not (isinstance(devices, list) and len(devices) == 1)
    ):
        raise UserError("batch_size: auto is found on one device, the config asks for several (give a number)")
    if devices == "auto" and kind == "cuda" and torch.cuda.device_count() > 1:
        raise UserError("batch_size: auto is found on one device, trainer.devices: auto takes several (give a number)")
    most = min(CANDIDATES[-1], max(1, data.windows_per_epoch // STEPS_OF_AN_EPOCH))
    if kind == "cuda":
        fits, room = _tried(config, model), "the GPU"
    else:
        fits, room = _estimated(config, data, model, kind), "memory"
        most = min(most, MOST_ON_CPU) if kind == "cpu" else most
    found = largest(fits, most)
    if found == 0:
        raise UserError(
            f"batch_size: not even one window of {config.tile_size} px fits into {room} (choose a smaller tile_size or "
            "backbone, or segmentation_config.gradient_checkpointing=true)"
        )
    config = config.model_copy(deep=True)
    for section in (config, config.segmentation_config, config.data_module):
        section.batch_size = found
    data.take_over(config)
    top = max(size for size in CANDIDATES if size <= most)
    why = f"{top} is the most that is tried here" if found == top else f"more doesn't fit into {room}"
    return config, f"batch_size auto: {found} ({why})"


def _devices(config: Config, kind: str) -> int:
    asked = config.trainer.devices
    if asked == "auto":
        asked = torch.cuda.device_count() if kind == "cuda" else 1
    return config.trainer.num_nodes * (len(asked) if isinstance(asked, list) else asked)


def largest(fits: Callable[[int], bool], most: int) -> int:
    """The largest candidate up to `most` before the first that doesn't fit; 0 where 1 doesn't."""
    found = 0
    for size in [size for size in CANDIDATES if size <= most]:
        if not fits(size):
            break
        found = size
    return found


def _estimated(config: Config, data: DataModule, model: SegmentationModel, kind: str) -> Callable[[int], bool]:
    step = one_step(config, data, model)
    room = _SHARE * torch.mps.recommended_max_memory() if kind == "mps" else _SHARE_OF_CPU * _free_memory()
    return lambda size: memory(config, model, step, size) <= room


def _free_memory() -> int:
    """Bytes that a program could still have; of the whole machine, where the system doesn't tell."""
    listing = Path("/proc/meminfo")
    if listing.is_file():
        for line in listing.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 8 * 2**30  # Windows


def _tried(config: Config, model: SegmentationModel) -> Callable[[int], bool]:
    room = _SHARE * torch.cuda.mem_get_info()[0]
    trial = Trial(config, model)
    pixels = torch.randint(0, 256, (1, config.num_bands, config.tile_size, config.tile_size), dtype=torch.uint8)
    label = torch.randint(0, config.labels, (1, config.tile_size, config.tile_size), dtype=torch.uint8)

    def fits(size: int) -> bool:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        try:
            trial.backward({"image": pixels.expand(size, -1, -1, -1), "label": label.expand(size, -1, -1)})
            trial.step()
        except torch.OutOfMemoryError:
            return False
        except ValueError as error:
            # Of a network that pools to one pixel: a batch of one has no variance, larger ones will be tried.
            if size > 1 or "more than 1 value per channel" not in str(error):
                raise
        finally:
            trial.forget()
        return torch.cuda.max_memory_reserved() <= room

    return fits
