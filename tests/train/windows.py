"""Data modules of small windows, and the order of windows in their batches."""

from pathlib import Path
from typing import Any

import torch

from train.configs.config import Config
from train.datamodule import DataModule


def module(data: Path | str, prepare: bool = True, **values: Any) -> DataModule:
    """A data module of 16 px windows, with these keys at the top level or in `data_module`."""
    top = {key: values.pop(key) for key in list(values) if key in Config.model_fields}
    section = {"data_dir": str(data), "num_workers": 0} | values
    made = DataModule(Config.model_validate({"tile_size": 16, "batch_size": 4} | top | {"data_module": section}))
    if prepare:
        made.prepare()
    return made


ODD = [(1, 1), (1, 37), (41, 1), (16, 16), (17, 31), (15, 50), (37, 53)]


def keys(batches: Any) -> list[tuple[int, ...]]:
    """(scene, row, column) of each window, in order."""
    return [tuple(at) for batch in batches for at in batch["at"].tolist()]


def same(one: Any, other: Any) -> bool:
    pairs = list(zip(list(one), list(other), strict=True))
    return all(torch.equal(a[key], b[key]) for a, b in pairs for key in ("image", "label", "at"))


def epochs(loader: Any, count: int = 2) -> list[list[dict[str, torch.Tensor]]]:
    found = []
    for epoch in range(count):
        loader.batch_sampler.set_epoch(epoch)
        found.append([{key: value.clone() for key, value in batch.items()} for batch in loader])
    return found
