"""CPU seconds of `python -m train` up to its first batch, and of `--check` of a bad data set.

    uv run python -m benchmarks.start

The lower limit is a process that imports the libraries that training needs and makes an optimiser, which imports
PyTorch's compiler.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

from benchmarks.processes import Usage, in_turns

BARE = """
import albumentations, lightning, rasterio, segmentation_models_pytorch, timm, torch
torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))])
"""

FIRST_BATCH = """
import os, sys
import train.__main__ as command
load = command._import_slow_libraries
def loaded():
    load()
    from train.segmentation_model import SegmentationModel
    SegmentationModel.training_step = lambda *_: sys.stdout.flush() or os._exit(0)
command._import_slow_libraries = loaded
command.main(sys.argv[1:])
"""

CONFIG = """
num_bands: 3
num_classes: 1
tile_size: 64
batch_size: 2
max_epoch: 1
segmentation_config: {architecture: Unet, backbone: mobilenet_v2, opts: {encoder_weights: null}}
enable_logging: false
data_module: {data_dir: "demo://kelp", num_workers: 0}
"""


def measure(folder: Path, rounds: int) -> dict[str, Usage]:
    """Measure the first batch, `--check` of data without a label, and the bare imports."""
    config = folder / "config.yml"
    config.write_text(CONFIG)
    data = folder / "data"
    for split in ("train", "val", "test"):
        for part in ("x", "y"):
            (data / split / part).mkdir(parents=True)
        for number in range(10):
            cv2.imwrite(str(data / split / "x" / f"{number}.tif"), np.full((64, 64, 3), 9, np.uint8))
            if number:
                cv2.imwrite(str(data / split / "y" / f"{number}.tif"), np.zeros((64, 64), np.uint8))
    start = [sys.executable, "-c", FIRST_BATCH, str(config), f"logging.save_dir={folder / 'runs'}"]
    check = [sys.executable, "-m", "train", str(config), f"data_module.data_dir={data}", "--check"]
    commands = {
        "bare imports": [sys.executable, "-c", BARE],
        "python -m train, first batch": start,
        "--check of a bad data set": check,
    }
    return in_turns(commands, rounds, {"--check of a bad data set": 2})


def main() -> None:
    """Measure and print the CPU seconds."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=3)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as name:
        found = measure(Path(name), options.rounds)
    for title, usage in found.items():
        ratio = usage.cpu / found["bare imports"].cpu
        print(f"  {title:<32}{usage.cpu:7.2f} CPU s {ratio:6.2f}x {usage.wall:7.2f} s")


if __name__ == "__main__":
    main()
