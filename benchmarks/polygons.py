"""Time and memory of the polygons of a large map, against `gdal_polygonize`, each in a process of its own.

    uv run python -m benchmarks.polygons [--sides 10000 30000] [--gdal "gdal_polygonize.py"]

The map has two classes of patches of all sizes, from a few pixels to a hundred metres, as beds of kelp on a drone
mosaic of 5 cm have them. Both ways write a GeoPackage. `polygons.py` also measures areas and lengths on the ground.
Where GDAL's command isn't installed, `rasterio.features.shapes`, which is the same algorithm, stands in for it and
needs the whole map in memory.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import rasterio
from rasterio import Affine
from rasterio.windows import Window

PIXEL = 0.05
SHAPES = """
import sys
import numpy as np, pyogrio, rasterio, shapely
from rasterio.features import shapes

source, target = sys.argv[1:]
with rasterio.open(source) as src:
    values, crs, transform = src.read(1), src.crs.to_string(), src.transform
found = [(shapely.geometry.shape(shape), int(value)) for shape, value in shapes(values, values > 0, 4, transform)]
pyogrio.raw.write(target, geometry=shapely.to_wkb([shape for shape, _ in found]), geometry_type="Polygon", crs=crs,
                  field_data=[np.array([value for _, value in found])], fields=["class"])
"""


def make(path: Path, side: int) -> None:
    """Write a map of two classes: patches from sums of smooth noise of several scales, 1,000 rows at a time."""
    rng = np.random.default_rng(0)
    scales = [
        (step, rng.standard_normal((side // step + 3, side // step + 3)).astype(np.float32))
        for step in (12, 60, 400, 2400)
    ]
    kinds = rng.standard_normal((side // 900 + 3, side // 900 + 3)).astype(np.float32)
    profile = {"driver": "GTiff", "width": side, "height": side, "count": 1, "dtype": "uint8", "crs": "EPSG:32609"}
    tiles = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "zlevel": 1}
    transform = Affine(PIXEL, 0, 500_000, 0, -PIXEL, 5_700_000)
    with rasterio.open(path, "w", transform=transform, **profile, **tiles) as dst:
        for row in range(0, side, 512):
            rows = min(512, side - row)
            total = sum(
                weight * smooth(noise, step, row, rows, side)
                for weight, (step, noise) in zip((0.35, 0.5, 0.8, 1.0), scales, strict=True)
            )
            second = smooth(kinds, 900, row, rows, side) > 0.4
            dst.write(np.where(total > 1.1, 1 + second, 0).astype(np.uint8), 1, window=Window(0, row, side, rows))


def smooth(noise: np.ndarray, step: int, row: int, rows: int, width: int) -> np.ndarray:
    """Return rows of noise, enlarged `step` times by cubic interpolation."""
    x = (np.arange(width, dtype=np.float32) / step + 1)[None].repeat(rows, 0)
    y = ((np.arange(row, row + rows, dtype=np.float32)) / step + 1)[:, None].repeat(width, 1)
    first = max(0, row // step - 1)
    last = (row + rows) // step + 4
    return np.concatenate(
        [
            cv2.remap(
                noise[first:last],
                np.ascontiguousarray(x[:, at : at + 16384]),
                np.ascontiguousarray(y[:, at : at + 16384] - first),
                cv2.INTER_CUBIC,
                borderMode=cv2.BORDER_REPLICATE,
            )
            for at in range(0, width, 16384)
        ],
        axis=1,
    )


def measure(command: list[str]) -> tuple[float, float, float] | None:
    """Run a command; return its seconds, its CPU seconds and its peak memory in MiB; None if it fails."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        print(f"{command[0]}: failed: {said.strip().splitlines()[-1] if said.strip() else status}")
        return None
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    """Run both ways, and print a table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--sides", type=int, nargs="+", default=[10_000, 30_000], help="sides of the maps, pixels")
    arguments.add_argument("--gdal", default="gdal_polygonize.py", help="GDAL's command")
    arguments.add_argument("--options", default="", help="options of polygons.py, such as '--simplify 1'")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for side in options.sides:
            path = Path(folder) / f"map{side}.tif"
            make(path, side)
            ours, theirs = Path(folder) / "ours.gpkg", Path(folder) / "theirs.gpkg"
            commands = {
                "polygons.py": [
                    *(sys.executable, "-m", "inference.polygons", str(path), str(ours), "--nodata", "none"),
                    *options.options.split(),
                ],
            }
            if shutil.which(options.gdal):
                # A mask of zeros is what GDAL skips: background is its nodata value.
                masked = Path(folder) / f"masked{side}.vrt"
                subprocess.run(
                    ["gdal_translate", "-q", "-of", "VRT", "-a_nodata", "0", str(path), str(masked)], check=True
                )
                commands[options.gdal] = [options.gdal, "-q", str(masked), str(theirs), "-f", "GPKG"]
            commands["rasterio.features.shapes"] = [sys.executable, "-c", SHAPES, str(path), str(theirs)]
            print(f"{side} x {side} px", flush=True)
            for name, command in commands.items():
                theirs.unlink(missing_ok=True)
                found = measure(command)
                if found is not None:
                    seconds, cpu, memory = found
                    print(f"  {name:<26} {seconds:8.1f} s {cpu:8.1f} CPU s {memory:8.0f} MiB", flush=True)
            path.unlink()
            ours.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
