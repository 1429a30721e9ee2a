"""A batch into a bucket: the files of a local batch, and what a second start does."""

import re
from pathlib import Path

import numpy as np
import pytest
import rasterio

from inference.batch.arguments import make_batch
from inference.common.raster import environment, open_raster
from inference.options import Options
from tests.conftest import write_raster
from tests.inference.batch.survey import contents, journal, pixels, refused, run, write_failing

from .stores import MODEL, OUT, make_world, put, states, store, to_bucket, written


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make_world(tmp_path, monkeypatch)


def write_sites(path: Path) -> None:
    geopandas = pytest.importorskip("geopandas")
    from shapely import box

    frame = geopandas.GeoDataFrame({"site": ["a"]}, geometry=[box(5e5, 5.8e6 - 3, 5e5 + 3, 5.8e6)], crs=32609)
    frame.to_file(path, layer="sites")


def test_files_are_those_of_a_local_batch(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_failing(world / "in", plain=0)
    write_sites(world / "sites.gpkg")
    options = ("--polygons", ".shp", "--probabilities", "_p.tif", "--sites", "sites.gpkg", "--table", ".csv")
    assert run("in", "local", *MODEL, *options) == 4
    local = capsys.readouterr().out
    with store(world, monkeypatch) as server:
        assert to_bucket(*options, "--work-dir", "elsewhere") == 4
        names = [re.split(r"[ ?]", line)[2] for line in server.requests() if " PUT " in line]
    said = capsys.readouterr().out
    made = contents(written(world))
    assert made == contents(world / "local")
    assert {"cove0/m0.shp", "cove0/m0.dbf", "cove0/m0.csv", "cove0/m0_p.tif", "sites.csv"} <= made.keys()
    assert {name for name in made if name.endswith("m1.csv")} == set(), "no site lies on it"
    sent = [name for name in names if "/m0" in name]
    assert sent[-1].endswith("cove0/m0.tif"), "the map is the last of its files"
    assert f"wrote: {OUT}/sites.csv" in said
    assert re.sub(r"took: .*", "", said).replace(OUT, "local") == re.sub(r"took: .*", "", local)
    assert list((world / "elsewhere").iterdir()) == list((world / "work").iterdir()) == []
    ours = [
        (line["state"], line["output"], line["files"], line["table"])
        for line in journal(written(world))
        if "files" in line
    ]
    theirs = [
        (line["state"], line["output"], line["files"], line["table"])
        for line in journal(world / "local")
        if "files" in line
    ]
    assert ours == theirs


def test_the_mosaic_is_readable_at_its_address(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with store(world, monkeypatch):
        assert to_bucket() == 0
        address = f"{OUT}/index.vrt"
        with environment(source=address), open_raster(address) as vrt:
            found = vrt.read(1)
    for at in range(4):
        with rasterio.open(written(world) / f"cove{at % 2}" / f"m{at}.tif") as file:
            np.testing.assert_array_equal(found[:, 40 * at : 40 * at + 40], file.read(1))


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_server_that_fails(world: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    assert run("in", "local", *MODEL, "--polygons", ".gpkg") == 0
    with store(world, monkeypatch, failures=0.1, seed=seed) as server:
        assert to_bucket("--polygons", ".gpkg") == 0
        assert server.failed() >= 1
    assert contents(written(world)) == contents(world / "local")
    assert [state for _, state in states(world)] == ["started", "done"] * 4


def test_a_second_start(world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with store(world, monkeypatch) as server:
        assert to_bucket() == 0
        before = contents(written(world)), states(world)
        server.clear()
        assert to_bucket() == 0
        assert "images: 4 done before" in capsys.readouterr().out
        sent = {line.split()[2].rpartition("/")[2] for line in server.requests() if " PUT " in line}
        assert sent == {"batch.lock", "summary.csv", "index.gpkg", "index.vrt"}
        assert (contents(written(world)), states(world)) == before
        (written(world) / "cove1" / "m3.tif").unlink()
        write_raster(world / "in" / "late.tif", pixels(9), origin=(6e5, 5.8e6))
        assert to_bucket() == 0
        assert "images: 2 done, 3 done before" in capsys.readouterr().out
        said = refused(capsys, "in", OUT, *MODEL, "--threshold", "0.3")
        assert said.startswith(f'{OUT}: cove0/m0.tif was made with --threshold not given (now "0.3")')
        assert to_bucket("--threshold", "0.3", "--overwrite") == 0
    assert run("in", "local", *MODEL, "--threshold", "0.3") == 0
    assert contents(written(world)) == contents(world / "local")


def test_objects_of_others_are_kept(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with store(world, monkeypatch):
        put("cove0/m0.tif", b"of another program")
        put("cove0/m2.tif", b"of another batch", batch="0123")
        assert to_bucket() == 0
        assert "2 done, 2 skipped" in capsys.readouterr().out
        assert (written(world) / "cove0" / "m0.tif").read_bytes() == b"of another program"
        assert ("cove0/m2.tif", "skipped") in states(world)
        assert to_bucket("--overwrite") == 0
    assert run("in", "local", *MODEL) == 0
    assert contents(written(world)) == contents(world / "local")


def test_files_of_no_batch(world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with store(world, monkeypatch):
        put("summary.csv", b"mine")
        assert refused(capsys, "in", OUT, *MODEL).startswith(f"{OUT}/summary.csv: exists already and is of no batch")
    assert [path.name for path in written(world).iterdir()] == ["summary.csv"]


def test_a_dry_run_writes_nothing(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with store(world, monkeypatch) as server:
        put("cove0/m0.tif", b"of another program")
        server.clear()
        assert to_bucket("--dry-run") == 0
        assert not [line for line in server.requests() if line.split()[1] not in ("GET", "HEAD")]
        said = capsys.readouterr().out
        assert "images: 3 to map, 1 skipped, as their maps exist already" in said
        assert f"in {OUT}\ndisk: up to " in said
        assert to_bucket() == 0
        capsys.readouterr()
        assert to_bucket("--dry-run") == 0
    assert "images: 0 to map, 3 done before, 1 skipped" in capsys.readouterr().out


def test_images_and_maps_in_one_bucket(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (world / "in").rename(world / "store" / "bucket" / "in")
    with store(world, monkeypatch):
        assert run("s3://bucket/in/", "s3://bucket/in/maps", *MODEL) == 0
        assert run("s3://bucket/in/", "s3://bucket/in/maps", *MODEL) == 0
        assert "images: 4 done before" in capsys.readouterr().out, "the maps are no images"
        assert "is the folder of the images itself" in refused(capsys, "s3://bucket/in/", "s3://bucket/in", *MODEL)
        one = "s3://bucket/in/cove0/m0.tif"
        assert f"{one}: is an image of the batch" in refused(capsys, one, "s3://bucket/in/cove0", *MODEL)
        assert run(one, "s3://bucket", *MODEL) == 0
    assert run("store/bucket/in/cove0", "local", *MODEL) == 0
    assert (world / "store" / "bucket" / "m0.tif").read_bytes() == (world / "local" / "m0.tif").read_bytes()


def test_a_mosaic_that_is_none_any_more_is_removed(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with store(world, monkeypatch):
        assert to_bucket() == 0
        assert (written(world) / "index.vrt").exists()
        write_raster(world / "in" / "other.tif", pixels(9), crs="EPSG:3005", origin=(1e6, 5e5))
        assert to_bucket() == 0
    assert not (written(world) / "index.vrt").exists()


def test_the_local_folder_of_two_addresses_differs(world: Path) -> None:
    def folder(address: str) -> Path:
        return make_batch(["in"], address, Options(model="m.onnx")).folder

    assert folder("s3://bucket/a") == folder("/vsis3/bucket/a/") != folder("s3://bucket/b")
