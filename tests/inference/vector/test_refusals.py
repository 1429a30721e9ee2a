"""Bad input of polygons and tables of sites: exit code 2, one line that says what to do, and a folder as it was."""

import hashlib
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyogrio
import pytest
import shapely
from numpy.typing import NDArray
from rasterio import Affine

from inference.polygons import main
from tests.inference.vector.maps import patches, read_polygons, write_map, write_polygons

VALUES = patches(40, 50, 3, 0)
NAMES = {"CLASS_NAMES": json.dumps({"0": "background", "1": "kelp", "2": "mussels"})}
BOX = shapely.box(5, 5, 30, 30)
LOCAL = 'LOCAL_CS["site grid",UNIT["metre",1]]'
SITES = "--sites s.gpkg --table t.csv"

Made = Callable[[], object]


def in_map(**changes: Any) -> Made:
    return lambda: write_map(Path("m.tif"), **({"values": VALUES, "tags": NAMES} | changes))


def with_value(value: float, dtype: str) -> NDArray[Any]:
    values = VALUES.astype(dtype)
    values[3, 4] = value
    return values


def sites(shapes: Any = (BOX,), path: str = "s.gpkg", **options: Any) -> Made:
    return lambda: write_polygons(
        Path(path), list(shapes), **({"name": [f"n{at}" for at in range(len(shapes))]} | options)
    )


def probabilities(values: Any, **options: Any) -> Made:
    return lambda: write_map(Path("p.tif"), np.broadcast_to(np.float32(values), (3, 40, 50)).copy(), **options)


def damaged() -> None:
    rng = np.random.default_rng(0)
    path = write_map(Path("m.tif"), rng.integers(0, 3, (400, 500)).astype(np.uint8), tags=NAMES, compress="deflate")
    content = path.read_bytes()
    path.write_bytes(content[:9000] + b"\1" * 9000 + content[18000:])


def text(path: str, content: str = "precious") -> Made:
    return lambda: Path(path).write_text(content)


def every(*made: Made) -> Made:
    return lambda: [each() for each in made]


def raw_points() -> None:
    """A corner without a place, which GEOS can't repair."""
    corners = np.array([[500_001, 5_699_999], [500_001, np.nan], [500_003, 5_699_998], [500_001, 5_699_999]])
    polygon = struct.pack("<biii", 1, 3, 1, len(corners)) + corners.astype("<f8").tobytes()
    pyogrio.raw.write(
        "s.gpkg",
        geometry=np.array([polygon], object),
        field_data=[np.array(["a"], object)],
        fields=["name"],
        geometry_type="Polygon",
        crs="EPSG:32609",
    )


def layers() -> None:
    for name in ("one", "two"):
        geopandas.GeoDataFrame({"name": ["a"]}, geometry=[shapely.box(0, 0, 1, 1)], crs="EPSG:32609").to_file(
            "s.gpkg", layer=name
        )


