"""Small surveys that are mapped into a bucket of a server on this machine."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inference.batch import queue
from inference.batch.bucket.upload import store_of
from inference.common import remote
from tests.inference.batch.survey import run, write_survey
from tests.object_store import Store, serve

OUT = "s3://bucket/2026/maps"
"""Address of the folder of the maps."""
MODEL = ("--model", "m.onnx")


def make_world(folder: Path, monkeypatch: pytest.MonkeyPatch, number: int = 4) -> Path:
    """Write the survey `in`, the model `m.onnx`, an empty bucket, and folders for work; make it the working folder."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(queue, "WAIT_SECONDS", 0.0)
    monkeypatch.setattr(remote, "_reached", set())
    write_survey(folder / "in", number)
    for name in ("bucket", "readonly", "secret"):
        (folder / "store" / name).mkdir(parents=True)
    (folder / "work").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder / "work"))
    return folder


@contextlib.contextmanager
def store(folder: Path, monkeypatch: pytest.MonkeyPatch, failures: float = 0.0, seed: int = 0) -> Iterator[Store]:
    """Serve the buckets of a world, and have GDAL and the client use this server."""
    with serve(folder / "store", failures=failures, seed=seed) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


def written(folder: Path) -> Path:
    """Return the folder of the server that `OUT` is."""
    return folder / "store" / "bucket" / "2026" / "maps"


def to_bucket(*more: Any) -> int:
    """Map the survey into the bucket and return the exit code."""
    return run("in", OUT, *MODEL, *more)


def put(name: str, content: bytes, batch: str | None = None) -> None:
    """Write an object into the folder of the maps, of a batch with this number, or of none."""
    store_of("bucket", "2026/maps").put(name, content, {} if batch is None else {"batch": batch})


def states(folder: Path) -> list[tuple[str, str]]:
    """Return the map and the state of each line of the journal in the bucket."""
    lines = (written(folder) / "batch.jsonl").read_text().splitlines()
    return [(line["output"], line["state"]) for line in map(json.loads, lines)]
