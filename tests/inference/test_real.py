"""The production kelp model on a real kelp bed."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import rasterio
import torch
from onnx import TensorProto, helper

from inference.card import EXTRA_FILE, METADATA_KEY
from inference.predict import predict
from tests.inference.networks import card

pytestmark = pytest.mark.shared


@pytest.fixture(scope="module")
def models(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both files with cards. The ONNX file normalises in its graph, and ends in the number of the class."""
    folder = tmp_path_factory.mktemp("models")
    (source,) = (shared / "weights").glob("*.onnx")
    (script,) = (shared / "weights").glob("*.pt")
    made = card(
        tile_size=512,
        mean=[0.485, 0.456, 0.406],
        std=[0.229, 0.224, 0.225],
        activation="softmax",
        ground_sample_distance=0.1,
    )
    raw = made.model_copy(update={"mean": [0.0] * 3, "std": [1.0] * 3})
    (folder / "raw.json").write_text(raw.dumps())
    model = onnx.load(source)
    last = model.graph.node[-1]
    assert last.op_type == "ArgMax"
    model.graph.node.remove(last)
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info(last.input[0], TensorProto.FLOAT, ["n", 2, "h", "w"]))
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, raw.dumps()
    onnx.save(model, folder / "kelp.onnx")
    torch.jit.save(torch.jit.load(script), folder / "kelp.pt", _extra_files={EXTRA_FILE: made.dumps()})
    return {"onnx": folder / "kelp.onnx", "pt": folder / "kelp.pt", "shipped": source, "card": folder / "raw.json"}


def read(path: Path, band: int = 1) -> np.ndarray:
    with rasterio.open(path) as file:
        values: np.ndarray = file.read(band)
    return values


def iou(classes: np.ndarray, label: np.ndarray) -> float:
    known, kelp = label < 2, label == 1
    return float(((classes == 1) & kelp).sum() / (((classes == 1) | kelp) & known).sum())


def test_the_production_model_maps_a_kelp_bed(shared: Path, models: dict[str, Path], tmp_path: Path) -> None:
    source = shared / "data" / "kelp-ortho" / "kelp_ortho.tif"
    label = read(shared / "data" / "kelp-ortho" / "kelp_ortho_label.tif")
    for kind in ("onnx", "pt"):
        predict(source, tmp_path / f"{kind}.tif", model=models[kind], probabilities=tmp_path / f"{kind}_p.tif")
        assert iou(read(tmp_path / f"{kind}.tif"), label) >= 0.6
    assert np.abs(read(tmp_path / "onnx_p.tif", 2) - read(tmp_path / "pt_p.tif", 2)).max() <= 1e-4
    predict(source, tmp_path / "shipped.tif", model=models["shipped"], card=models["card"])
    assert iou(read(tmp_path / "shipped.tif"), label) >= 0.6
    assert (read(tmp_path / "shipped.tif") != read(tmp_path / "onnx.tif")).mean() < 0.005