CASES: dict[str, tuple[Made | None, str, str]] = {
    # the map
    "bands": (in_map(values=np.stack([VALUES] * 3)), "o.gpkg", "m.tif: has 3 bands"),
    "fraction": (in_map(values=with_value(1.5, "float32")), "o.gpkg", "the value 1.5 at row 3, column 4"),
    "negative": (in_map(values=with_value(-1, "int16")), "o.gpkg", "the value -1 at row 3, column 4"),
    "large": (in_map(values=with_value(2**40 + 1, "int64")), "o.gpkg", "--nodata 1099511627777)"),
    "infinite": (in_map(values=with_value(1e300, "float64")), "o.gpkg", "the value 1e+300 at row 3"),
    "complex": (in_map(values=VALUES.astype("complex64")), "o.gpkg", "m.tif: bands of type complex64"),
    "no CRS": (in_map(crs=None), "o.gpkg", "m.tif: isn't georeferenced, so OUT.gpkg can't be made"),
    "no transform": (in_map(transform=Affine.identity()), "o.gpkg", "m.tif: isn't georeferenced"),
    "flat": (in_map(transform=Affine(0.1, 0, 5e5, 0, 0, 5.7e6)), "o.gpkg", "its pixels have no extent or no place"),
    "nowhere": (in_map(transform=Affine(0.1, 0, np.nan, 0, -0.1, 5.7e6)), "o.gpkg", "no place, so OUT.gpkg can't"),
    "no areas": (in_map(crs=LOCAL), "o.gpkg --min-area 1", "--min-area: m.tif can't be placed on the Earth"),
    "no areas of sites": (every(in_map(crs=LOCAL), sites()), SITES, "--table: m.tif can't be placed on the Earth"),
    "no degrees": (in_map(crs=LOCAL), "o.geojson", "m.tif can't be placed on the Earth, as .geojson demands"),
    "no tiles": (in_map(crs="EPSG:4326"), "o.pmtiles", "m.tif can't be placed on the Earth, as .pmtiles demands"),
    "damaged": (damaged, "o.gpkg", "m.tif: can't be read: "),
    "empty": (text("m.tif", ""), "o.gpkg", "m.tif: can't be read as a map of classes"),
    "pipe": (lambda: os.mkfifo("m.tif"), "o.gpkg", "m.tif: is a device or a pipe"),
    "missing": (None, "o.gpkg", "m.tif: can't be read as a map of classes: no such file"),
    # probabilities
    "NaN": (every(in_map(), probabilities(np.nan)), "o.gpkg --probabilities p.tif", "p.tif: is nan at row 0"),
    "nodata": (every(in_map(), probabilities(-9999)), "o.gpkg --probabilities p.tif", "p.tif: is -9999 at row 0"),
    "another place": (
        every(in_map(), probabilities(0.5, crs="EPSG:32610")),
        "o.gpkg --probabilities p.tif",
        "p.tif: lies on another grid than m.tif",
    ),
    "map": (in_map(), "o.gpkg --probabilities m.tif", "m.tif: is uint8 (probabilities are floating-point numbers"),
    # masks and sites
    "no corner": (every(in_map(), raw_points), "o.gpkg --erase s.gpkg", 'layer "s": polygon 1 has a corner with a'),
    "no corner of a site": (every(in_map(), raw_points), SITES, "a coordinate that is nan or inf"),
    "beside": (
        every(in_map(), sites([shapely.box(50, 0, 60, 40)])),
        "o.gpkg --clip s.gpkg",
        "s.gpkg: none of its polygons lies on m.tif",
    ),
    "nothing": (every(in_map(), sites([])), "o.gpkg --erase s.gpkg", 's.gpkg: layer "s" has no polygons'),
    "layers": (every(in_map(), layers), SITES, "(choose one: --sites 's.gpkg|layername=NAME')"),
    "another continent": (
        every(in_map(), sites([shapely.box(20, -10, 21, -9)], transform=None, crs="EPSG:4326")),
        SITES,
        "s.gpkg: no site lies on m.tif: the sites reach x 3",
    ),
    "no area": (
        every(in_map(), sites([shapely.Polygon([(5, 5), (9, 9), (5, 5)])])),
        SITES,
        's.gpkg: layer "s" has no site with an area',
    ),
    "nameless column": (
        every(in_map(), sites()),
        f"{SITES} --site-column=",
        's.gpkg: layer "s" has no column "" (it has "name")',
    ),
    "signs": (
        every(in_map(), sites(path="a.gpkg"), lambda: Path("a.gpkg").rename("a!.gpkg")),
        "o.gpkg --erase a!.gpkg",
        "a!.gpkg: has a sign in its path",
    ),
    # targets
    "exists": (every(in_map(), text("o.gpkg")), "o.gpkg", "o.gpkg: exists already"),
    "companion": (every(in_map(), text("o.dbf")), "o.shp", "o.dbf: exists already"),
    "changes of a program": (every(in_map(), text("o.gpkg-wal")), "o.gpkg", "o.gpkg-wal: exists already"),
    "the map": (
        every(in_map(), lambda: os.link("m.tif", "o.gpkg")),
        "o.gpkg --overwrite",
        "o.gpkg: is the map itself",
    ),
    "a mask": (every(in_map(), sites()), "s.gpkg --erase s.gpkg --overwrite", "s.gpkg: is what --erase reads"),
    "a part of a mask": (
        every(in_map(), sites(path="s.shp")),
        "s.shp --erase s.dbf --overwrite",
        "s.dbf: is what --erase reads",
    ),
    "twice": (every(in_map(), sites()), "t.csv --sites s.gpkg --table t.csv", "t.csv: is written as a vector file"),
    "folder": (every(in_map(), lambda: Path("o.gpkg").mkdir()), "o.gpkg --overwrite", "o.gpkg: is a folder"),
    "no folder": (in_map(), "no/o.gpkg", "no: no such folder"),
    "suffix": (in_map(), "o.json", "o.json: is written as a vector file"),
    "sign": (in_map(), "a;b.gpkg", "a;b.gpkg: has a sign in its path"),
    "style of an address": (in_map(), "--qgis-style", "--qgis-style: <VRTDataset"),
    # options
    "area": (in_map(), "o.gpkg --min-area nan", "--min-area: nan (allowed: an area in m², 0 or more)"),
    "holes": (in_map(), "o.gpkg --fill-holes -1", "--fill-holes: -1 (allowed"),
    "tolerance": (in_map(), "o.gpkg --simplify inf", "--simplify: inf (allowed: 0 to 100 pixels)"),
    "neighbours": (in_map(), "o.gpkg --connectivity 6", "--connectivity: 6 (allowed: 4, 8)"),
    "class": (in_map(), "o.gpkg --classes eelgrass", '--classes: the map has no class "eelgrass"'),
    "date": (in_map(), "o.gpkg --date 2026-02-30", '--date: "2026-02-30" (allowed'),
    "no sites": (in_map(), "o.gpkg --table t.csv", "--table: needs --sites, too"),
    "no output": (in_map(), "", "nothing to write"),
}


