"""Prepared data sets whose folder lies in a bucket or on a web server, or of whose images some do."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval.test_new_model import main as evaluate
from inference.common.paths import Address
from tests.conftest import write_raster
from tests.inference.networks import card, write_onnx
from tests.object_store import Store, serve
from tests.train.data.prepared_set import edit, make_prepared
from tests.train.data.remote_sets import prepare_from, read_all, same, use
from tests.train.preparation.surveys import ground, write_polygons
from train.__main__ import main as train
from train.configs.config import Config
from train.data.labelled_images import LabelledImages
from train.data.prepared import PreparedSet
from train.data.read_prepared import read_prepared
from train.datamodule import DataModule
from train.prepare import main as prepare

PREPARE = """\
output_dir: out
tile_size: 32
sources:
  - {image: "mosaics/{name}.tif", labels: kelp.gpkg, site: cove}
classes: {column: label, map: {kelp: 1}}
split: {block_size: 80 px, guard: 8 px, shares: {train: 0.6, val: 0.2, test: 0.2}}
"""
MOSAICS = (0.0, 100.0)
"""Metres that the mosaics lie east of the origin."""


@pytest.fixture(scope="module")
def buckets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of buckets; `data` holds mosaics/ and out/, their prepared set, which names them relative to itself."""
    folder = tmp_path_factory.mktemp("buckets") / "data"
    for number, east in enumerate(MOSAICS):
        pixels = np.random.default_rng(number).integers(1, 255, (3, 180, 200)).astype(np.uint8)
        place = folder / "mosaics" / f"m{number}.tif"
        write_raster(place, pixels, origin=(5e5 + east, 5.8e6), tiled=True, blockxsize=64, blockysize=64)
    write_polygons(folder / "kelp.gpkg", [ground(20, 20, 120, 150), ground(90, 20, 70, 150, (100.0, 0.0))])
    (folder / "prepare.yml").write_text(PREPARE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert prepare(["prepare.yml"]) == 0
    names = ("dataset.gpkg", "statistics.json", "labels/m0.tif", "labels/m1.tif")
    (folder / "out" / "files.txt").write_text("\n".join(names))
    return folder.parent


def config(data_dir: object) -> Config:
    data = {"data_dir": str(data_dir), "num_workers": 0, "augmentation": "none", "mean": "auto", "std": "auto"}
    return Config.model_validate({"tile_size": 32, "batch_size": 8, "data_module": data | {"max_pixel_value": 255}})


def batches(data_dir: object) -> list[Any]:
    return read_all(DataModule(config(data_dir)), "train", "val", "test")


def contents(prepared: PreparedSet) -> tuple[object, ...]:
    return prepared.settings, prepared.sources, prepared.blocks


def problems(data_dir: object) -> str:
    return "\n".join(LabelledImages(config(data_dir)).find())


def test_a_set_in_a_bucket_is_that_of_the_disk(store: Store, buckets: Path) -> None:
    local = buckets / "data" / "out"
    expected = batches(local)
    assert len(expected) > 3
    for address in ("s3://data/out", f"http://{store.place}/data/out"):
        assert contents(read_prepared(Address(address))) == contents(read_prepared(local))
        store.clear()
        assert same(batches(address), expected), address
        found = store.requests()
        pixels = [line for line in found if "/mosaics/m" in line and " GET " in line and not line.startswith("404")]
        assert pixels
        assert all("bytes=" in line for line in pixels), "windows are read, not files"
        assert ("statistics.json" in "\n".join(found)) == address.startswith("http")


def test_requests_of_a_set_in_a_bucket(store: Store, buckets: Path) -> None:
    """Listing and tables, then one request to open each file."""
    shutil.copytree(buckets / "data", buckets / "counted")
    store.clear()
    assert not problems("s3://counted/out")
    found = store.requests()
    assert sum("prefix=" in line for line in found) <= 6, found
    assert sum("dataset.gpkg" in line for line in found) <= 12, found
    for name in ("mosaics/m0.tif", "mosaics/m1.tif", "out/labels/m0.tif", "out/labels/m1.tif"):
        assert sum(f"/{name} " in line for line in found) == 1, found


def test_commands_on_a_set_in_a_bucket(
    store: Store,
    buckets: Path,
    tmp_path: Path,
    write_config: Callable[..., Path],
    capfd: pytest.CaptureFixture[str],
) -> None:
    path = write_config(
        tile_size=32, max_epoch=1, batch_size=4, data_module={"data_dir": "s3://data/out", "num_workers": 0}
    )
    assert train([str(path), "--check"]) == 0, capfd.readouterr().err
    shown = capfd.readouterr().out
    assert "data s3://data/out" in shown
    assert "blocks" in shown
    assert train([str(path)]) == 0, capfd.readouterr().err
    assert len(list(path.parent.glob("runs/p/*/summary.json"))) == 1
    model = write_onnx(tmp_path / "m_kelp_dice=0.9.onnx", card(tile_size=32, ignore_index=255))
    scores = []
    for name, data in (("here", buckets / "data" / "out"), ("there", "s3://data/out")):
        assert evaluate([str(model), "--data", str(data), "--out", str(tmp_path / name)]) == 0, capfd.readouterr().err
        scores.append(json.loads((tmp_path / name / "scores.json").read_text())["scores"])
    assert scores[0] == scores[1]


def test_a_server_that_fails_at_random(buckets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(buckets / "data", buckets / "flaky")  # what GDAL remembers of another server isn't used
    with serve(buckets, failures=0.1, seed=43) as running:
        use(running, monkeypatch)
        assert same(batches("s3://flaky/out"), batches(buckets / "data" / "out"))
        assert running.failed() > 3


def test_images_that_were_uploaded_later(store: Store, buckets: Path, tmp_path: Path) -> None:
    """Size and content were recorded on the disk; an address tells neither."""
    folder = make_prepared(tmp_path)
    expected = batches(folder)
    shutil.move(tmp_path / "mosaics", buckets / "uploaded")
    edit(folder, "UPDATE sources SET image = 's3://uploaded/' || name || '.tif'")
    assert same(batches(folder), expected)
    edit(folder, "UPDATE sources SET height = 160")
    assert "s3://uploaded/m0.tif: has changed since it was prepared: it was 210x160 pixels, is" in problems(folder)


def test_images_that_were_downloaded_later(store: Store, buckets: Path, tmp_path: Path) -> None:
    folder = make_prepared(tmp_path)
    expected = batches(folder)
    shutil.copytree(tmp_path / "mosaics", buckets / "downloaded")
    prepare_from("downloaded", folder, named=False)
    assert same(batches(folder), expected)


def test_what_cannot_be_used_is_a_line(store: Store, buckets: Path, tmp_path: Path) -> None:
    broken = buckets / "broken" / "out"
    shutil.copytree(buckets / "data" / "out", broken)
    assert problems("s3://broken/out").count("\n") == 1
    assert "s3://broken/mosaics/m0.tif: can't be read as an image" in problems("s3://broken/out")
    assert "put it back, or run python -m train.prepare again" in problems("s3://broken/out")
    shutil.copytree(buckets / "data" / "out", buckets / "top")
    line = problems("s3://top")
    assert "s3://top/dataset.gpkg: sources: ../mosaics/m0.tif lies outside s3://top (upload the images" in line
    (buckets / "bad").mkdir()
    (buckets / "bad" / "dataset.gpkg").write_bytes(b"SQLite format 3\0" + bytes(4000))
    line = problems("s3://bad")
    assert "s3://bad/dataset.gpkg: can't be read as a vector file: " in line
    assert "\n" not in line
