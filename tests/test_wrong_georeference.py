"""The commands on files whose georeference the Earth doesn't have."""

from pathlib import Path
from typing import Any

import pytest
import rasterio
from rasterio.transform import from_origin

from inference.inference import main
from tests.conftest import write_dataset, write_raster
from tests.inference.commands import texture
from tests.inference.networks import card, write_onnx
from tests.train.windows import module
from train.data.overlap import overlaps
from train.run.card import model_card

WRONG = {
    "metres as degrees": {"crs": "EPSG:4326", "transform": from_origin(5e5, 5.8e6, 0.1, 0.1)},
    "latitude 95": {"crs": "EPSG:4326", "transform": from_origin(-128, 95, 1e-6, 1e-6)},
    "degrees as metres": {"crs": "EPSG:32609", "transform": from_origin(-128, 52, 1e-6, 1e-6)},
}
FIX = "(give the file the CRS of its coordinates: gdal_edit.py -a_srs EPSG:... FILE)"


@pytest.mark.parametrize("wrong", WRONG)
def test_mapping_says_so_and_reports_no_areas(tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: str) -> None:
    source = write_raster(tmp_path / "in.tif", texture(60, 50), **WRONG[wrong])
    model = write_onnx(tmp_path / "m.onnx", card(ground_sample_distance=0.1))
    assert main([str(source), str(tmp_path / "out.tif"), "--model", str(model)]) == 0
    out, err = capsys.readouterr()
    (line,) = err.strip().splitlines()
    assert line.startswith(f"{source}: its georeference is wrong: ")
    assert line.endswith(f"{FIX}; areas aren't known")
    assert "m²" not in out
    assert "no areas: the georeference of the mosaic is wrong\n" in out
    with rasterio.open(tmp_path / "out.tif") as file:
        assert file.transform == WRONG[wrong]["transform"]


@pytest.mark.parametrize(
    ("georeference", "said"),
    [
        ({"crs": None}, "the mosaic isn't georeferenced"),
        (
            {"crs": 'LOCAL_CS["quarry",UNIT["metre",1]]'},
            "the coordinate reference system of the mosaic can't be placed on the Earth",
        ),
    ],
)
def test_why_there_are_no_areas(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], georeference: dict[str, Any], said: str
) -> None:
    source = write_raster(tmp_path / "in.tif", texture(60, 50), **georeference)
    model = write_onnx(tmp_path / "m.onnx", card())
    assert main([str(source), str(tmp_path / "out.tif"), "--model", str(model)]) == 0
    assert f"no areas: {said}\n" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", WRONG)
def test_training_goes_on(tmp_path: Path, wrong: str) -> None:
    sizes = {"train": [(30, 30)] * 2, "val": [(30, 30)], "test": [(30, 30)]}
    data = write_dataset(tmp_path, sizes)
    for path in data.glob("*/x/*.tif"):
        with rasterio.open(path, "r+") as file:
            file.crs, file.transform = WRONG[wrong]["crs"], WRONG[wrong]["transform"]
    made = module(data)
    (line,) = [line for line in made.notices if "its georeference is wrong" in line]
    assert line.startswith(f"{data / 'train' / 'x' / 's0.tif'}: ")
    assert line.endswith(
        f" (3 more images likewise) {FIX}; it is used, but areas and the size of its pixels aren't known"
    )
    assert model_card(made.config, made.images).ground_sample_distance is None
    assert overlaps(made.scenes) == {}