def state(folder: Path) -> dict[str, str]:
    """Return all files below a folder, with a digest of each."""
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else str(path.is_dir())
        for path in folder.rglob("*")
    }


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make, arguments, message = CASES[name]
    monkeypatch.chdir(tmp_path)
    if make is not None:
        make()
    before = state(tmp_path)
    source = "<VRTDataset" if message.endswith("<VRTDataset") else "m.tif"
    if source != "m.tif":
        source = (
            '<VRTDataset rasterXSize="50" rasterYSize="40"><SRS>EPSG:32609</SRS><GeoTransform>500000,0.1,0,5700000,0,'
            '-0.1</GeoTransform><VRTRasterBand dataType="Byte" band="1"><SimpleSource><SourceFilename>m.tif'
            "</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
        )
    assert main([source, *arguments.split()]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1, said
    assert state(tmp_path) == before


@pytest.mark.parametrize("name", ["O.SHP", "O.GPKG", ".hidden.gpkg", "gpkg_o.gpkg", "sqlite_.gpkg", "layer_styles.gpkg",
                                  "%d é'\".gpkg", "..gpkg", "-.fgb", "日本.shp"])  # fmt: skip
def test_any_name_of_a_file_is_kept(name: str, tmp_path: Path) -> None:
    source = write_map(tmp_path / "m.tif", VALUES, tags=NAMES)
    assert main([str(source), str(tmp_path / name)]) == 0
    assert read_polygons(tmp_path / name)["pixels"].sum() == np.count_nonzero(VALUES)
    assert {path.name for path in tmp_path.iterdir() if path.stem == Path(name).stem} >= {name}
    assert [path.name for path in tmp_path.iterdir() if "writing" in path.name] == []


@pytest.mark.parametrize(
    "stated",
    ['{"0": "a"', "[1]", '"abc"', "5", "[" * 100_000, '{"0":"a","1":"\\ud800","2":"c"}', '{"0":"a","2":2}', '{"0":1}',
     json.dumps({str(value): "a" for value in range(300)})],
)  # fmt: skip
def test_names_that_cant_be_read_are_numbers(stated: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_map(tmp_path / "m.tif", VALUES, tags={"CLASS_NAMES": stated, "BACKGROUND": "²"})
    assert main([str(source), str(tmp_path / "o.gpkg")]) == 0
    assert "the names of its classes can't be read from CLASS_NAMES" in capsys.readouterr().err
    assert set(read_polygons(tmp_path / "o.gpkg")["name"]) == {"class 1", "class 2"}


def test_hidden_characters_of_names_are_escaped(tmp_path: Path) -> None:
    stated = json.dumps({"0": "", "1": "ke\x1b[31mlp\x01", "2": "\n"})
    source = write_map(tmp_path / "m.tif", VALUES, tags={"CLASS_NAMES": stated})
    assert main([str(source), str(tmp_path / "o.gpkg")]) == 0
    assert set(read_polygons(tmp_path / "o.gpkg")["name"]) == {"ke\\x1b[31mlp\\x01", "\\n"}


def test_classes_of_one_name_are_chosen_together(tmp_path: Path) -> None:
    source = write_map(tmp_path / "m.tif", VALUES)
    assert main([str(source), str(tmp_path / "o.gpkg"), "--class-names", "x,kelp,Kelp", "--classes", "kelp"]) == 0
    assert set(read_polygons(tmp_path / "o.gpkg")["class"]) == {1, 2}


def test_probabilities_of_background_may_be_missing(tmp_path: Path) -> None:
    source = write_map(tmp_path / "m.tif", VALUES, tags=NAMES)
    floats = np.broadcast_to(np.where(VALUES == 0, np.nan, 0.5), (3, 40, 50)).astype(np.float32)
    other = write_map(tmp_path / "p.tif", floats)
    assert main([str(source), str(tmp_path / "o.gpkg"), "--probabilities", str(other)]) == 0
    assert set(read_polygons(tmp_path / "o.gpkg")["mean_probability"]) == {0.5}


@pytest.mark.parametrize(
    "shapes",
    [
        [shapely.box(-180, -90, 180, 90)],
        [shapely.box(180, 10, 300, 75)],  # longitudes from 0 to 360
        [shapely.box(-170, 10, -60, 75), shapely.box(40, -50, 60, 50), shapely.box(-180, -90, 180, -60)],
    ],
)
def test_masks_of_the_whole_earth_are_read(shapes: list[Any], tmp_path: Path) -> None:
    source = write_map(tmp_path / "m.tif", VALUES, tags=NAMES)
    mask = write_polygons(tmp_path / "land.gpkg", shapes, None, "EPSG:4326")
    assert main([str(source), str(tmp_path / "all.gpkg"), "--clip", str(mask)]) == 0
    assert main([str(source), str(tmp_path / "none.gpkg"), "--erase", str(mask)]) == 0
    assert read_polygons(tmp_path / "all.gpkg")["pixels"].sum() == np.count_nonzero(VALUES)
    assert len(read_polygons(tmp_path / "none.gpkg")) == 0


def test_what_is_far_away_is_not_taken_for_what_is_here(tmp_path: Path) -> None:
    source = write_map(tmp_path / "m.tif", VALUES, tags=NAMES)
    mask = write_polygons(tmp_path / "s.gpkg", [shapely.box(40, -50, 60, 50)], None, "EPSG:4326")
    assert main([str(source), str(tmp_path / "o.gpkg"), "--erase", str(mask)]) == 2


def test_a_site_of_a_whole_coast_is_measured(tmp_path: Path) -> None:
    source = write_map(tmp_path / "m.tif", VALUES, tags=NAMES)
    write_polygons(tmp_path / "s.gpkg", [shapely.box(-135, 45, -123, 55)], None, "EPSG:4326", name=["coast"])
    options = ["--sites", str(tmp_path / "s.gpkg"), "--table", str(tmp_path / "t.csv")]
    assert main([str(source), *options]) == 0
    header, row = (line.split(",") for line in (tmp_path / "t.csv").read_text().splitlines())
    area = geopandas.read_file(tmp_path / "s.gpkg").segmentize(0.01).to_crs("EPSG:6933").area[0]
    assert float(row[header.index("site_m2")]) == pytest.approx(area, rel=1e-6)
    assert float(row[header.index("pixels")]) == VALUES.size
