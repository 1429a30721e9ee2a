"""Memory of a preparation is bounded, whatever the size of the mosaic."""

import json
import multiprocessing
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from benchmarks.prepare import make
from tests.docs.pages import ROOT

LIMIT = 600  # MiB
# The peak of a new process counts from the memory of the one that starts it, so a small one stands between.
# pyogrio imports geopandas where it is installed, which takes 90 MiB; users don't have it, it serves the tests.
COMMAND = """
import runpy, sys
sys.modules |= dict.fromkeys(["geopandas", "pandas", "pyarrow"])
runpy.run_module("train.prepare", run_name="__main__")
"""
MEASURE = """
import json, resource, subprocess, sys
done = subprocess.run(sys.argv[1:], capture_output=True, text=True)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
print(json.dumps([done.returncode, done.stderr, peak]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the unit of the peak memory is Linux's")
def test_a_mosaic_of_60000_pixels_with_100000_polygons(tmp_path: Path) -> None:
    image, layer = tmp_path / "image.tif", tmp_path / "polygons.gpkg"
    maker = multiprocessing.get_context("spawn").Process(target=make, args=(image, layer, 60_000, 100_000))
    maker.start()
    maker.join()
    config = {
        "output_dir": str(tmp_path / "out"),
        "sources": [{"image": str(image), "labels": str(layer)}],
        "classes": {"column": "class", "map": {1: 1, 2: 2}, "names": ["background", "one", "two"]},
        "overlap": "ignore",
        "select": {"max_nodata": 1.0},
        "split": {"block_size": "8192 px"},
    }
    (tmp_path / "p.yml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-c", COMMAND, str(tmp_path / "p.yml"), "--check"]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *command], cwd=ROOT, capture_output=True, text=True, check=True
    )
    code, said, peak = json.loads(done.stdout)
    # The mosaic is empty: all that can be said of it is that no block has data.
    assert code in {0, 2}, said
    assert "Traceback" not in said
    assert 200 < peak < LIMIT
