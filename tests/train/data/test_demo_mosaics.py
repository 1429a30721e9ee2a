"""The demo survey: mosaics, and polygons that fit what is drawn in them."""

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from pyproj import Transformer
from rasterio.features import rasterize

from inference.common.errors import UserError
from train.data.demo import SEED, demo_file
from train.data.demo_mosaics import HEIGHT, MOSAICS, SMALLEST, WIDTH, polygons
from train.data.demo_scene import KELP, draw_scene


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    return demo_file("demo://kelp-survey/kelp.gpkg", tmp_path_factory.mktemp("cache"), progress=False).parent


def layer(survey, name):
    _, _, wkb, (column,) = pyogrio.raw.read(survey / "kelp.gpkg", layer=name)
    return shapely.from_wkb(wkb), column


def test_the_survey_is_three_mosaics_and_a_geopackage(survey):
    assert sorted(path.name for path in survey.iterdir()) == ["bar.tif", "cove.tif", "kelp.gpkg", "point.tif"]
    footprints = []
    for name in MOSAICS:
        with rasterio.open(survey / f"{name}.tif") as mosaic:
            assert (mosaic.height, mosaic.width, mosaic.count, mosaic.nodata) == (HEIGHT, WIDTH, 3, 0)
            assert mosaic.crs.to_epsg() == 32609
            assert 0 < (mosaic.dataset_mask() == 0).mean() < 0.1
            footprints.append(shapely.box(*mosaic.bounds))
    assert shapely.distance(footprints[0], footprints[1]) > 200
    assert pyogrio.list_layers(survey / "kelp.gpkg")[:, 0].tolist() == ["kelp", "labelled"]
    assert pyogrio.read_info(survey / "kelp.gpkg", layer="kelp")["crs"] == "EPSG:4326"


def test_the_polygons_lie_on_the_kelp(survey):
    drawn, label = layer(survey, "kelp")
    assert set(label) == {"kelp", "unsure"}
    assert shapely.is_valid(drawn).all()
    to_metres = Transformer.from_crs("EPSG:4326", "EPSG:32609", always_xy=True)
    placed = shapely.transform(drawn, lambda points: np.column_stack(to_metres.transform(*points.T)))
    for number, (name, site) in enumerate(MOSAICS.items()):
        with rasterio.open(survey / f"{name}.tif") as mosaic:
            burned = rasterize(placed[label == "kelp"], (HEIGHT, WIDTH), transform=mosaic.transform) > 0
            valid = mosaic.dataset_mask() > 0
        _, expected = draw_scene(np.random.default_rng((SEED, 1000 + number)), site, HEIGHT, WIDTH)
        kelp = (expected == KELP) & valid
        assert (burned & kelp).sum() / (burned | kelp).sum() > 0.95


def test_the_annotator_left_a_part_of_the_last_mosaic(survey):
    finished, mosaic = layer(survey, "labelled")
    assert mosaic.tolist() == list(MOSAICS)
    areas = shapely.area(finished)
    assert areas[2] / areas[1] == pytest.approx(0.8, abs=0.01)


def test_specks_are_not_drawn():
    label = np.zeros((40, 40), np.uint8)
    label[2:4, 2:4] = KELP
    label[10:30, 10:30] = KELP
    ((what, shape),) = polygons(label)
    assert (what, shape.area) == ("kelp", 400)
    assert SMALLEST > 4


@pytest.mark.parametrize(
    "address", ["demo://kelp-survey", "demo://kelp-survey/", "demo://kelp-survey/../a", "demo://other/a"]
)
def test_other_addresses_are_refused(address, tmp_path):
    with pytest.raises(UserError, match="no such demo file"):
        demo_file(address, tmp_path)
