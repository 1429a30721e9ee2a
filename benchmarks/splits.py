"""How much a random split of neighbouring chips flatters: one mosaic, split by blocks with a guard and at random.

Both sets are prepared from the same mosaic and polygons, and a small U-Net is trained on each, with the same config and
the same number of steps. Of the second set the splits of the blocks are drawn at random, one chip beside the other, as
tools do that cut a mosaic into chips first.

    python -m benchmarks.splits --image mosaic.tif --labels polygons.gpkg --steps 600
"""

import argparse
import json
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import yaml

from train.__main__ import main as train
from train.data.prepared import DATASET
from train.prepare import main as prepare

TILE = 256
SHARES = (0.7, 0.15, 0.15)


def parser() -> argparse.ArgumentParser:
    """Build the parser of the arguments."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--image", required=True, help="mosaic")
    arguments.add_argument("--labels", required=True, help="polygons, all of one class")
    arguments.add_argument("--steps", type=int, default=600, help="optimiser steps of a training (default: 600)")
    arguments.add_argument("--seeds", type=int, default=1, help="draws of the splits (default: 1)")
    return arguments


def prepared(folder: Path, image: str, labels: str, name: str, seed: int, **split: object) -> Path:
    """Prepare a data set, and return its folder."""
    config = {
        "output_dir": str(folder / name),
        "tile_size": TILE,
        "sources": [{"image": image, "labels": labels}],
        "classes": {"name": "target"},
        "split": {"seed": seed, "shares": dict(zip(("train", "val", "test"), SHARES, strict=True)), **split},
    }
    path = folder / f"{name}.yml"
    path.write_text(yaml.safe_dump(config))
    if prepare([str(path)]):
        raise SystemExit(f"{path}: can't be prepared")
    return folder / name


def draw_at_random(folder: Path, seed: int) -> None:
    """Give each block of a data set a random split, as a user may do in QGIS."""
    rng = np.random.default_rng(seed)
    with closing(sqlite3.connect(folder / DATASET)) as database, database:
        for name in ("ST_IsEmpty", "ST_MinX", "ST_MaxX", "ST_MinY", "ST_MaxY"):  # of triggers that no split sets off
            database.create_function(name, 1, lambda _: 0)
        names = [name for (name,) in database.execute("SELECT block FROM blocks WHERE selected ORDER BY block")]
        ends = np.cumsum([round(share * len(names)) for share in SHARES[:2]])
        for split, chosen in zip(("train", "val", "test"), np.split(rng.permutation(names), ends), strict=True):
            database.executemany("UPDATE blocks SET split = ? WHERE block = ?", [(split, str(name)) for name in chosen])


def scores(folder: Path, data: Path, name: str, steps: int) -> dict[str, float]:
    """Train on a data set, and return IoU of the target on val and test."""
    config = {
        "segmentation_model_cls": "SMPSegmentationModel",
        "enable_logging": False,
        "num_bands": 3,
        "num_classes": 1,
        "tile_size": TILE,
        "batch_size": 8,
        "segmentation_config": {
            "architecture": "Unet",
            "backbone": "mobilenet_v2",
            "opts": {"encoder_weights": None},
            "lr": 0.002,
            "loss": {"name": "DiceLoss"},
        },
        "data_module": {"data_dir": str(data), "samples_per_epoch": 240, "augmentation": "light", "num_workers": 1},
        "trainer": {"max_epochs": max(1, steps // 30)},
        "logging": {"project": name, "save_dir": str(folder / "runs")},
    }
    path = folder / f"train-{name}.yml"
    path.write_text(yaml.safe_dump(config))
    if train([str(path)]):
        raise SystemExit(f"{path}: can't be trained")
    (run,) = (folder / "runs" / name).iterdir()
    summary = json.loads((run / "summary.json").read_text())
    return {split: float(summary[split]["iou"]) for split in ("val", "test")}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparison, and print a table."""
    options = parser().parse_args(argv)
    folder = Path(tempfile.mkdtemp())
    image, labels = str(Path(options.image).resolve()), str(Path(options.labels).resolve())
    rows: dict[str, list[dict[str, float]]] = {"blocks with a guard": [], "random chips": []}
    try:
        for seed in range(options.seeds):
            data = prepared(folder, image, labels, f"blocks{seed}", seed, block_size=f"{2 * TILE} px")
            rows["blocks with a guard"].append(scores(folder, data, f"blocks{seed}", options.steps))
            data = prepared(folder, image, labels, f"random{seed}", seed, block_size=f"{TILE} px", guard="0 px")
            draw_at_random(data, seed)
            rows["random chips"].append(scores(folder, data, f"random{seed}", options.steps))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print("| split | val IoU | test IoU |\n|---|---|---|")
    for name, found in rows.items():
        cells = [" / ".join(f"{each[split]:.3f}" for each in found) for split in ("val", "test")]
        print(f"| {name} | {cells[0]} | {cells[1]} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
