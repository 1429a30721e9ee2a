"""The command `inference.py`: options, errors, and files left after a failure."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio

from tests.conftest import write_raster
from tests.inference.networks import card, write_onnx

from .commands import COMMAND, ROOT, leftovers, refused, run, texture


def test_a_map_and_its_summary(mosaic: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target, floats = tmp_path / "out.tif", tmp_path / "p.tif"
    assert run(mosaic, target, "--model", model, "--probabilities", floats) == 0
    out = capsys.readouterr().out
    for text in (
        "background",
        "kelp1",
        "m²",
        "ha",
        "Mpx/s",
        "onnxruntime",
        "fp32",
        "tiny 20260101",
        str(target),
        str(floats),
    ):
        assert text in out
    with rasterio.open(mosaic) as src, rasterio.open(target) as file, rasterio.open(floats) as p:
        for made in (file, p):
            assert (made.crs, made.transform, made.shape) == (src.crs, src.transform, src.shape)
            assert made.block_shapes[0] == (512, 512)
            assert made.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
            tags = made.tags()
            assert json.loads(tags["CLASS_NAMES"]) == {"0": "background", "1": "kelp1"}
            assert (tags["MODEL"], tags["MODEL_REVISION"], tags["MODEL_FILE"]) == ("tiny", "20260101", "m.onnx")
            assert (tags["MOSAIC"], tags["BANDS"], tags["NODATA"]) == ("in.tif", "1,2,3", "none")
        assert (file.count, file.dtypes[0], file.nodata) == (1, "uint8", None)
        assert file.colormap(1)[1][:3] != file.colormap(1)[0][:3] == (0, 0, 0)
        assert (p.count, p.dtypes[0], p.descriptions) == (2, "float32", ("background", "kelp1"))
    assert leftovers(tmp_path) == []


def test_invalid_pixels_are_told_from_background(model: Path, tmp_path: Path) -> None:
    pixels = texture(40, 40)
    pixels[:, :10] = 7
    source = write_raster(tmp_path / "in.tif", pixels)
    assert run(source, tmp_path / "o.tif", "--model", model, "--nodata", "7", "--bands", "3,2,1") == 0
    with rasterio.open(tmp_path / "o.tif") as file:
        tags = file.tags()
        assert (tags["NODATA"], tags["BANDS"]) == ("7", "3,2,1")
        assert tags["INVALID_PIXELS"] == "0, and 0 in the mask band"
        mask = file.read_masks(1)
    assert not mask[:10].any()
    assert mask[10:].all()
    own = write_onnx(tmp_path / "own.onnx", card(background_index=None, class_names=["a", "b"]))
    assert run(source, tmp_path / "o.tif", "--model", own, "--nodata", "7", "--overwrite") == 0
    with rasterio.open(tmp_path / "o.tif") as file:
        assert file.tags()["INVALID_PIXELS"] == "255, the nodata value"
        assert (file.read(1)[:10] == 255).all()
        assert file.nodata == 255


def test_a_large_map_has_nearest_overviews(model: Path, tmp_path: Path) -> None:
    source = write_raster(tmp_path / "in.tif", np.repeat(texture(1, 1100), 1100, axis=1), nodata=0)
    assert run(source, tmp_path / "a.tif", "--model", model) == 0
    with rasterio.open(tmp_path / "a.tif") as file:
        assert file.overviews(1) == [2, 4]
        assert set(np.unique(file.read(1, out_shape=(275, 275)))) <= {0, 1}
        assert file.interleaving.name == "band"
    assert run(source, tmp_path / "b.tif", "--model", model, "--no-cog") == 0
    with rasterio.open(tmp_path / "b.tif") as file, rasterio.open(tmp_path / "a.tif") as cog:
        assert file.overviews(1) == []
        assert "LAYOUT" not in file.tags(ns="IMAGE_STRUCTURE")
        np.testing.assert_array_equal(file.read(), cog.read())
        np.testing.assert_array_equal(file.dataset_mask(), cog.dataset_mask())


@pytest.mark.parametrize("how", ["file", "module", "copy", "renamed copy"])
def test_it_runs_from_anywhere(how: str, mosaic: Path, model: Path, tmp_path: Path) -> None:
    folder = ROOT / "inference"
    if "copy" in how:
        folder = tmp_path / "elsewhere" / ("inference" if how == "copy" else "mapper")
        shutil.copytree(ROOT / "inference", folder, ignore=shutil.ignore_patterns("weights", "__pycache__"))
    command = [sys.executable, "inference.py"] if how != "module" else [sys.executable, "-m", "inference.inference"]
    done = subprocess.run(
        [*command, str(mosaic), str(tmp_path / "out.tif"), "--model", str(model)],
        cwd=ROOT if how == "module" else folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.tif").is_file()


def test_help_is_quick() -> None:
    began = time.perf_counter()
    done = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, check=True)
    assert time.perf_counter() - began < 0.5
    assert "--tile-size" in done.stdout


def test_neither_torch_nor_train_nor_eval_is_imported(mosaic: Path, model: Path, tmp_path: Path) -> None:
    """Only numpy, rasterio, pydantic, tqdm and onnxruntime, and their dependencies, are imported."""
    code = (
        "import sys; from inference.inference import main; "
        f"code = main([{str(mosaic)!r}, {str(tmp_path / 'o.tif')!r}, '--model', {str(model)!r}]); "
        "unwanted = {'torch', 'train', 'eval', 'cv2', 'scipy', 'pyproj', 'onnx', 'openvino', 'albumentations'}; "
        "print(code, unwanted & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("0 set()")


def test_output_is_input(mosaic: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = mosaic.read_bytes()
    assert "is the input itself" in refused(capsys, mosaic, mosaic, "--model", model, "--overwrite")
    assert mosaic.read_bytes() == before


def test_existing_output(mosaic: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "out.tif"
    target.write_bytes(b"precious")
    assert "--overwrite" in refused(capsys, mosaic, target, "--model", model)
    assert target.read_bytes() == b"precious"
    target.with_suffix(".tif.ovr").write_bytes(b"of the old file")
    assert run(mosaic, target, "--model", model, "--overwrite") == 0
    assert not target.with_suffix(".tif.ovr").exists()


def test_neither_model_nor_card_is_replaced(
    mosaic: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    described = tmp_path / "c.json"
    described.write_text(card().dumps())
    for file, what in ((model, "the model"), (described, "the model's card")):
        before = file.read_bytes()
        target = tmp_path / f"{file.stem}.tif"
        target.hardlink_to(file)
        for option in ([target], [tmp_path / "o.tif", "--probabilities", target]):
            err = refused(capsys, mosaic, *option, "--model", model, "--card", described, "--overwrite")
            assert f"{target}: is {what} (choose another " in err
        assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--tile-size", "0"], "--tile-size: 0"),
        (["--tile-size", "999999999"], "--tile-size: 999999999 (allowed: 1 to 65536)"),
        (["--batch-size", "5000"], "--batch-size: 5000 (allowed: 1 to 4096)"),
        (["--threads", "1000000"], "--threads: 1000000 (allowed: 1 to "),
        (["--bands", "1,2,999999"], "--bands: 999999 (allowed: 1 to 65535)"),
        (["--overlap", "1"], "--overlap: 1 (allowed: 0 to 0.9)"),
        (["--threshold", "1.5"], "--threshold"),
        (["--max-pixel-value", "0"], "--max-pixel-value"),
        (["--window", "gauss"], "--window"),
        (["--nodata", "black"], "--nodata"),
        (["--bands", "a"], '--bands: "a" (allowed: band numbers from 1, separated by commas, such as 3,2,1)'),
        (["--bands", ","], '--bands: "," (allowed: band numbers'),
        (["--threads", "1.5"], '--threads: "1.5" is not a whole number'),
        (["--tile-size", "9" * 6000], "is not a whole number"),
        (["--overlap", "half"], '--overlap: "half" is not a number'),
        (["--model", "."], ".: is a folder (--model takes an .onnx or .pt file"),
        (["--card", "."], ".: is a folder (give a file)"),
        (["--probabilities", "p.png"], "p.png: is written as a GeoTIFF"),
        (["--bands", "1,2"], "--bands: names 2 bands, the model takes 3"),
        (["--bands", "1", "2", "7"], "has 3 bands, --bands asks for band 7"),
        (["--bands", "0,1,2"], '--bands: "0,1,2" (allowed: band numbers from 1'),
        (["--precision", "bf16", "--backend", "onnxruntime"], "ONNX Runtime computes"),
        (["--precision", "int8"], "--precision"),
        (["--backend", "torchscript"], "can't run m.onnx"),
        (["--resample"], "names no ground sample distance"),
        (["--card", "nowhere.json"], "nowhere.json: no such file"),
        (["--frobnicate"], "--frobnicate"),
    ],
)
def test_invalid_options_are_refused(
    options: list[str], says: str, mosaic: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    err = refused(capsys, mosaic, tmp_path / "out.tif", "--model", model, *options)
    assert says in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "out.tif").exists()


def test_several_problems_are_reported_at_once(
    mosaic: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    err = refused(capsys, mosaic, tmp_path / "o.tif", "--model", model, "--overlap", "2", "--threads", "0")
    assert len(err.splitlines()) == 2


def test_missing_and_unreadable_files_are_refused(
    mosaic: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no such folder" in refused(capsys, mosaic, tmp_path / "no" / "o.tif", "--model", model)
    assert "is a folder" in refused(capsys, mosaic, tmp_path, "--model", model)
    assert "no such file" in refused(capsys, tmp_path / "no.tif", tmp_path / "o.tif", "--model", model)
    assert "no such file" in refused(capsys, mosaic, tmp_path / "o.tif", "--model", tmp_path / "no.onnx")
    (tmp_path / "text.tif").write_text("no image")
    assert "can't be read as an image" in refused(capsys, tmp_path / "text.tif", tmp_path / "o.tif", "--model", model)
    (tmp_path / "m.pth").touch()
    assert "allowed: .onnx, .pt" in refused(capsys, mosaic, tmp_path / "o.tif", "--model", tmp_path / "m.pth")
    (tmp_path / "text.onnx").write_text("no model")
    assert "can't be read as an ONNX model" in refused(
        capsys, mosaic, tmp_path / "o.tif", "--model", tmp_path / "text.onnx"
    )
    err = refused(capsys, mosaic, tmp_path / "o.tif", "--model", model, "--probabilities", tmp_path / "o.tif")
    assert "is the map itself" in err


def test_mosaics_that_do_not_match_the_model(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "o.tif"
    few = write_raster(tmp_path / "few.tif", texture(20, 20, 2))
    assert "has 2 bands, the model needs band 3" in refused(capsys, few, target, "--model", model)
    deep = write_raster(tmp_path / "deep.tif", texture(20, 20).astype(np.uint16))
    assert "--max-pixel-value" in refused(capsys, deep, target, "--model", model)
    assert run(deep, target, "--model", model, "--max-pixel-value", "255") == 0
    capsys.readouterr()
    imaginary = write_raster(tmp_path / "complex.tif", texture(20, 20).astype(np.complex64))
    assert "complex64" in refused(capsys, imaginary, target, "--model", model, "--overwrite")


def test_a_mosaic_without_georeferencing(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_raster(tmp_path / "in.tif", texture(40, 40), crs=None, transform=rasterio.Affine.identity())
    assert run(source, tmp_path / "o.tif", "--model", model) == 0
    out, err = capsys.readouterr()
    assert "no coordinate reference system" in err
    assert len(err.strip().splitlines()) == 1
    assert "no areas" in out


def test_another_ground_sample_distance_is_reported(
    mosaic: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for distance, told in ((0.1, False), (0.12, False), (0.14, True), (0.05, True)):
        model = write_onnx(tmp_path / "m.onnx", card(ground_sample_distance=distance))
        assert run(mosaic, tmp_path / "o.tif", "--model", model, "--overwrite") == 0
        err = capsys.readouterr().err
        assert (f"{distance:g} m" in err and "0.1 m on the ground" in err) == told, err


def test_models_of_a_fixed_tile_size(mosaic: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fixed = write_onnx(tmp_path / "fixed.onnx", card(any_size=False), size=32, batch=2)
    assert run(mosaic, tmp_path / "o.tif", "--model", fixed) == 0
    assert run(mosaic, tmp_path / "o.tif", "--model", fixed, "--batch-size", "2", "--overwrite") == 0
    err = refused(capsys, mosaic, tmp_path / "o2.tif", "--model", fixed, "--tile-size", "48")
    assert "takes tiles of 32 pixels only" in err
    err = refused(capsys, mosaic, tmp_path / "o2.tif", "--model", fixed, "--batch-size", "3")
    assert "--batch-size 2" in err
    open_ = write_onnx(tmp_path / "open.onnx", card(any_size=False))
    assert run(mosaic, tmp_path / "o2.tif", "--model", open_, "--tile-size", "48") == 0


def test_a_model_that_does_not_match_its_card(mosaic: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = write_onnx(tmp_path / "m.onnx", None, channels=3)
    assert "carries no model card" in refused(capsys, mosaic, tmp_path / "o.tif", "--model", model)
    (tmp_path / "c.json").write_text(card().dumps())
    err = refused(capsys, mosaic, tmp_path / "o.tif", "--model", model, "--card", tmp_path / "c.json")
    assert "its card promises" in err
    (tmp_path / "c.json").write_text(card(bands=2).dumps())
    err = refused(capsys, mosaic, tmp_path / "o.tif", "--model", model, "--card", tmp_path / "c.json")
    assert "takes 3 bands, but its card names 2" in err
    assert leftovers(tmp_path) == []


def test_a_file_cut_short_names_the_window(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = write_raster(
        tmp_path / "in.tif", texture(600, 600), tiled=True, blockxsize=128, blockysize=128, compress="deflate"
    )
    content = whole.read_bytes()
    target = tmp_path / "o.tif"
    target.write_bytes(b"precious")
    (tmp_path / "cut.tif").write_bytes(content[: len(content) * 2 // 3])
    err = refused(capsys, tmp_path / "cut.tif", target, "--model", model, "--overwrite")
    assert "row 384, column" in err or "row 256, column" in err
    assert "128x128 pixels" in err
    assert target.read_bytes() == b"precious"
    assert leftovers(tmp_path) == []
