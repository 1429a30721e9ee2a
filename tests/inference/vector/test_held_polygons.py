"""Polygons that wait for their neighbours until they can be simplified: not longer than they must."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely

from inference.vector import polygon_writer
from inference.vector.polygonize import polygonize
from tests.inference.vector.maps import patches, read_polygons, write_map


def specks(path: Path) -> Path:
    """Write a map of specks, and of one region that is open for most of it."""
    values = (patches(1500, 200, 2, 0) * (np.random.default_rng(0).random((1500, 200)) < 0.1)).astype(np.uint8)
    values[900:, 100:] = patches(600, 100, 3, 1)
    values[300:800, 50] = 1
    return write_map(path, values)


def rows(path: Path) -> list[Any]:
    found = read_polygons(path)
    outlines = [shapely.normalize(shape).wkt for shape in found.geometry]
    return sorted(zip(outlines, found["class"], found["pixels"], found["area_m2"], found["perimeter_m"], strict=True))


def test_the_result_is_that_of_all_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = specks(tmp_path / "m.tif")
    sizes = list[int]()
    original = polygon_writer.simplified

    def counted(geometries: Any, tolerance: float) -> Any:
        sizes.append(len(geometries))
        return original(geometries, tolerance)

    monkeypatch.setattr(polygon_writer, "simplified", counted)
    polygonize(source, tmp_path / "whole.gpkg", simplify=2.0)
    assert max(sizes) == sum(sizes) > 3000
    sizes.clear()
    monkeypatch.setattr(polygon_writer, "_BATCH", 200)
    polygonize(source, tmp_path / "parts.gpkg", simplify=2.0)
    assert len(sizes) > 3
    assert max(sizes) < 0.6 * sum(sizes)
    assert rows(tmp_path / "parts.gpkg") == rows(tmp_path / "whole.gpkg")
    assert shapely.coverage_is_valid(np.array(read_polygons(tmp_path / "parts.gpkg").geometry))
