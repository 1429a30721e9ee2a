"""The converter, through its own command line: the files that it writes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from inference.model.card_files import read_card
from tests.train.export.wandb_server import KEY, Stored, serving
from train.convert_checkpoint import main
from train.data.datasets import GridDataset
from train.datamodule import DataModule
from train.export import convert as convert_module
from train.export import formats, torchscript_file
from train.model import SMPSegmentationModel

from .conversions import ROOT, best, config_of, old_checkpoint, refused, save


@pytest.fixture(scope="module")
def weights(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a whole conversion through the command line, run as a file from another folder."""
    folder = tmp_path_factory.mktemp("weights")
    command = [sys.executable, ROOT / "train" / "convert_checkpoint.py", run, run.parents[2] / "c.yml"]
    command += ["--model_name", "Unet_Small", "--task", "kelp_rgb", "--licence", "MIT", "--output_dir", folder]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    *files, blank, last = done.stdout.splitlines()
    assert [Path(f) for f in files] == [folder / name for name in names_of(run, "Unet_Small", "kelp_rgb")]
    assert blank == ""
    assert last.startswith("next: cd ")
    assert "python inference.py IN.tif OUT.tif --model" in last
    assert done.stderr.count("100.0000 % of the mask's pixels agree") == 2
    return folder


def names_of(run: Path, model: str, task: str) -> list[str]:
    score = json.loads((run / "summary.json").read_text())["val"]["dice"]
    return [
        f"{model}_{task}_dice={score:.4f}.onnx",
        f"{model}_{task}_jit_dice={score:.4f}.pt",
        f"{model}_{task}_dice={score:.4f}.json",
    ]


def test_both_files_give_the_masks_of_the_checkpoint_in_programs_that_do_not_know_us(
    run: Path, weights: Path, tmp_path: Path
) -> None:
    model = SMPSegmentationModel.load_from_checkpoint(best(run), map_location="cpu", weights_only=True).eval()
    data = DataModule(model.config)
    data.prepare()
    windows = GridDataset(data.scenes["test"], data.bands, data.reader(), 64)
    image = torch.from_numpy(np.stack([windows[i][0] for i in range(len(windows))])).permute(0, 3, 1, 2)
    with torch.no_grad():
        wanted = model.predict_classes(image).numpy()
    assert 0.05 < wanted.mean() < 0.95  # there is something to agree on
    names = names_of(run, "Unet_Small", "kelp_rgb")
    # As a stranger would: pixels / 255, ImageNet's mean and std, no import of this project, in another folder.
    np.save(tmp_path / "x.npy", image.numpy())
    stranger = f"""
import numpy as np, onnxruntime, torch
x = np.load("x.npy").astype(np.float32) / 255
mean, std = [np.float32(v).reshape(1, 3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
x = (x - mean) / std
(y,) = onnxruntime.InferenceSession({str(weights / names[0])!r}).run(None, {{"input": x}})
z = torch.jit.load({str(weights / names[1])!r})(torch.from_numpy(x)).numpy()
np.savez("y.npz", onnx=y[:, 0] > 0.5, jit=z[:, 0] > 0.5)
"""
    subprocess.run([sys.executable, "-c", stranger], cwd=tmp_path, check=True, timeout=120)
    found = np.load(tmp_path / "y.npz")
    assert np.array_equal(found["onnx"], wanted)
    assert np.array_equal(found["jit"], wanted)


def test_the_onnx_file_is_what_both_consumers_take(run: Path, weights: Path) -> None:
    path = weights / names_of(run, "Unet_Small", "kelp_rgb")[0]
    model = onnx.load(path, load_external_data=False)
    assert model.ir_version == 9
    assert [o.version for o in model.opset_import if o.domain == ""] == [18]
    (inputs,), (output,) = model.graph.input, model.graph.output
    shape = [d.dim_param or d.dim_value for d in inputs.type.tensor_type.shape.dim]
    assert (inputs.name, shape) == ("input", ["batch", 3, 64, 64])
    assert output.name == "probabilities"
    assert all(t.data_location == onnx.TensorProto.DEFAULT for t in model.graph.initializer)
    # Neither this machine's paths nor the exporter's notes travel with it.
    assert str(ROOT).encode() not in path.read_bytes()
    metadata = {p.key: p.value for p in model.metadata_props}
    deepness = {k: json.loads(v) for k, v in metadata.items()}
    assert deepness["model_type"] == "Segmentor"
    assert deepness["class_names"] == {"0": "sea", "1": "kelp"}
    assert deepness["tile_size"] == deepness["tiles_size"] == 64
    assert deepness["resolution"] == pytest.approx(10, rel=0.01)  # centimetres; the rasters have 0.1 m
    assert deepness["standardization_mean"] == pytest.approx([0.485, 0.456, 0.406])


