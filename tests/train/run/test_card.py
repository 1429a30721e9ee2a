"""Model card of a run: ground sample distance, fingerprint and source of the data."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from pyproj import Geod, Transformer
from rasterio.crs import CRS
from rasterio.transform import from_origin

from inference.common.raster import Header
from tests.conftest import write_dataset
from train.configs.config import Config
from train.data.fingerprint import fingerprint
from train.data.pairs import Pair, Scene, find_pairs, read_scenes
from train.datamodule import DataModule
from train.run.card import ground_sample_distance, model_card

LON, LAT = -128.9, 52.0


def scene(crs: str | None, transform: Affine, size: int = 1000) -> Scene:
    header = Header(
        path="a.tif",
        height=size,
        width=size,
        block=(1, 1),
        count=3,
        dtype="uint8",
        nodata=(None,) * 3,
        alpha=(),
        masked=False,
        crs=CRS.from_user_input(crs) if crs else None,
        transform=transform,
    )
    return Scene(Pair(Path("a.tif"), Path("a_label.tif")), header, header)


def on_the_ground(crs: str, transform: Affine, size: int = 1000) -> float:
    """Return the root of width times height of the middle pixel, along geodesics over a hundred pixels."""
    to = Transformer.from_crs(crs, 4326, always_xy=True)
    at = [to.transform(*(transform @ (size / 2 + c, size / 2 + r))) for c, r in ((0, 0), (100, 0), (0, 100))]
    geod = Geod(ellps="WGS84")
    (_, _, width), (_, _, height) = (geod.inv(*at[0], *other) for other in at[1:])
    return float(np.sqrt(width * height) / 100)


@pytest.mark.parametrize("crs", ["EPSG:32609", "EPSG:3857", "EPSG:4326", "EPSG:3005", "EPSG:32608"])
@pytest.mark.parametrize("side", [0.01, 0.1, 2.0])
def test_pixel_size_is_that_on_the_ground(crs: str, side: float) -> None:
    x, y = Transformer.from_crs(4326, crs, always_xy=True).transform(LON, LAT)
    unit = side / 111_000 if crs == "EPSG:4326" else side
    transform = from_origin(x, y, unit, unit)
    found = ground_sample_distance([scene(crs, transform)])
    assert found == pytest.approx(on_the_ground(crs, transform), rel=1e-4)
    if crs in {"EPSG:3857", "EPSG:4326"}:
        assert found != pytest.approx(unit, rel=0.1)


def test_projections_agree() -> None:
    """The same pixels in three CRSs; a metre of Web Mercator is cos(latitude) metres on the ground."""
    found = {}
    for crs in ("EPSG:32609", "EPSG:3857", "EPSG:4326"):
        to = Transformer.from_crs("EPSG:32609", crs, always_xy=True)
        corner = np.array(to.transform(500_000, 5_761_000))
        right, down = (
            np.subtract(to.transform(500_000 + e, 5_761_000 - n), corner) / 1000 for e, n in ((50, 0), (0, 50))
        )
        found[crs] = ground_sample_distance(
            [scene(crs, Affine(right[0], down[0], corner[0], right[1], down[1], corner[1]))]
        )
    assert found["EPSG:32609"] == pytest.approx(0.05 / 0.9996, rel=1e-4)
    assert found["EPSG:3857"] == pytest.approx(found["EPSG:32609"], rel=1e-4)
    assert found["EPSG:4326"] == pytest.approx(found["EPSG:32609"], rel=1e-4)


def test_median_of_what_is_georeferenced() -> None:
    scenes = [scene("EPSG:32609", from_origin(500_000, 5.8e6, side, side)) for side in (0.1, 0.2, 0.9)]
    nowhere = [
        scene(None, from_origin(0, 0, 1, 1)),
        scene("EPSG:32609", Affine.identity()),
        scene('LOCAL_CS["grid",UNIT["metre",1]]', from_origin(0, 0, 1, 1)),
    ]
    assert ground_sample_distance([*nowhere, *scenes]) == pytest.approx(0.2 / 0.9996, rel=1e-4)
    assert ground_sample_distance(nowhere) is None
    assert ground_sample_distance([scene("EPSG:32609", from_origin(5e5, 5.8e6, 1e-9, 1e-9))]) is None


def scenes_of(data: Path) -> list[Scene]:
    return read_scenes(find_pairs(data, "train").pairs)[0]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "data", {"train": [(300, 300), (20, 20)], "val": [(20, 20)]})


def test_a_fingerprint_is_that_of_the_content(data: Path, tmp_path: Path) -> None:
    first = fingerprint(scenes_of(data))
    copy = shutil.copytree(data, tmp_path / "elsewhere", copy_function=shutil.copyfile)
    assert fingerprint(scenes_of(copy)) == first
    assert fingerprint(scenes_of(data)[::-1]) == first
    shutil.rmtree(copy / "val")
    assert fingerprint(scenes_of(copy)) == first


def correct_a_label(data: Path) -> None:
    """Change one pixel in place: name, size and grid stay the same."""
    path = data / "train/y/s0_label.tif"
    size = path.stat().st_size
    with rasterio.open(path, "r+") as file:
        label = file.read(1)
        label[150, 150] ^= 1
        file.write(label, 1)
    assert path.stat().st_size == size


def repaint_an_image(data: Path) -> None:
    path = data / "train/x/s1.tif"
    with rasterio.open(path, "r+") as file:
        file.write(255 - file.read())


def rename_an_image(data: Path) -> None:
    (data / "train/x/s1.tif").rename(data / "train/x/s7.tif")
    (data / "train/y/s1_label.tif").rename(data / "train/y/s7_label.tif")


def take_a_pair_out(data: Path) -> None:
    (data / "train/x/s1.tif").unlink()
    (data / "train/y/s1_label.tif").unlink()


def move_an_image(data: Path) -> None:
    with rasterio.open(data / "train/x/s1.tif", "r+") as file:
        file.transform = from_origin(0, 0, 0.1, 0.1)


@pytest.mark.parametrize("change", [correct_a_label, repaint_an_image, rename_an_image, take_a_pair_out, move_an_image])
def test_other_data_have_another_fingerprint(data: Path, change) -> None:
    first = fingerprint(scenes_of(data))
    change(data)
    assert fingerprint(scenes_of(data)) != first


@pytest.mark.parametrize(
    ("given", "expected"),
    [("data", "data"), ("data//", "data"), (".", "."), ("../{here}/data", "data"), ("~/data", "data")],
)
def test_the_source_is_the_folder_however_it_is_written(
    data: Path, monkeypatch: pytest.MonkeyPatch, given: str, expected: str
) -> None:
    monkeypatch.setenv("HOME", str(data.parent))
    monkeypatch.chdir(data if given == "." else data.parent)
    config = Config.model_validate(
        {"tile_size": 16, "data_module": {"data_dir": given.format(here=data.parent.name), "num_workers": 0}}
    )
    made = DataModule(config)
    made.prepare()
    card = model_card(config, made.images)
    assert card.training_data is not None
    assert card.training_data.source == ("data" if expected == "." else expected)
    assert (card.training_data.images, card.training_data.pixels) == (2, 300 * 300 + 20 * 20)
    assert card.ground_sample_distance == pytest.approx(0.1, rel=1e-3)
