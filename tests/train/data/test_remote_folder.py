"""Data sets in object stores, archives and on web servers: listed, range-read, and the same batches as from a disk."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from inference.common.errors import UserError
from inference.common.paths import Address
from tests.conftest import write_dataset
from tests.object_store import Store, serve
from tests.train.data.prepared_set import make_prepared
from tests.train.data.remote_sets import prepare_from, read_all, same, use
from train.__main__ import main
from train.configs.config import Config
from train.data.find_scenes import find_scenes
from train.data.labelled_images import LabelledImages
from train.data.remote_folder import remote_folder
from train.datamodule import DataModule


@pytest.fixture(scope="module")
def buckets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of buckets; of which `data` holds the small data set as kelp/."""
    folder = tmp_path_factory.mktemp("buckets")
    write_dataset(folder / "data" / "kelp")
    return folder


def config(data_dir: object) -> Config:
    data = {"data_dir": str(data_dir), "num_workers": 0, "augmentation": "none"}
    return Config.model_validate({"tile_size": 64, "batch_size": 2, "data_module": data})


def batches(data_dir: object) -> list[Any]:
    """Training and validation batches of a data set."""
    return read_all(DataModule(config(data_dir)), "train", "val")


def test_a_bucket_gives_the_batches_of_a_disk(store: Store, buckets: Path) -> None:
    local = batches(buckets / "data" / "kelp")
    for address in ("s3://data/kelp", "s3://data/kelp/", "/vsis3/data/kelp"):
        assert same(batches(address), local), address
    scenes = LabelledImages(config("s3://data/kelp"))
    scenes.prepare()
    assert str(scenes.scenes["train"][0].pair.image) == "s3://data/kelp/train/x/s0.tif"


def test_a_web_server_needs_a_list_of_the_files(store: Store, buckets: Path) -> None:
    folder = buckets / "web"
    shutil.copytree(buckets / "data" / "kelp", folder)
    address = f"http://{store.place}/web"
    with pytest.raises(UserError, match=r"web/files\.txt: HTTP 404 .*doesn't list its files: put files\.txt there"):
        remote_folder(address)
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.tif"))]
    (folder / "files.txt").write_text("# made by find\n\n" + "\n".join(f"./{name}" for name in names) + "\n")
    assert same(batches(address), batches(folder))
    for wrong in ("../x.tif", "/etc/passwd", "https://elsewhere/x.tif/../../../y"):
        (folder / "files.txt").write_text(f"train/x/a.tif\n{wrong}\n")
        with pytest.raises(UserError, match=r"files\.txt:2: .*is no path below the folder"):
            remote_folder(address)
    (folder / "files.txt").write_text("\n")
    with pytest.raises(UserError, match="names no files"):
        remote_folder(address)
    shutil.rmtree(folder)


def test_an_archive_gives_the_batches_of_its_folder(buckets: Path, tmp_path: Path) -> None:
    shutil.make_archive(str(tmp_path / "kelp"), "zip", buckets / "data" / "kelp")
    assert same(batches(f"/vsizip/{tmp_path}/kelp.zip"), batches(buckets / "data" / "kelp"))


def test_problems_of_a_remote_data_set_name_its_addresses(store: Store, buckets: Path) -> None:
    folder = buckets / "broken" / "kelp"
    write_dataset(folder)
    (folder / "train" / "y" / "s1_label.tif").rename(folder / "train" / "y" / "other.tif")
    shutil.rmtree(folder / "val")
    shutil.rmtree(folder / "test")
    found = find_scenes(remote_folder("s3://broken/kelp"), config("s3://broken/kelp"))
    text = "\n".join(found.problems)
    assert "s3://broken/kelp/train/x/s1.tif: has no label" in text
    assert "s3://broken/kelp/train/y/other.tif: has no image" in text
    assert "s3://broken/kelp/val: no such folder" in text
    assert "found train)" in text
    assert "s3://broken/kelp: has no test/" in found.notices[0]


def test_what_cannot_be_read_is_one_line(store: Store, buckets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"s3://data/none: can't be listed: .*check the name"):
        remote_folder("s3://data/none")
    with pytest.raises(UserError, match="s3://: names no bucket"):
        remote_folder("s3://")
    monkeypatch.setenv("AWS_S3_ENDPOINT", "127.0.0.1:9")
    with pytest.raises(UserError, match=r"s3://data/kelp: 127\.0\.0\.1 can't be reached") as error:
        remote_folder("s3://data/kelp")
    assert "\n" not in str(error.value)


def test_an_epoch_from_a_server_that_fails_at_random(
    buckets: Path,
    write_config: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One request of ten fails; the pixels are those of the disk, and the run ends."""
    write_dataset(buckets / "flaky" / "kelp")
    with serve(buckets, failures=0.1, seed=43) as running:
        use(running, monkeypatch)
        path = write_config(max_epoch=1, data_module={"data_dir": "s3://flaky/kelp", "num_workers": 0})
        assert main([str(path)]) == 0, capsys.readouterr().err
        assert running.failed() > 3
    (summary,) = path.parent.glob("runs/p/*/summary.json")
    assert set(json.loads(summary.read_text())) >= {"val", "test"}


def test_pixels_from_a_server_that_fails_at_random(buckets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = 0
    for seed in (1, 3):
        write_dataset(buckets / f"flaky{seed}" / "kelp")  # what GDAL remembers of another server isn't used
        with serve(buckets, failures=0.2, seed=seed) as running:
            use(running, monkeypatch)
            assert same(batches(f"s3://flaky{seed}/kelp"), batches(buckets / "data" / "kelp"))
            failed += running.failed()
    assert failed > 8


def test_images_of_a_prepared_set_may_be_remote(store: Store, buckets: Path, tmp_path: Path) -> None:
    folder = make_prepared(tmp_path, tiled=True, blockxsize=64, blockysize=64)
    local = batches(folder)
    shutil.copytree(tmp_path / "mosaics", buckets / "mosaics")
    prepare_from("mosaics", folder, named=True)
    shutil.rmtree(tmp_path / "mosaics")
    store.clear()
    assert same(batches(folder), local)
    assert any("/mosaics/m0.tif" in line for line in store.requests())


@pytest.mark.parametrize(
    ("text", "parent"),
    [
        ("s3://bucket/a/b.tif", "s3://bucket/a"),
        ("https://host:80/a/b.tif", "https://host:80/a"),
        ("/vsicurl/https://host/a/b.tif", "/vsicurl/https://host/a"),
        ("/vsizip/{/tmp/a.zip}/b.tif", "/vsizip/{/tmp/a.zip}"),
    ],
)
def test_an_address_keeps_its_slashes(text: str, parent: str) -> None:
    address = Address(text)
    assert (str(address), str(address.parent), address.name) == (text, parent, "b.tif")
    assert str(address.parent / "c.tif") == f"{parent}/c.tif"
