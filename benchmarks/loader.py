"""Cost of a training window in the data module, and windows per second against a plain PyTorch dataset and torchgeo.

    uv run --with torchgeo python -m benchmarks.loader

Everything runs in one process. `--augmentations` stops after the first part.

1. Augmentations: CPU milliseconds of a 1024 px window with each strength, read from an image that is decoded
   already, augmented and put into a batch.
2. Chips: 1024 px images with the drone augmentations. Against a plain dataset: PIL reads whole files, the same
   augmentations, normalisation to float32 before batching.
3. Mosaic: 1024 px windows of an 8192 px deflate mosaic, image and label, no augmentation: anywhere in it, and inside
   blocks of it that lie a tile apart, as in a prepared data set. Against torchgeo's RasterDataset and RandomGeoSampler;
   not measured if torchgeo is not installed.

The readers of a part take turns, so that a change in the machine's speed affects both; the median of the rounds is
used.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rasterio
import torch
from rasterio.transform import from_origin
from torch.utils.data import DataLoader, Dataset

from train.configs.config import Config
from train.data.demo import demo_data_dir
from train.data.normalization import IMAGENET_MEAN, IMAGENET_STD
from train.data.prepared import Block
from train.datamodule import DataModule
from train.transforms import Augmentation, Strength

TILE = 1024
BLOCK = 2048
BATCH = 4
STRENGTHS: tuple[Strength, ...] = ("none", "light", "drone", "strong")


def texture(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a (3, side, side) uint8 image and its label, made of demo tiles, which compress like real images."""
    folder = demo_data_dir("demo://kelp") / "train"
    tiles = []
    for path in sorted((folder / "x").iterdir()):
        with rasterio.open(path) as image, rasterio.open(folder / "y" / f"{path.stem}_label.tif") as label:
            if min(image.shape) >= 256:
                tiles.append((image.read()[:, :256, :256], label.read(1)[:256, :256]))
    rng = np.random.default_rng(0)
    image, label = np.empty((3, side, side), np.uint8), np.empty((side, side), np.uint8)
    for row in range(0, side, 256):
        for col in range(0, side, 256):
            x, y = tiles[rng.integers(len(tiles))]
            turns = int(rng.integers(4))
            image[:, row : row + 256, col : col + 256] = np.rot90(x, turns, (1, 2))
            label[row : row + 256, col : col + 256] = np.rot90(y, turns)
    return image, label


def write(path: Path, pixels: np.ndarray, origin: float, **profile: Any) -> None:
    """Write (bands, H, W) pixels as a deflate GeoTIFF."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = {"count": len(pixels), "height": pixels.shape[1], "width": pixels.shape[2]}
    place = {"crs": "EPSG:32609", "transform": from_origin(origin, 5.8e6, 0.1, 0.1)}
    with rasterio.open(
        path, "w", driver="GTiff", dtype=pixels.dtype, compress="deflate", **shape, **place, **profile
    ) as file:
        file.write(pixels)


def make_data(folder: Path, chips: int, side: int) -> None:
    """Write chips (in strips, the usual layout of chip writers) and a tiled mosaic as data sets of the project."""
    image, label = texture(side)
    per_row = side // TILE
    corner = image[:, :TILE, :TILE]
    deep = np.concatenate([corner, corner, corner[:2]]).astype(np.uint16) * 200
    for split in ("train", "val"):
        for name, bands in (("three", corner), ("eight", deep)):
            write(folder / name / split / "x" / "a.tif", bands, 5e5)
            write(folder / name / split / "y" / "a_label.tif", label[None, :TILE, :TILE], 5e5)
    for number in range(chips):
        row, col = divmod(number % per_row**2, per_row)
        part = np.s_[row * TILE : (row + 1) * TILE, col * TILE : (col + 1) * TILE]
        for split in ("train", "val"):
            if split == "val" and number:
                continue
            write(folder / "chips" / split / "x" / f"c{number:03d}.tif", image[:, *part], 5e5 + 200 * number)
            write(folder / "chips" / split / "y" / f"c{number:03d}_label.tif", label[None, *part], 5e5 + 200 * number)
    tiled = {"tiled": True, "blockxsize": 512, "blockysize": 512}
    for split in ("train", "val"):
        pixels = (image, label) if split == "train" else (image[:, :TILE, :TILE], label[:TILE, :TILE])
        write(folder / "mosaic" / split / "x" / "m.tif", pixels[0], 5e5, photometric="RGB", **tiled)
        write(folder / "mosaic" / split / "y" / "m_label.tif", pixels[1][None], 5e5, **tiled)


def data_module(
    folder: Path, augmentation: str, windows: int, block: int | None = None, bands: int = 3
) -> Callable[[], int]:
    """Return a function that reads an epoch with the data module in this process and returns the number of windows.

    Args:
        folder: Data set.
        augmentation: Strength of the augmentation.
        windows: Windows of an epoch.
        block: Side of blocks, a tile apart, that take the place of the images; None for whole images.
        bands: Number of bands.
    """
    config = Config.model_validate(
        {
            "tile_size": TILE,
            "batch_size": BATCH,
            "num_bands": bands,
            "data_module": {
                "data_dir": str(folder),
                "num_workers": 0,
                "augmentation": augmentation,
                "samples_per_epoch": windows,
            },
        }
    )
    data = DataModule(config)
    data.prepare()
    if block is not None:
        data.scenes["train"] = [
            replace(scene, block=Block(f"r{row}_c{col}", scene.name, row, col, block, block, "train"))
            for scene in data.scenes["train"]
            for row in range(0, scene.height - block + 1, block + TILE)
            for col in range(0, scene.width - block + 1, block + TILE)
        ]
    loader = data.train_dataloader()
    return lambda: sum(len(batch["image"]) for batch in loader)


class PlainChips(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Plain dataset: whole files with PIL, augmentation, normalisation to float32."""

    def __init__(self, folder: Path) -> None:
        self.images = sorted((folder / "train" / "x").iterdir())
        self.augment = Augmentation("drone", 3, "uint8", 2, 0)
        self.mean, self.std = np.array(IMAGENET_MEAN, np.float32), np.array(IMAGENET_STD, np.float32)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        from PIL import Image

        path = self.images[index]
        image = np.array(Image.open(path))
        label = np.array(Image.open(path.parents[1] / "y" / f"{path.stem}_label.tif"))
        image, label = self.augment(image, label, None, index)
        image = (image.astype(np.float32) / 255 - self.mean) / self.std
        return torch.from_numpy(image.transpose(2, 0, 1).copy()), torch.from_numpy(label).long()


