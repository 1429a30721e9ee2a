"""Batches of images in an object store: a loopback server that fails at random, and one that isn't there."""

from pathlib import Path

import pytest

from inference.common import remote
from tests.object_store import serve

from .survey import contents, journal, refused, run, write_survey


def test_a_prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(remote, "_DELAY", 0.01)
    write_survey(tmp_path / "store" / "bucket" / "2026", 4)
    (tmp_path / "store" / "bucket" / "2026" / "notes.txt").write_text("x")
    (tmp_path / "store" / "m.onnx").unlink(missing_ok=True)
    model = tmp_path / "store" / "bucket" / "m.onnx"
    assert run("store/bucket/2026", "local", "--model", model) == 0
    with serve(tmp_path / "store") as store:
        for name, value in store.environment.items():
            monkeypatch.setenv(name, value)
        Path("list.csv").write_text(
            "image,output\ns3://bucket/2026/cove0/m0.tif,a.tif\ns3://bucket/2026/gone.tif,b.tif\n"
        )
        assert run("list.csv", "listed", "--model", model) == 4
        assert run("s3://bucket/2026/", "out", "--model", model) == 0
        lines = len(journal(tmp_path / "out"))
        assert run("s3://bucket/2026/", "out", "--model", model) == 0
        assert len(journal(tmp_path / "out")) == lines
    states = [(line["output"], line["state"], line["attempt"]) for line in journal(tmp_path / "listed")]
    assert states[-1] == ("b.tif", "failed", 1), "what isn't there is not tried again"
    local, made = contents(tmp_path / "local"), contents(tmp_path / "out")
    assert {name for name in made if name.endswith(".tif")} == {f"cove{at % 2}/m{at}.tif" for at in range(4)}
    assert {name: made[name] for name in made if name.endswith(".tif")} == {
        name: local[name] for name in local if name.endswith(".tif")
    }
    assert journal(tmp_path / "out")[-1]["image"] == "s3://bucket/2026/cove1/m3.tif"


def test_a_store_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_survey(tmp_path / "in", 1)
    with serve(tmp_path) as store:
        for name, value in store.environment.items():
            monkeypatch.setenv(name, value)
        said = refused(capsys, "s3://nothing/here/", "out", "--model", "m.onnx")
        assert "s3://nothing/here/: can't be listed: Path does not exist" in said
    monkeypatch.setattr(remote, "_reached", set())
    assert "can't be reached" in refused(capsys, "s3://other/here/", "out", "--model", "m.onnx")
    assert not (tmp_path / "out").exists()
