"""Errors of hardware, data workers and disks during training, translated for the user."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from inference.common.errors import UserError
from train.configs.config import Config


@contextmanager
def translate_errors(config: Config) -> Iterator[None]:
    """Turn errors that the user can fix into `UserError`; let all others pass.

    Args:
        config: Resolved config; its values are quoted.

    Raises:
        UserError: The device's memory or the disk is full, a data worker failed, or a batch has a single window.
    """
    try:
        yield
    except Exception as error:
        message = _message(error, config)
        if message is None:
            raise
        raise UserError(message) from None


def _message(error: Exception, config: Config) -> str | None:
    """Return what to tell the user; None for an error without a translation."""
    size, batch = config.tile_size, config.batch
    if isinstance(error, torch.OutOfMemoryError):
        return (
            f"out of memory on the device with batch_size {batch} at tile_size {size}: try batch_size="
            f"{max(1, batch // 2)} trainer.accumulate_grad_batches={config.trainer.accumulate_grad_batches * 2}, "
            "or a smaller tile_size"
        )
    if isinstance(error, UserError) and "DataLoader worker" in str(error):
        return str(error).rpartition("UserError: ")[2].strip()
    if isinstance(error, RuntimeError) and "DataLoader worker" in str(error) and "killed" in str(error):
        return "a data loading worker was killed, most likely because memory ran out (try data_module.num_workers=1)"
    if isinstance(error, ValueError) and "Expected more than 1 value per channel" in str(error):
        return (
            f"batch_size: {batch} leaves a batch of one window, but the batch normalisation of "
            f"{config.segmentation_config.architecture} needs two or more (change batch_size or "
            "data_module.samples_per_epoch so that the last batch has at least two)"
        )
    if isinstance(error, OSError) and error.errno == 28:
        return f"the disk is full: {error.filename or config.logging.save_dir}"
    return None