def plain_dataset(folder: Path) -> Callable[[], int]:
    """Return a function that reads an epoch of the plain dataset and returns the number of windows."""
    loader = DataLoader(PlainChips(folder), batch_size=BATCH, shuffle=True)
    return lambda: sum(len(images) for images, _ in loader)


def torchgeo(folder: Path, windows: int) -> Callable[[], int] | None:
    """Return a function that reads random windows with torchgeo, image and mask; None if it is not installed."""
    try:
        from torchgeo.datasets import RasterDataset, stack_samples
        from torchgeo.samplers import RandomGeoSampler, Units
    except ImportError:
        return None

    class Images(RasterDataset):  # type: ignore[misc]
        filename_glob = "m.tif"

    class Masks(RasterDataset):  # type: ignore[misc]
        filename_glob = "m_label.tif"
        is_image = False

    dataset = Images(str(folder / "train" / "x")) & Masks(str(folder / "train" / "y"))
    sampler = RandomGeoSampler(dataset, size=TILE, length=windows, units=Units.PIXELS)
    loader = DataLoader(dataset, batch_size=BATCH, sampler=sampler, collate_fn=stack_samples)
    return lambda: sum(len(batch["image"]) for batch in loader)


def measure(
    readers: dict[str, Callable[[], int]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Return windows per second of each reader: the median of rounds in turn, after one round to warm up."""
    speeds: dict[str, list[float]] = {name: [] for name in readers}
    for number in range(rounds + 1):
        for name, epoch in readers.items():
            began = clock()
            count = epoch()
            if number:
                speeds[name].append(count / (clock() - began))
    return {name: statistics.median(values) for name, values in speeds.items()}


def augmentation_seconds(folder: Path, windows: int, rounds: int) -> dict[str, dict[Strength, float]]:
    """Return the CPU seconds of a window, by data set and strength; for data that `make_data` wrote."""
    found: dict[str, dict[Strength, float]] = {}
    for title, name, bands in (("3 bands, uint8", "three", 3), ("8 bands, uint16", "eight", 8)):
        readers: dict[str, Callable[[], int]] = {
            strength: data_module(folder / name, strength, windows, bands=bands) for strength in STRENGTHS
        }
        speeds = measure(readers, rounds, time.process_time)
        found[title] = {strength: 1 / speeds[strength] for strength in STRENGTHS}
    return found


def augmentations(folder: Path, windows: int, rounds: int) -> Iterator[str]:
    """Yield the lines of a table: CPU milliseconds of a window, for each data set and strength."""
    yield f"CPU ms of a {TILE} px window " + "".join(f"{strength:>9}" for strength in STRENGTHS)
    for title, seconds in augmentation_seconds(folder, windows, rounds).items():
        yield f"  {title:<24}" + "".join(f"{1000 * each:9.1f}" for each in seconds.values())


def report(title: str, speeds: dict[str, float]) -> Iterator[str]:
    """Yield a line for each reader, with the ratio of its speed to that of the last one."""
    *_, reference = speeds
    yield title
    for name, speed in speeds.items():
        yield f"  {name:<28}{speed:8.1f} windows/s  {speed / speeds[reference]:6.2f}x"


def main() -> None:
    """Measure and print all parts."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--chips", type=int, default=32)
    arguments.add_argument("--windows", type=int, default=32, help="windows of the mosaic per round")
    arguments.add_argument("--side", type=int, default=8192, help="side of the mosaic, pixels")
    arguments.add_argument("--augmentations", action="store_true", help="measure the cost of augmentations only")
    options = arguments.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_data(folder, options.chips, options.side)
        print("\n".join(augmentations(folder, options.windows, options.rounds)))
        if options.augmentations:
            return
        chips = {
            "data module": data_module(folder / "chips", "drone", options.chips),
            "PIL, whole files": plain_dataset(folder / "chips"),
        }
        print("\n".join(report("chips, 1024 px, drone augmentations", measure(chips, options.rounds))))
        mosaic: dict[str, Callable[[], int]] = {
            "data module, blocks": data_module(folder / "mosaic", "none", options.windows, BLOCK),
            "data module": data_module(folder / "mosaic", "none", options.windows),
        }
        torchgeo_reader = torchgeo(folder / "mosaic", options.windows)
        if torchgeo_reader is None:
            print(
                "torchgeo is not measured: not installed (uv run --with torchgeo python -m benchmarks.loader)",
                file=sys.stderr,
            )
        else:
            mosaic["torchgeo"] = torchgeo_reader
        title = f"windows of a {options.side} px mosaic, 1024 px, no augmentation"
        print("\n".join(report(title, measure(mosaic, options.rounds))))


if __name__ == "__main__":
    main()
