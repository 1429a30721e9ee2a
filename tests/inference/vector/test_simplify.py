"""Simplified outlines: apart or together they are the same."""

import numpy as np
import pytest
import shapely

from inference.vector import simplify
from inference.vector.regions import RegionFinder, Regions
from tests.inference.vector.maps import patches


@pytest.mark.parametrize("diagonal", [False, True])
def test_groups_have_the_outlines_of_all_at_once(monkeypatch: pytest.MonkeyPatch, diagonal: bool) -> None:
    values = patches(250, 220, 3, 2, smooth=2)
    values[patches(250, 220, 2, 3, smooth=6) == 1] = 0
    finder = RegionFinder(220, diagonal)
    whole = Regions.joined([finder.add(values, values > 0), finder.finish()]).geometry
    expected = shapely.coverage_simplify(whole, 1.0)
    calls = []
    together = shapely.coverage_simplify
    monkeypatch.setattr(simplify, "_AT_ONCE", 5)
    monkeypatch.setattr(shapely, "coverage_simplify", lambda part, by: calls.append(len(part)) or together(part, by))
    found = simplify.simplified(whole, 1.0)
    assert len(calls) > 3
    assert sum(calls) == len(whole) > 100
    valid = shapely.is_valid(expected)
    assert shapely.equals_exact(found[valid], expected[valid]).all()
    assert shapely.is_valid(found).all()
    assert shapely.coverage_is_valid(found)
    assert shapely.get_num_coordinates(found).sum() < 0.7 * shapely.get_num_coordinates(whole).sum()


def test_nothing_to_simplify() -> None:
    assert len(simplify.simplified(np.zeros(0, object), 1.0)) == 0
