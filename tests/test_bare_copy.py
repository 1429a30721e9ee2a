"""A bare copy of `inference/`: what it runs with, and what it says of what is missing."""

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import numpy as np

from inference.batch.bucket.client import INSTALL as S3_INSTALL
from inference.common.vector import INSTALL
from tests.conftest import write_raster
from tests.inference.networks import card, write_onnx

ROOT = Path(__file__).parents[1]

BARE = """
import sys

class Only:
    def __init__(self, finders, allowed):
        self.finders, self.allowed = finders, allowed

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in self.allowed and not name.startswith("_sysconfigdata"):
            return None
        for finder in self.finders:
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                return spec

allowed = set(sys.argv[1].split(",")) | set(sys.stdlib_module_names) | {"inference"}
sys.meta_path[:] = [Only(list(sys.meta_path), allowed)]
import runpy
sys.argv = sys.argv[2:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print(sys.modules["inference"].__file__, file=sys.stderr)
"""


def importable(*distributions: str) -> set[str]:
    """Return the top-level modules of some distributions and of all that they require."""
    wanted, closed = list(distributions), set[str]()
    while wanted:
        name = re.sub(r"[-_.]+", "-", wanted.pop()).lower()
        if name in closed:
            continue
        closed.add(name)
        try:
            requirements = requires(name) or []
        except PackageNotFoundError:  # for another platform
            continue
        wanted += [m[0] for text in requirements if "extra ==" not in text and (m := re.match(r"[\w.-]+", text))]
    return {
        module
        for module, names in packages_distributions().items()
        if {re.sub(r"[-_.]+", "-", name).lower() for name in names} & closed
    }


def bare_copy(folder: Path, modules: set[str], *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command, by default one that maps a tiny raster, in a copy of `inference/` that can import some modules."""
    if not (folder / "inference").exists():
        ignored = shutil.ignore_patterns("weights", "__pycache__")
        shutil.copytree(ROOT / "inference", folder / "inference", ignore=ignored)
        pixels = np.random.default_rng(0).integers(0, 255, (3, 50, 60)).astype(np.uint8)
        write_raster(folder / "in.tif", pixels)
        write_onnx(folder / "m.onnx", card())
    command = command or ("inference.py", "../in.tif", "../out.tif", "--model", "../m.onnx")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, "-c", BARE, ",".join(modules), *command],
        cwd=folder / "inference",
        env=environment,
        capture_output=True,
        text=True,
    )


def test_a_bare_copy_of_inference_needs_five_packages(tmp_path: Path) -> None:
    modules = importable("numpy", "rasterio", "pydantic", "tqdm", "onnxruntime")
    assert not modules & {"torch", "train", "cv2", "yaml", "scipy", "pyproj"}
    done = bare_copy(tmp_path, modules)
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "inference") in done.stderr
    assert (tmp_path / "out.tif").is_file()


def test_a_bare_copy_maps_many(tmp_path: Path) -> None:
    modules = importable("numpy", "rasterio", "pydantic", "tqdm", "onnxruntime")
    done = bare_copy(tmp_path, modules, "inference.py", "../in.tif", "../no.tif", "../out", "--model", "../m.onnx")
    assert done.returncode == 2, done.stderr
    done = bare_copy(tmp_path, modules, "inference.py", "../in.tif", "s3://bucket/out", "--model", "../m.onnx")
    assert (done.returncode, done.stderr.splitlines()[0]) == (2, f"OUT_DIR: s3://bucket/out: {S3_INSTALL}")
    shutil.copy(tmp_path / "in.tif", tmp_path / "b.tif")
    done = bare_copy(tmp_path, modules, "inference.py", "../in.tif", "../b.tif", "../out", "--model", "../m.onnx")
    assert done.returncode == 0, done.stderr
    assert f"index.gpkg: not written: {INSTALL}" in done.stdout
    made = {"in.tif", "b.tif", "batch.jsonl", "summary.csv", "index.vrt"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == made


def test_a_bare_copy_says_what_polygons_need(tmp_path: Path) -> None:
    modules = importable("numpy", "rasterio", "pydantic", "tqdm", "onnxruntime")
    mapping = ("inference.py", "../in.tif", "../out.tif", "--model", "../m.onnx")
    for command in (
        (*mapping, "--polygons", "../out.gpkg"),
        (*mapping, "--qgis-style"),
        ("polygons.py", "../in.tif", "../out.gpkg"),
    ):
        done = bare_copy(tmp_path, modules, *command)
        assert done.returncode == 2, done.stderr
        said, _ = done.stderr.splitlines()
        assert said.startswith(INSTALL)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.tif", "inference", "m.onnx"]
    done = bare_copy(tmp_path, modules, "polygons.py", "--help")
    assert done.returncode == 0, done.stderr
    assert "--min-area M2" in done.stdout


def test_a_bare_copy_without_one_of_them_fails(tmp_path: Path) -> None:
    done = bare_copy(tmp_path, importable("numpy", "rasterio", "tqdm", "onnxruntime") - {"pydantic"})
    assert done.returncode == 1
    assert "No module named 'pydantic'" in done.stderr
