"""Reading of sites: columns that are chosen, names, dates, and where they lie."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from pyproj import Transformer

from inference.common.errors import UserError
from inference.vector.sites import date_text, read_sites
from tests.inference.vector.site_files import NORTH_UP, map_header, on_ground, write_sites

MAP = map_header(200, 300)
ONE, TWO, FAR = shapely.box(10, 20, 50.5, 60), shapely.box(100, 20, 150, 60), shapely.box(900, 900, 950, 950)


def refusal(path: Path, header: Any = MAP, **options: Any) -> str:
    """Return the message of a refused file."""
    with pytest.raises(UserError) as caught:
        read_sites(path, header, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["s.gpkg", "s.geojson", "s.fgb", "s.shp"])
def test_formats_and_reference_systems(tmp_path: Path, name: str) -> None:
    there = Transformer.from_crs("EPSG:32609", "EPSG:4326", always_xy=True)
    placed = shapely.transform(on_ground([ONE, TWO]), lambda at: np.column_stack(there.transform(*at.T)))
    kind = {"Site": ["Ä, the first", "two"], "tide": [1.25, -0.5], "Dom_sp": ["nereo", "macro"]}
    if name.endswith("shp"):
        placed = np.array(placed, object)
    sites = read_sites(write_sites(tmp_path / name, placed, "EPSG:4326", **kind), MAP, date="2026-07-31")
    order = np.argsort(sites.names)[::-1]  # FlatGeobuf keeps features in the order of its index
    assert [sites.names[at] for at in order] == ["Ä, the first", "two"]
    assert [sites.tides[at] for at in order] == ["1.25", "-0.5"]
    assert [sites.species[at] for at in order] == ["nereo", "macro"]
    assert sites.dates == ("2026-07-31",) * 2
    assert sites.notices == ()
    assert shapely.hausdorff_distance(sites.geometries[order], [ONE, TWO]).max() < 1e-3


@pytest.mark.parametrize(
    ("columns", "chosen"),
    [
        ({"kind": ["k", "k"], "SITE": ["a", "b"]}, "SITE"),
        ({"Name": ["x", "y"], "Site": ["a", "b"]}, "Site"),
        ({"Name": ["a", "b"], "code": ["c", "d"], "n": [1, 2]}, "Name"),
        ({"n": [1, 2], "label": ["a", "b"]}, "label"),
        ({"label": ["a", "b"], "dom_sp": ["macro", "nereo"], "DATE": ["2025-01-02", "x"]}, "label"),
    ],
)
def test_the_column_of_names(tmp_path: Path, columns: dict[str, Any], chosen: str) -> None:
    sites = read_sites(write_sites(tmp_path / "s.gpkg", on_ground([ONE, TWO]), **columns), MAP)
    assert sites.names == tuple(columns[chosen])


def test_a_column_of_names_that_must_be_chosen(tmp_path: Path) -> None:
    texts = write_sites(tmp_path / "a.gpkg", on_ground([ONE, TWO]), code=["a", "b"], label=["c", "d"])
    assert refusal(texts) == (
        f'{texts}: several columns could name the sites (choose one with --site-column; it has "code", "label")'
    )
    numbers = write_sites(tmp_path / "b.gpkg", on_ground([ONE, TWO]), number=[1.0, 2.0])
    assert "no column of text names the sites (choose one with --site-column; it has" in refusal(numbers)
    assert read_sites(numbers, MAP, column="number").names == ("1", "2")
    assert 'has no column "sight" (it has "number")' in refusal(numbers, column="sight")


def test_sites_without_a_name(tmp_path: Path) -> None:
    path = write_sites(tmp_path / "a.gpkg", on_ground([ONE, TWO, TWO]), site=["a", None, " "])
    assert refusal(path) == (
        f'{path}: features 2, 3 have no name in column "site" (give every site a name, delete what is no site, or '
        "choose another column with --site-column)"
    )


def test_features_of_one_name_are_one_site(tmp_path: Path) -> None:
    shifted = shapely.box(30, 20, 70, 60)
    path = write_sites(
        tmp_path / "a.gpkg",
        on_ground([ONE, TWO, shifted, ONE]),
        site=["a", "b", "a", "a"],
        date=["2025-08-01", "2026/8/2", "20250801", ""],
        tide=[0.4, 0.5, None, 0.7],
    )
    sites = read_sites(path, MAP, date="2026-08-02")
    assert sites.names == ("a", "b", "a")
    assert sites.dates == ("2025-08-01", "2026-08-02", "2026-08-02")
    assert sites.tides == ("0.4", "0.5", "0.7")
    assert shapely.area(sites.geometries).tolist() == pytest.approx([60 * 40, 2000, 40.5 * 40], abs=1e-4)
    # Sites of one name overlap, being the same place on several dates.
    assert [line.partition(": ")[2] for line in sites.notices] == [
        "sites with another date than the map's, 2026-08-02, which are measured on this map all the same: "
        '"a" (2025-08-01)'
    ]


def test_features_of_one_site_that_contradict_each_other(tmp_path: Path) -> None:
    path = write_sites(tmp_path / "a.gpkg", on_ground([ONE, TWO]), site=["a", "a"], tide=[0.4, 0.5])
    assert refusal(path).endswith(
        'the features of site "a" differ in column "tide": "0.4", "0.5" (give all the same value, or each its own name '
        "or date)"
    )


def test_overlaps_are_noticed(tmp_path: Path) -> None:
    shapes = [ONE, shapely.box(50, 20, 100, 60), TWO, shapely.box(140, 0, 145, 200)]
    path = write_sites(tmp_path / "a.gpkg", on_ground(shapes), site=["a", "b", "c", "d"])
    (line,) = read_sites(path, MAP).notices
    assert line == (
        f"{path}: sites that overlap count in full each, so that a sum over sites counts their common area more than "
        'once: "a" and "b", "c" and "d"'
    ), "b and c share an edge only"


def test_sites_outside_the_map(tmp_path: Path) -> None:
    beside = shapely.box(300, 0, 310, 10)  # shares an edge with the map
    path = write_sites(tmp_path / "a.gpkg", on_ground([FAR, ONE, beside]), site=["far", "one", "beside"])
    sites = read_sites(path, MAP)
    assert sites.names == ("far", "one", "beside")
    assert sites.notices == (f'{path}: sites outside map.tif, 100 % unmapped: "far", "beside"',)
    alone = write_sites(tmp_path / "b.gpkg", on_ground([FAR, beside]), site=["far", "beside"])
    assert refusal(alone) == (
        f"{alone}: no site lies on map.tif: the sites reach x 562030 to 562095, y 5721905 to 5722000, the map x 562000 "
        "to 562030, y 5721980 to 5722000 in EPSG:32609 (check the coordinate reference systems of both)"
    )


def test_outlines_are_repaired(tmp_path: Path) -> None:
    bow = shapely.Polygon([(10, 10), (50, 50), (50, 10), (10, 50)])
    sites = read_sites(write_sites(tmp_path / "a.gpkg", on_ground([bow]), site=["a"]), MAP)
    assert shapely.is_valid(sites.geometries).all()
    assert shapely.area(sites.geometries[0]) == pytest.approx(800, abs=1e-4)
    assert "1 invalid polygons were repaired (the first: self-intersection)" in sites.notices[0]


def test_maps_without_ground_areas(tmp_path: Path) -> None:
    path = write_sites(tmp_path / "a.gpkg", on_ground([ONE]), site=["a"])
    assert "isn't georeferenced" in refusal(path, map_header(200, 300, crs=None))
    local = 'LOCAL_CS["site grid",UNIT["metre",1]]'
    assert refusal(path, map_header(200, 300, crs=local)).startswith(
        "map.tif: the areas of sites aren't known, because the coordinate reference system of the mosaic can't be "
        "placed on the Earth (give the file the CRS"
    )
    wrong = refusal(path, map_header(200, 300, NORTH_UP, "EPSG:4326"))
    assert "because the georeference of the mosaic is wrong" in wrong


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.datetime64("2026-07-31T23:59:59.9"), "2026-07-31"),
        (np.datetime64("NaT"), ""),
        (None, ""),
        (20260731, "2026-07-31"),
        (20260731.0, "2026-07-31"),
        ("2026-07-31T12:00:00Z", "2026-07-31"),
        ("2026.7.3", "2026-07-03"),
        ("2026-02-30", "2026-02-30"),
        ("31/07/2026", "31/07/2026"),
        ("summer", "summer"),
    ],
)
def test_dates(value: Any, text: str) -> None:
    assert date_text(value) == text
