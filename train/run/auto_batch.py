"""`batch_size: auto`: find the largest batch that fits into the memory of the device."""

from collections.abc import Callable

import torch

from inference.common.errors import UserError
from inference.common.memory import free_memory
from train.configs.config import Config
from train.datamodule import DataModule
from train.model import SegmentationModel
from train.optim.precision import device_kind
from train.run.manual_loop import ManualLoop
from train.run.memory import estimate_memory, probe_step
from train.run.preflight import check_network
from train.run.trainer import trainer_devices

CANDIDATES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""Batch sizes that are tried, in this order; larger ones don't improve training."""
MAX_ON_CPU = 8
"""Largest batch size on a CPU, which is no faster with larger ones."""
MIN_BATCHES_PER_EPOCH = 10
"""Number of batches that an epoch must still have."""
_GPU_SHARE = 0.9  # of the free memory: the memory of a run differs from step to step
_CPU_SHARE = 0.5


def resolve_batch_size(config: Config, data: DataModule, model: SegmentationModel) -> tuple[Config, str]:
    """Replace `batch_size: auto` by a number.

    On an NVIDIA GPU, training steps with ever larger batches are run until the memory is full; on other devices the
    memory is estimated from one small step, as `--check` does. Each process of a distributed run does so for its own
    device; `ProcessAgreement` then takes the smallest number.

    Args:
        config: Resolved config with `batch_size: auto`.
        data: Prepared data module; takes over the number.
        model: Model with any weights. Modified in place; do not reuse.

    Returns:
        The config with a number, and a line for the user.

    Raises:
        UserError: Not even one window fits.
    """
    kind = device_kind(config.trainer.accelerator)
    devices = trainer_devices(config)
    if devices.gpu is not None:
        torch.cuda.set_device(devices.gpu)
    check_network(config, model, 2)  # batches of one are tried later: some networks can't normalise them
    limit = min(CANDIDATES[-1], max(1, data.windows_per_epoch // (MIN_BATCHES_PER_EPOCH * devices.world)))
    if kind == "cuda":
        fits, where = _fits_on_gpu(config, model), "GPU memory"
    else:
        fits, where = _fits_by_estimate(config, data, model, kind, devices.on_node), "memory"
        limit = min(limit, MAX_ON_CPU) if kind == "cpu" else limit
    found = largest_that_fits(fits, limit)
    if found == 0:
        raise UserError(
            f"batch_size: not even one window of {config.tile_size} px fits into {where} (choose a smaller tile_size "
            "or backbone, or segmentation_config.gradient_checkpointing=true)"
        )
    config = config.model_copy(deep=True)
    set_batch_size(config, found)
    data.replace_config(config)
    largest = max(size for size in CANDIDATES if size <= limit)
    reason = "the largest size that is tried for this run" if found == largest else f"more doesn't fit into {where}"
    return config, f"batch_size auto: {found} ({reason})"


def set_batch_size(config: Config, size: int) -> None:
    """Set the batch size of a config wherever it stands, in place."""
    for section in (config, config.segmentation_config, config.data_module):
        section.batch_size = size


def largest_that_fits(fits: Callable[[int], bool], limit: int) -> int:
    """Return the largest candidate up to `limit` before the first that doesn't fit; 0 where 1 doesn't fit."""
    found = 0
    for size in [size for size in CANDIDATES if size <= limit]:
        if not fits(size):
            break
        found = size
    return found


def _fits_by_estimate(
    config: Config, data: DataModule, model: SegmentationModel, kind: str, processes: int
) -> Callable[[int], bool]:
    step = probe_step(config, data, model)
    # The processes of a machine share its memory.
    own = _CPU_SHARE * free_memory() / processes
    available = _GPU_SHARE * torch.mps.recommended_max_memory() if kind == "mps" else own
    return lambda size: estimate_memory(config, model, step, size) <= available


def _fits_on_gpu(config: Config, model: SegmentationModel) -> Callable[[int], bool]:
    available = _GPU_SHARE * torch.cuda.mem_get_info()[0]
    loop = ManualLoop(config, model)
    pixels = torch.randint(0, 256, (1, config.num_bands, config.tile_size, config.tile_size), dtype=torch.uint8)
    label = torch.randint(0, config.labels, (1, config.tile_size, config.tile_size), dtype=torch.uint8)

    def fits(size: int) -> bool:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        try:
            loop.backward({"image": pixels.expand(size, -1, -1, -1), "label": label.expand(size, -1, -1)})
            loop.step()
        except torch.OutOfMemoryError:
            return False
        except ValueError as error:
            # A network that pools to one pixel can't normalise a batch of one; larger batches are tried next.
            if size > 1 or "more than 1 value per channel" not in str(error):
                raise
        finally:
            loop.zero_grad()
        return torch.cuda.max_memory_reserved() <= available

    return fits