def test_the_card_travels_in_both_files(run: Path, weights: Path) -> None:
    names = names_of(run, "Unet_Small", "kelp_rgb")
    card, other, trained = (read_card(weights / name) for name in (*names[:2], best(run)))
    assert card == other
    assert (card.name, card.task, card.licence, card.output) == ("Unet_Small", "kelp_rgb", "MIT", "probabilities")
    assert card.revision is not None
    assert len(card.revision) == 17
    assert not card.any_size
    of_run = read_card(run).scores
    assert card.scores == trained.scores | {name: score for name, score in of_run.items() if name.startswith("test/")}
    assert "test/dice" in card.scores
    assert card.notes == trained.notes == []
    assert card.training_data == trained.training_data
    # habitat-mapper's JSON says the same, and that probabilities come out.
    config = json.loads((weights / names[2]).read_text())
    assert config["dependencies"] == [config["model_filename"]] == [names[0]]
    assert (config["activation"], config["mean"], config["max_pixel_value"]) == (None, card.mean, 255)
    assert config["revision"] == card.revision


def test_any_size_and_logits(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(run), "--dynamic", "--output", "logits", "--output_dir", str(tmp_path)]) == 0
    (path,) = tmp_path.glob("*.onnx")
    card = read_card(path)
    assert (card.any_size, card.output, card.name, card.task) == (True, "logits", "small", "kelp")
    assert capsys.readouterr().err.count("97x81: largest difference") == 2  # a second size, for both files
    x = torch.rand(3, 3, 33, 100)
    model = SMPSegmentationModel.load_from_checkpoint(best(run), map_location="cpu", weights_only=True).eval()
    with torch.no_grad():
        wanted = model(x)
    assert torch.allclose(formats.FORMATS["onnx"].load(path, torch.device("cpu"))(x), wanted, atol=1e-4)
    (scripted,) = tmp_path.glob("*.pt")
    assert torch.allclose(formats.FORMATS["torchscript"].load(scripted, torch.device("cpu"))(x), wanted, atol=1e-4)


def test_a_second_conversion_replaces_the_files(run: Path, tmp_path: Path) -> None:
    """The second time from a checkpoint with a note in its card, which stands in the file then."""
    content = torch.load(best(run), weights_only=True)
    content["hyper_parameters"]["card"]["notes"] = ["nothing was validated"]
    torch.save(content, tmp_path / "noted.ckpt")
    for source, notes in ((run, []), (tmp_path / "noted.ckpt", ["nothing was validated"])):
        assert main([str(source), "--formats", "torchscript", "--output_dir", str(tmp_path / "out")]) == 0
        (path,) = (tmp_path / "out").iterdir()
        assert read_card(path).notes == notes


# The gate.


def test_a_file_that_answers_otherwise_is_not_written(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write = torchscript_file.write

    def off(network: Any, card: Any, example: Any, path: Path) -> None:
        with torch.no_grad():
            network.network.segmentation_head[0].bias += 0.001
        write(network, card, example, path)
        network.network.segmentation_head[0].bias -= 0.001

    monkeypatch.setattr(torchscript_file, "write", off)
    said = refused(capsys, tmp_path, run, code=3)
    assert "its outputs differ from the checkpoint's at 64x64: largest difference" in said
    assert "not written" in said


def test_an_interrupted_conversion_leaves_nothing(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def interrupt(*_: Any) -> None:
        calls.append(1)
        raise KeyboardInterrupt

    monkeypatch.setattr(convert_module, "failure_messages", interrupt)  # after the first file is written and run
    refused(capsys, tmp_path, run, "--formats", "torchscript", code=130)
    assert calls == [1]


def test_data_that_are_not_here_give_way_to_the_demo(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = save(tmp_path / "c.yml", config_of(tmp_path, data_module__data_dir="/nowhere"))
    old = old_checkpoint(run, tmp_path / "old.ckpt")
    arguments = [str(old), config, "--score", "0.5", "--formats", "torchscript", "--output_dir", str(tmp_path / "o")]
    assert main(arguments) == 0
    assert "parity check on the demo data set, because /nowhere: no such folder" in capsys.readouterr().err


def test_help_needs_no_torch() -> None:
    code = (
        "import sys; sys.argv = ['c', '--help']; import train.convert_checkpoint as c\n"
        "try: c.main(['--help'])\nexcept SystemExit: print({'torch', 'onnx', 'pydantic', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


def test_an_artifact_from_wandb(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """README's command: the artifact's own score is in the names; what W&B doesn't have is one line."""
    for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "wandb"))
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("HAKAI_CACHE_DIR", str(tmp_path / "cache"))
    stored = Stored(
        "model-nzty80z7",
        0,
        {"model.ckpt": best(run).read_bytes()},
        metadata={"score": 0.8765},
    )
    config = str(run.parents[2] / "c.yml")
    with serving(stored) as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        more = ["--model_name", "N", "--task", "T", "--formats", "torchscript", "--output_dir", str(tmp_path / "o")]
        assert main(["reef/kelp/model-nzty80z7:v0", config, *more]) == 0
        assert [p.name for p in (tmp_path / "o").iterdir()] == ["N_T_jit_dice=0.8765.pt"]
        (line,) = refused(capsys, tmp_path / "p", "reef/kelp/model-other:v0", config).splitlines()
        assert "model-other" in line
    (line,) = refused(capsys, tmp_path / "p", "runs/kelp/mistyped").splitlines()
    assert line.startswith("runs/kelp/mistyped: no such file or folder; tried as a W&B artifact: ")
