"""The format int8 of the converter, through its own command line: the file, its card, and what is refused."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import rasterio
import torch
import yaml

from inference.inference import main as map_mosaic
from inference.model.card_files import read_card
from inference.model.choose import choose_model
from tests.conftest import write_raster
from train.convert_checkpoint import main
from train.export import int8_check, int8_file

from .conversions import best, refused


@pytest.fixture(scope="module")
def folder(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files in float and in int8 of a short run; the loss allowed is any, since so small a network is sensitive."""
    folder = tmp_path_factory.mktemp("int8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(int8_check, "MAX_LOSS", 0.2)
        arguments = ["--formats", "int8,onnx", "--model_name", "N", "--task", "T", "--score", "0.9"]
        assert main([str(run), *arguments, "--output_dir", str(folder)]) == 0
    return folder


def test_the_card_says_int8_and_the_loss(folder: Path) -> None:
    names = ["N_T_dice=0.9000.json", "N_T_dice=0.9000.onnx", "N_T_int8_dice=0.9000.json", "N_T_int8_dice=0.9000.onnx"]
    assert sorted(path.name for path in folder.iterdir()) == names
    card, exact = read_card(folder / names[3]), read_card(folder / names[1])
    assert (card.precision, exact.precision, exact.int8_loss) == ("int8", "fp32", None)
    assert card.int8_loss is not None
    assert 0 <= card.int8_loss <= 0.2
    first, second = (yaml.safe_load((folder / name).read_text()) for name in (names[0], names[2]))
    assert second["name"] == first["name"] + "-int8"


def test_the_file_is_quantised_and_its_last_convolution_is_not(folder: Path) -> None:
    model = onnx.load(folder / "N_T_int8_dice=0.9000.onnx")
    assert model.ir_version == 9
    assert [(one.domain, one.version) for one in model.opset_import] == [("", 18)]
    exact = _exact_convolutions(model)
    assert len(exact) > 20
    assert exact[-1]
    assert sum(exact) < len(exact) / 3


@pytest.mark.parametrize("count", [0, 3])
def test_first_convolutions_stay_float(folder: Path, tmp_path: Path, count: int) -> None:
    float_file, path = folder / "N_T_dice=0.9000.onnx", tmp_path / "m.onnx"
    card = read_card(float_file)
    windows = list(torch.randn(4, 3, card.tile_size, card.tile_size, generator=torch.Generator().manual_seed(0)))
    int8_file.write(float_file, card, windows, path, count)
    exact = _exact_convolutions(onnx.load(path))
    assert exact[:count] == [True] * count
    assert not exact[count]


def _exact_convolutions(model: onnx.ModelProto) -> list[bool]:
    """Return for each convolution, from first to last, whether its weights are float."""
    makers = {name for node in model.graph.node for name in node.output}
    return [node.input[1] not in makers for node in model.graph.node if node.op_type == "Conv"]


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_inference_runs_it_and_says_so(folder: Path, tmp_path: Path, backend: str) -> None:
    pytest.importorskip(backend)
    pixels = np.random.default_rng(0).integers(0, 255, (3, 100, 90)).astype(np.uint8)
    source, tags = write_raster(tmp_path / "in.tif", pixels), {}
    for name in ("N_T_int8_dice=0.9000.onnx", "N_T_dice=0.9000.onnx"):
        target = tmp_path / f"{name}.tif"
        arguments = [str(source), str(target), "--model", str(folder / name), "--backend", backend]
        assert map_mosaic(arguments) == 0
        with rasterio.open(target) as file:
            tags[name] = file.tags()
    quantised, exact = (" ".join(found.values()) for found in tags.values())
    assert "int8 (the model's own), the rest fp32" in quantised
    assert "int8" not in exact


def test_a_bad_quantisation_leaves_the_folder_as_it_was(
    run: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write, tried = int8_file.write, []

    def narrow(exact: Any, card: Any, windows: Any, path: Path, float_first: int = 0) -> None:
        tried.append(float_first)
        write(exact, card, [window * 0.01 for window in windows], path, float_first)

    monkeypatch.setattr(int8_file, "write", narrow)
    monkeypatch.setattr(int8_check, "FLOAT_FIRST", (0, 3))
    kept = tmp_path / "out" / "N_T_int8_dice=0.9000.onnx"
    kept.parent.mkdir()
    shutil.copy(folder / kept.name, kept)
    before = kept.read_bytes()
    arguments = ["--formats", "torchscript,int8", "--model_name", "N", "--task", "T", "--score", "0.9"]
    assert main([str(run), *arguments, "--output_dir", str(kept.parent)]) == 3
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]
    assert kept.read_bytes() == before
    assert tried == [0, 3]
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("N_T_int8_dice=0.9000.onnx: not written: its masks lose IoU")
    assert "kelp " in last
    assert "at best (allowed: 0.5%; use the float file" in last


def test_without_the_data_set_or_with_any_size_it_is_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = run.parents[2] / "c.yml"
    said = refused(
        capsys, tmp_path, best(run), config, "data_module.data_dir=/no/such", "--formats", "int8", "--dynamic"
    )
    assert said.splitlines()[-1].startswith("--formats int8: calibrated and checked at the tile size")
    gone = yaml.safe_load(config.read_text())
    assert gone["data_module"]["data_dir"] != "/no/such"
    hidden = run.parents[2] / "hidden"
    (run.parents[2] / "data").rename(hidden)
    try:
        said = refused(capsys, tmp_path, best(run), "--score", "0.9", "--formats", "int8")
    finally:
        hidden.rename(run.parents[2] / "data")
    assert said.startswith("--formats int8: needs the train and val splits of the model's data set: ")
    # A data set that the command line names isn't replaced by that of the training.
    other = refused(
        capsys, tmp_path, best(run), config, "data_module.data_dir=/no/such", "--score", "0.9", "--formats", "int8"
    )
    assert "/no/such" in other
    assert "data_module.data_dir=FOLDER" in said


def test_the_float_file_is_the_default_model(tmp_path: Path) -> None:
    names = ["k_T_dice=0.9.onnx", "k_T_int8_dice=0.9.onnx", "k_T_jit_dice=0.9.pt"]
    for name in names:
        (tmp_path / name).touch()
    assert choose_model(tmp_path).name == names[0]
    (tmp_path / names[0]).unlink()
    assert choose_model(tmp_path).name == names[2]
    assert choose_model(tmp_path, "openvino").name == names[1]
    (tmp_path / names[2]).unlink()
    assert choose_model(tmp_path).name == names[1]
