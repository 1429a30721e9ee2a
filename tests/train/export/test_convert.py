"""The converter, through its own command line: what it leaves, and what it refuses."""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import yaml

from inference.model.card_files import read_card
from tests.conftest import write_dataset
from tests.train.export.wandb_server import KEY, Stored, serving
from train.configs.loader import load_config
from train.convert_checkpoint import main
from train.data.datasets import GridDataset
from train.datamodule import DataModule
from train.export import convert as convert_module
from train.export import formats
from train.export.rebuild import rebuild
from train.model import SMPSegmentationModel
from train.run.fit import train

ROOT = Path(__file__).parents[3]


def config_of(folder: Path, **changes: Any) -> dict[str, Any]:
    content: dict[str, Any] = {
        "tile_size": 64,
        "batch_size": 4,
        "max_epoch": 3,
        "segmentation_config": {
            "architecture": "Unet",
            "backbone": "tu-mobilenetv3_small_050",
            "opts": {"encoder_weights": None},
            "lr": 5e-3,
        },
        "data_module": {"data_dir": str(folder / "data"), "num_workers": 0, "class_names": ["sea", "kelp"]},
        "trainer": {"accelerator": "cpu"},
        "logging": {"save_dir": str(folder / "runs"), "project": "kelp", "name": "small"},
    }
    for key, value in changes.items():
        section, _, name = key.partition("__")
        if name:
            content[section][name] = value
        else:
            content[section] = value
    return content


