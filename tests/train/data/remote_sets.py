"""Data sets behind a server on this machine, and the comparison of batches that are read from it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from inference.common import remote
from inference.common.raster import read_header
from tests.object_store import Store
from tests.train.data.prepared_set import edit
from train.data import remote_folder
from train.data.image_digest import image_digest
from train.datamodule import DataModule


def use(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have GDAL read s3://BUCKET/... from a server, and repeat requests at once."""
    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(remote, "_DELAY", 0.01)
    monkeypatch.setattr(remote_folder, "_PAUSE", 0.01)


def prepare_from(bucket: str, folder: Path, *, named: bool) -> None:
    """Change a prepared set of the images m0 and m1 as if it had been prepared from their copies in a bucket.

    Args:
        bucket: Bucket that holds the copies.
        folder: Folder of the set.
        named: True for a set that names the copies, too.
    """
    for name in ("m0", "m1"):
        address = f"s3://{bucket}/{name}.tif"
        digest = image_digest(address, read_header(address))
        image = f"image = '{address}', " if named else ""
        edit(folder, f"UPDATE sources SET {image}bytes = NULL, sha256 = '{digest}' WHERE name = '{name}'")


def read_all(data: DataModule, *splits: str) -> list[Any]:
    """Return the batches of splits of a data set, such as "train"."""
    data.prepare()
    return [batch for split in splits for batch in getattr(data, f"{split}_dataloader")()]


def same(one: Sequence[Any], other: Sequence[Any]) -> bool:
    """Return True if there are several batches, and the pixels, labels and places of both are the same."""
    return len(one) == len(other) > 1 and all(
        torch.equal(a[key], b[key]) for a, b in zip(one, other, strict=True) for key in ("image", "label", "at")
    )
