"""Tiny real GeoTIFFs and configs that every test may build on."""

import atexit
import os
import shutil
import signal
import sys
import tempfile

# Two cores, and several tests start processes of their own: threads would only get in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# No test writes to the home of who runs it.
os.environ.setdefault("HAKAI_MODEL_CACHE", "off")

# A shell starts background jobs with Ctrl-C ignored, and processes pass that on: tests of Ctrl-C would wait in vain.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Where Python may not keep byte code beside the sources, each process that a test starts would compile PyTorch and
# Lightning anew, which takes more than twice as long as importing them. It is kept elsewhere until the tests end.
if sys.dont_write_bytecode and not sys.pycache_prefix and os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):
    sys.pycache_prefix = os.environ["PYTHONPYCACHEPREFIX"] = tempfile.mkdtemp(prefix="byte-code-")
    sys.dont_write_bytecode = False
    atexit.register(shutil.rmtree, sys.pycache_prefix, ignore_errors=True)

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import yaml
from rasterio.transform import from_origin

from inference.common.cpu import cores

SHARED = Path(__file__).resolve().parents[2] / "shared"
MOST_WORKERS = 8


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return the number of workers of ``-n auto``: none for a single file, else one for each core, up to eight.

    A worker imports PyTorch anew (seconds, half a GB of memory), which costs a small file more than its tests take;
    the longest files set the time of the suite, so that more than eight workers hardly help.
    """
    files = {argument.split("::")[0] for argument in config.args}
    if len(files) == 1 and Path(files.pop()).is_file():
        return 0
    return min(cores(), MOST_WORKERS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests on the real data run where it lies beside the checkout."""
    if not SHARED.is_dir():
        for item in items:
            if "shared" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs the real data in ../shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data beside the checkout."""
    return SHARED


def write_raster(path: Path, pixels: np.ndarray, *, origin: tuple[float, float] = (5e5, 5.8e6), **profile: Any) -> Path:
    """Writes (bands, H, W) or (H, W) pixels as a GeoTIFF with 0.1 m pixels in UTM 9N, and returns its path."""
    pixels = pixels if pixels.ndim == 3 else pixels[None]
    path.parent.mkdir(parents=True, exist_ok=True)
    defaults = {
        "driver": "GTiff",
        "count": len(pixels),
        "height": pixels.shape[1],
        "width": pixels.shape[2],
        "dtype": pixels.dtype,
        "crs": "EPSG:32609",
        "transform": from_origin(*origin, 0.1, 0.1),
    }
    with rasterio.open(path, "w", **(defaults | profile)) as file:
        file.write(pixels)
    return path


def scene(rng: np.random.Generator, height: int, width: int, bands: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """A dark (bands, H, W) uint8 image with a bright disc, and the disc's (H, W) label."""
    rows, cols = np.mgrid[:height, :width]
    r, c = rng.integers(0, height), rng.integers(0, width)
    label = ((rows - r) ** 2 + (cols - c) ** 2 < (min(height, width) / 2.5) ** 2).astype(np.uint8)
    image = rng.integers(20, 90, (bands, height, width)) + label * 110
    return image.astype(np.uint8), label


def write_dataset(
    folder: Path,
    sizes: Mapping[str, Sequence[tuple[int, int]]] | None = None,
    bands: int = 3,
    change: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]] | None = None,
    **profile: Any,
) -> Path:
    """Writes train, val and test splits of scenes of these (height, width)."""
    sizes = sizes or {"train": [(64, 64)] * 4 + [(90, 75)], "val": [(64, 64), (50, 70)], "test": [(70, 64)]}
    rng = np.random.default_rng(7)
    place = 0
    for split, shapes in sizes.items():
        for number, (height, width) in enumerate(shapes):
            image, label = scene(rng, height, width, bands)
            if change is not None:
                image, label = change(image, label)
            origin = (5e5 + 100 * place, 5.8e6)  # side by side, so that no two overlap
            place += 1
            write_raster(folder / split / "x" / f"s{number}.tif", image, origin=origin, **profile)
            write_raster(folder / split / "y" / f"s{number}_label.tif", label, origin=origin)
    return folder


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small RGB scenes in the project's layout."""
    return write_dataset(tmp_path_factory.mktemp("data"))


def tiny_config(data: Path, runs: Path, **sections: Any) -> dict[str, Any]:
    """Return a config of the smallest network, trained for one epoch; keyword arguments add to its sections.

    Args:
        data: Folder of the data set.
        runs: Folder for the runs.
        **sections: Sections and top-level keys.
    """
    config: dict[str, Any] = {
        "tile_size": 64,
        "batch_size": 2,
        "max_epoch": 1,
        "segmentation_config": {
            "architecture": "Unet",
            "backbone": "tu-mobilenetv3_small_050",
            "opts": {"encoder_weights": None, "encoder_depth": 3, "decoder_channels": [16, 8, 8]},
        },
        "data_module": {"data_dir": str(data), "num_workers": 0},
        "trainer": {"accelerator": "cpu"},
        "logging": {"save_dir": str(runs), "project": "p", "name": "n"},
    }
    for section, values in sections.items():
        if isinstance(values, dict) and section in config:
            config[section] = config[section] | values
        else:
            config[section] = values
    return config


@pytest.fixture
def write_config(tmp_path: Path, dataset: Path) -> Callable[..., Path]:
    """Writes a config of the smallest network on the small data set; keyword arguments add to its sections."""

    def write(name: str = "tiny.yml", **sections: Any) -> Path:
        network = {"lr": 5e-3} | sections.pop("segmentation_config", {})
        config = tiny_config(dataset, tmp_path / "runs", **{"max_epoch": 2, "segmentation_config": network} | sections)
        path = tmp_path / name
        path.write_text(yaml.safe_dump(config))
        return path

    return write