def save(path: Path, content: dict[str, Any]) -> str:
    path.write_text(yaml.safe_dump(content))
    return str(path)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short run."""
    folder = tmp_path_factory.mktemp("convert")
    write_dataset(folder / "data")
    loaded = load_config(save(folder / "c.yml", config_of(folder)))
    train(loaded.config, loaded.notices)
    (found,) = (folder / "runs" / "kelp").iterdir()
    return found


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


def best(run: Path) -> Path:
    return run / str(json.loads((run / "summary.json").read_text())["best"]["checkpoint"])


def refused(capsys: pytest.CaptureFixture[str], folder: Path, *arguments: object, code: int = 2) -> str:
    """What the command says when it refuses; nothing may be left in the folder."""
    capsys.readouterr()
    assert main([*map(str, arguments), "--output_dir", str(folder / "out")]) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert not (folder / "out").exists() or list((folder / "out").iterdir()) == []
    said = [line for line in shown.err.splitlines() if not line.startswith(("loading", "checkpoint ", "notice:"))]
    assert "Traceback" not in shown.err
    return "\n".join(said)


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
    # As a stranger would: pixels / 255, ImageNet's mean and std, no import of ours, in another folder.
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
    assert card.scores == trained.scores
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
    assert torch.allclose(formats.load_onnx(path, torch.device("cpu"))(x), wanted, atol=1e-4)
    (scripted,) = tmp_path.glob("*.pt")
    assert torch.allclose(formats.load_torchscript(scripted, torch.device("cpu"))(x), wanted, atol=1e-4)


def test_a_second_conversion_replaces_the_files(run: Path, tmp_path: Path) -> None:
    for _ in range(2):
        assert main([str(run), "--formats", "torchscript", "--output_dir", str(tmp_path)]) == 0
    assert len(list(tmp_path.iterdir())) == 1


# The earlier tool's checkpoints: no card, no config, and a compiler's prefix.


def old_checkpoint(run: Path, path: Path, change: Callable[[dict[str, Any]], None] = lambda state: None) -> Path:
    state = torch.load(best(run), weights_only=True)["state_dict"]
    state = {name.replace("model.", "model._orig_mod.", 1): value for name, value in state.items()}
    change(state)
    torch.save({"state_dict": state, "epoch": 3, "hyper_parameters": {}}, path)
    return path


def test_an_old_checkpoint_works_with_its_yaml(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = old_checkpoint(run, tmp_path / "old.ckpt")
    config = run.parents[2] / "c.yml"
    arguments = [str(old), str(config), "--score", "0.75", "--formats", "torchscript", "--output_dir", str(tmp_path)]
    assert main(arguments) == 0
    assert "has no model card; what it needs is taken from" in capsys.readouterr().err
    path = tmp_path / "small_kelp_jit_dice=0.7500.pt"
    x = torch.rand(1, 3, 64, 64)
    model = SMPSegmentationModel.load_from_checkpoint(best(run), map_location="cpu", weights_only=True).eval()
    with torch.no_grad():
        assert torch.equal(torch.jit.load(path)(x), model(x).sigmoid())
    # The same weights have the same hash, whatever they came in.
    assert read_card(path).revision[9:] == revision_of(run)  # type: ignore[index]


def revision_of(run: Path) -> str:
    from train.export.rebuild import revision

    return revision("2026-01-01", rebuild(best(run), None).model.state_dict())[9:]


def test_an_old_checkpoint_alone_is_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = old_checkpoint(run, tmp_path / "old.ckpt")
    assert "doesn't say what network it is (give the YAML" in refused(capsys, tmp_path, old)
    said = refused(capsys, tmp_path, old, run.parents[2] / "c.yml")
    assert "came without a score" in said
    assert "--score" in said


def test_another_network_is_refused_in_one_line(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = old_checkpoint(run, tmp_path / "old.ckpt")
    other = save(tmp_path / "o.yml", config_of(tmp_path, segmentation_config__architecture="FPN"))
    (line,) = refused(capsys, tmp_path, old, other, "--score", "0.5").splitlines()
    assert "is no FPN with tu-mobilenetv3_small_050: " in line
    assert "weights are missing, first model." in line
    assert "are unexpected, first model.decoder" in line


def test_another_shape_is_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def widen(state: dict[str, Any]) -> None:
        name = "model._orig_mod.segmentation_head.0.bias"
        state[name] = torch.zeros(7)

    old = old_checkpoint(run, tmp_path / "old.ckpt", widen)
    (line,) = refused(capsys, tmp_path, old, run.parents[2] / "c.yml", "--score", "0.5").splitlines()
    assert "model.segmentation_head.0.bias has shape [7], [1] was expected" in line


# A config must agree with the checkpoint.


@pytest.mark.parametrize(
    ("changes", "key", "both"),
    [
        ({"segmentation_config__backbone": "resnet18"}, "segmentation_config.backbone", ("resnet18", "mobilenetv3")),
        ({"segmentation_config__architecture": "FPN"}, "segmentation_config.architecture", ("FPN", "Unet")),
        ({"num_bands": 4, "data_module__mean": [0.1] * 4, "data_module__std": [1.0] * 4}, "num_bands", ("4", "3")),
        (
            {"data_module__mean": [0.1, 0.2, 0.3], "data_module__std": [0.229, 0.224, 0.225]},
            "data_module.mean",
            ("[0.1, 0.2, 0.3]", "[0.485, 0.456, 0.406]"),
        ),
        ({"data_module__max_pixel_value": 1000}, "data_module.max_pixel_value", ("1000", "255")),
        ({"data_module__bands": [3, 2, 1]}, "data_module.bands", ("[3, 2, 1]", "[1, 2, 3]")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_config_that_contradicts_the_checkpoint_shows_both(
    changes: dict[str, Any],
    key: str,
    both: tuple[str, str],
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = save(tmp_path / "c.yml", config_of(run.parents[2], **changes))
    said = refused(capsys, tmp_path, run, config)
    (line,) = [line for line in said.splitlines() if f": {key}: is " in line]
    assert line.startswith(f"{config}:")
    assert all(value in line for value in both)


def test_what_changes_neither_network_nor_normalisation_may_differ(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {"tile_size": 96, "max_epoch": 50, "segmentation_config__lr": 1e-4, "batch_size": 1}
    config = save(tmp_path / "c.yml", config_of(run.parents[2], **changes))
    assert main([str(run), config, "--formats", "torchscript", "--output_dir", str(tmp_path / "o")]) == 0
    assert "tile_size is 96, the model was trained with 64, which holds" in capsys.readouterr().err
    (path,) = (tmp_path / "o").iterdir()
    assert read_card(path).tile_size == 64


# Files that are no checkpoints.


class _Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("exploded",)


@pytest.mark.parametrize("kind", ["pickle", "torch", "html", "truncated", "empty", "json"])
def test_what_is_no_checkpoint_is_refused_and_not_run(
    kind: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.ckpt"
    if kind == "pickle":
        path.write_bytes(pickle.dumps({"state_dict": _Bomb()}))
    elif kind == "torch":
        torch.save({"state_dict": _Bomb()}, path)
    elif kind == "html":
        path.write_text("<!DOCTYPE html><title>404</title>")
    elif kind == "truncated":
        path.write_bytes(best(run).read_bytes()[:20_000])
    elif kind == "empty":
        path.touch()
    else:
        path.write_text("{}")
    (line,) = refused(capsys, tmp_path, path, run.parents[2] / "c.yml", "--score", "0.5").splitlines()
    assert line.startswith(f"{path}: ")
    assert not (tmp_path / "exploded").exists()


def test_folders_that_are_no_runs(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "is no run folder" in refused(capsys, tmp_path, tmp_path)
    (tmp_path / "config.yml").touch()
    assert "last.ckpt: no such file; the run kept none" in refused(capsys, tmp_path, tmp_path)
    (tmp_path / "summary.json").write_text('{"best": {"checkpoint": "../../x.ckpt"}}')
    assert "outside its folder" in refused(capsys, tmp_path, tmp_path)
    (tmp_path / "summary.json").write_text("{")
    assert "is damaged" in refused(capsys, tmp_path, tmp_path)
    assert "no such file" in refused(capsys, tmp_path, tmp_path / "no.ckpt")
    assert "nor the name of an artifact" in refused(capsys, tmp_path, "what is this")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model_name", "../../evil"], "--model_name: '../../evil' can't be in a file's name"),
        (["--task", "a/b"], "--task: 'a/b' can't be in a file's name"),
        (["--task", "a:b"], "--task: 'a:b' can't be in a file's name"),
        (["--model_name", ""], "--model_name: '' can't be in a file's name"),
        (["--score", "91"], "--score: 91.0 is no Dice score (allowed: 0 to 1)"),
        (["--score", "nan"], "score"),
        (["--formats", "onnx,pt2"], "--formats: found pt2 (allowed: onnx, torchscript"),
        (["--formats", ","], "--formats: found nothing"),
        (["--revision", "v2"], "--revision: v2 is none (allowed: YYYYMMDD"),
        (["--device", "tpu9"], "--device: tpu9 can't be used here"),
        (["tile_size=3"], "tile_size=3: overrides a config, but none was given"),
        (["no.yml"], "no.yml: no such file"),
    ],
)
def test_arguments_that_make_no_sense(
    arguments: list[str], said: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refused(capsys, tmp_path, run, *arguments)


def test_a_folder_that_cannot_be_written_to(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main([str(run), "--output_dir", str(tmp_path / "file")]) == 2
    assert "can't be written to" in capsys.readouterr().err


# The gate.


def test_a_file_that_answers_otherwise_is_not_written(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    good = formats.FORMATS["torchscript"]

    def off(network: Any, card: Any, example: Any, path: Path) -> None:
        with torch.no_grad():
            network.network.segmentation_head[0].bias += 0.001
        good.write(network, card, example, path)
        network.network.segmentation_head[0].bias -= 0.001

    bad = formats.Format(good.stem, good.suffix, off, good.load)
    monkeypatch.setitem(formats.FORMATS, "torchscript", bad)
    said = refused(capsys, tmp_path, run, code=3)
    assert "does not give the checkpoint's answers at 64x64: largest difference" in said
    assert "not written" in said


def test_an_interrupted_conversion_leaves_nothing(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def interrupt(*_: Any) -> None:
        calls.append(1)
        raise KeyboardInterrupt

    monkeypatch.setattr(convert_module, "failures", interrupt)  # after the first file is written and run
    refused(capsys, tmp_path, run, "--formats", "torchscript", code=130)
    assert calls == [1]


def test_data_that_are_not_here_give_way_to_the_demo(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = save(tmp_path / "c.yml", config_of(tmp_path, data_module__data_dir="/nowhere"))
    old = old_checkpoint(run, tmp_path / "old.ckpt")
    arguments = [str(old), config, "--score", "0.5", "--formats", "torchscript", "--output_dir", str(tmp_path / "o")]
    assert main(arguments) == 0
    assert "comparing on the demo data set, because /nowhere: no such folder" in capsys.readouterr().err


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
    assert line.startswith("runs/kelp/mistyped: no such file or folder here; as a W&B artifact: ")
