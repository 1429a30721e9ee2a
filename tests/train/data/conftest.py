"""Fixtures that several tests of data share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.object_store import Store, serve
from tests.train.data.remote_sets import use


@pytest.fixture
def store(buckets: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """Server of the folder that the fixture `buckets` of a file of tests is."""
    with serve(buckets) as running:
        use(running, monkeypatch)
        yield running
