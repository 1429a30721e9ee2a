"""Percentiles of bands whose values are too many to count one by one."""

from pathlib import Path

import numpy as np
import pytest

from inference.common.raster import read_header
from tests.conftest import write_raster
from train.data.pairs import Pair, Scene
from train.data.reader import Reader
from train.data.statistics import measure, merge
from train.preparation.band_statistics import PERCENTILES, percentiles
from train.preparation.count import label_rule


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32"])
def test_percentiles_are_exact_to_a_bin(tmp_path: Path, dtype: str) -> None:
    values = np.random.default_rng(0).normal(3000, 900, (2, 300, 400)).clip(-1000, 9000).astype(dtype)
    values[1] *= 2
    values[:, :50] = 0
    path = write_raster(tmp_path / "a.tif", values, nodata=0)
    header = read_header(path)
    scenes, reader = [Scene(Pair(path, path), header, header)], Reader(label_rule(2))
    found = merge(measure(scenes, (1, 2), reader, "", labels=False)[0], 2, 2)
    result = percentiles(scenes, (1, 2), reader, found)
    valid = values[:, (values != 0).any(axis=0)]
    for share in PERCENTILES:
        expected = np.percentile(valid, share, axis=1)
        assert np.abs(result[share] - expected).max() <= (found.high - found.low).max() / 4096 + 1, share


def test_a_constant_band(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", np.full((1, 20, 30), 5, np.uint16))
    header = read_header(path)
    scenes, reader = [Scene(Pair(path, path), header, header)], Reader(label_rule(2))
    found = merge(measure(scenes, (1,), reader, "", labels=False)[0], 1, 2)
    assert all(values.tolist() == [5] for values in percentiles(scenes, (1,), reader, found).values())
