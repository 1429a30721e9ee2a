"""Time of `eval/test_new_model.py` against mapping the same images with `inference.py`.

    uv run python -m benchmarks.evaluation

Two images of 4096 px, val and test, with the network of almost no cost: the difference is scores and report.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import rasterio
from rasterio.transform import from_origin

from benchmarks.inference import COMMAND, write_first_band_network
from benchmarks.processes import Usage, in_turns

EVALUATION = Path(__file__).parents[1] / "eval" / "test_new_model.py"


def write_data(folder: Path, side: int) -> None:
    """Write a data set of one smooth image of a side in each split, with a label of about a tenth of it."""
    rng = np.random.default_rng(0)
    height = cv2.GaussianBlur(rng.standard_normal((side, side)).astype(np.float32), (0, 0), 12)
    height /= height.std()
    band = np.clip(128 + 40 * height + 10 * rng.standard_normal((side, side)), 1, 255).astype(np.uint8)
    files = {"x": np.stack([band, 255 - band, band]), "y": (height > 1.2).astype(np.uint8)[None]}
    profile = {"driver": "GTiff", "dtype": "uint8", "height": side, "width": side, "compress": "deflate"}
    profile |= {"tiled": True, "blockxsize": 512, "blockysize": 512}
    profile |= {"crs": "EPSG:32609", "transform": from_origin(5e5, 5.6e6, 0.1, 0.1)}
    for split in ("train", "val", "test"):
        for part, values in files.items():
            (folder / split / part).mkdir(parents=True)
            with rasterio.open(folder / split / part / f"{split}.tif", "w", count=len(values), **profile) as file:
                file.write(values)


def measure(folder: Path, side: int, rounds: int) -> dict[str, Usage]:
    """Measure an evaluation, and a batch that maps the same two images."""
    data, model = folder / "data", write_first_band_network(folder / "free.onnx")
    write_data(data, side)
    images = [str(data / split / "x" / f"{split}.tif") for split in ("val", "test")]
    maps = [*images, str(folder / "maps"), "--model", str(model), "--no-cog", "--overwrite"]
    out = ["--data", str(data), "--out", str(folder / "report")]
    return in_turns(
        {
            "inference.py, both images": [sys.executable, str(COMMAND), *maps],
            "test_new_model.py": [sys.executable, str(EVALUATION), str(model), *out],
        },
        rounds,
    )


def main() -> None:
    """Measure and print the times."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--side", type=int, default=4096)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as name:
        for title, usage in measure(Path(name), options.side, options.rounds).items():
            print(f"  {title:<32}{usage.cpu:7.2f} CPU s {usage.wall:7.2f} s {usage.peak:7.0f} MiB")


if __name__ == "__main__":
    main()
