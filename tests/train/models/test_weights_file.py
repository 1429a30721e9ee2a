"""Weights from local files: what fits is loaded whole, what does not is one clear line."""

import os
import pickle
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from inference.common.errors import UserError
from train.models.backbones import build_timm
from train.models.smp_models import build_smp_model
from train.models.weights_file import read_tensors

SMALL = "mobilenetv3_small_050"


@pytest.fixture(scope="module")
def whole() -> nn.Module:
    torch.manual_seed(5)
    return timm.create_model(SMALL)


def one_line(call, *args, **kwargs) -> str:
    with pytest.raises(UserError) as error:
        call(*args, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


def with_prefix(prefix: str):
    return lambda tensors: {prefix + key: value for key, value in tensors.items()}


@pytest.mark.parametrize(
    ("suffix", "wrap"),
    [
        (".pth", dict),
        (".safetensors", dict),
        (".safetensors", with_prefix("model.")),
        (".pth", with_prefix("module.")),
        (".pth", with_prefix("_orig_mod.module.")),
        (".pth", lambda tensors: with_prefix("model.encoder.model.")(tensors) | {"model.decoder.x": torch.zeros(1)}),
        (".pth", lambda tensors: {k: v.half() if v.is_floating_point() else v for k, v in tensors.items()}),
    ],
    ids=["timm", "safetensors", "smp", "ddp", "compiled", "lightning", "half"],
)
def test_names_are_evened_out(whole: nn.Module, suffix: str, wrap, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    save_file(wrap(whole.state_dict()), path) if suffix == ".safetensors" else torch.save(
        {"epoch": 3, "state_dict": wrap(whole.state_dict())}, path
    )
    encoder = build_smp_model("FPN", f"tu-{SMALL}", 3, 1, path).encoder
    saved = whole.state_dict()
    loaded = {key.removeprefix("model."): value for key, value in encoder.state_dict().items()}
    assert len(loaded) > 100
    for key, value in loaded.items():
        torch.testing.assert_close(value, saved[key], atol=1e-3, rtol=1e-3)


def test_names_that_timm_flattens(tmp_path: Path) -> None:
    """Cut into features, ConvNeXt's `stages.0` becomes `stages_0`; the classifier and its norm are spare."""
    torch.manual_seed(5)
    whole = timm.create_model("convnext_atto")
    torch.save(whole.state_dict(), tmp_path / "convnext.pth")
    encoder = build_smp_model("FPN", "tu-convnext_atto", 3, 1, tmp_path / "convnext.pth").encoder
    key = "stages_2.blocks.3.mlp.fc1.weight"
    assert torch.equal(encoder.state_dict()[f"model.{key}"], whole.state_dict()[key.replace("_", ".")])


@pytest.mark.parametrize(
    ("backbone", "bands"),
    [(f"tu-{SMALL}", 1), (f"tu-{SMALL}", 2), (f"tu-{SMALL}", 12), ("mobilenet_v2", 1), ("mobilenet_v2", 4)],
)
def test_first_layer_takes_other_band_counts(backbone: str, bands: int, tmp_path: Path) -> None:
    torch.manual_seed(5)
    source = build_smp_model("Linknet", backbone, 3, 1).encoder
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    encoder = build_smp_model("Linknet", backbone, bands, 1, tmp_path / "weights.pth").encoder
    first = next(key for key, value in encoder.state_dict().items() if value.ndim == 4)
    loaded, saved = encoder.state_dict()[first], source.state_dict()[first]
    assert loaded.shape[1] == bands
    if bands == 1:
        torch.testing.assert_close(loaded, saved.sum(dim=1, keepdim=True))
    else:
        for band in range(bands):
            torch.testing.assert_close(loaded[:, band], saved[:, band % 3] * 3 / bands)
    rest = [key for key in source.state_dict() if key != first]
    assert all(torch.equal(encoder.state_dict()[key], source.state_dict()[key]) for key in rest)


def test_four_bands_into_four_are_left_alone(tmp_path: Path) -> None:
    source = build_smp_model("Linknet", f"tu-{SMALL}", 4, 1).encoder
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    encoder = build_smp_model("Linknet", f"tu-{SMALL}", 4, 1, tmp_path / "weights.pth").encoder
    assert torch.equal(encoder.model.conv_stem.weight, source.model.conv_stem.weight)


def test_four_bands_into_three_is_an_error(tmp_path: Path) -> None:
    torch.save(build_smp_model("Linknet", f"tu-{SMALL}", 4, 1).encoder.state_dict(), tmp_path / "weights.pth")
    message = one_line(build_smp_model, "Linknet", f"tu-{SMALL}", 3, 1, tmp_path / "weights.pth")
    assert "conv_stem.weight is (16, 4, 3, 3), not (16, 3, 3, 3)" in message


def test_classifier_is_left_out_for_smp(tmp_path: Path) -> None:
    tensors = smp.Unet("resnet18", encoder_weights=None).encoder.state_dict()
    tensors |= {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}
    torch.save(tensors, tmp_path / "resnet18.pth")
    encoder = build_smp_model("Unet", "resnet18", 3, 1, tmp_path / "resnet18.pth").encoder
    assert torch.equal(encoder.layer4[1].conv2.weight, tensors["layer4.1.conv2.weight"])


@pytest.mark.parametrize("backbone", ["tu-resnet18", "resnet18"])
def test_weights_of_another_encoder(whole: nn.Module, backbone: str, tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save(whole.state_dict(), path)
    message = one_line(build_smp_model, "Unet", backbone, 3, 1, path)
    assert message.startswith(f"{path}: these are not weights of resnet18: ")
    assert "missing (" in message
    assert "conv1.weight, " in message
    assert "unexpected (conv_stem.weight, " in message


def test_a_missing_layer_is_an_error(whole: nn.Module, tmp_path: Path) -> None:
    tensors = dict(whole.state_dict())
    del tensors["blocks.3.1.conv_pw.weight"]
    torch.save(tensors, tmp_path / "weights.pth")
    message = one_line(build_smp_model, "FPN", f"tu-{SMALL}", 3, 1, tmp_path / "weights.pth")
    assert "1 missing (blocks.3.1.conv_pw.weight)" in message
    assert "unexpected" not in message


def test_old_files_without_batch_counters(whole: nn.Module, tmp_path: Path) -> None:
    tensors = {key: value for key, value in whole.state_dict().items() if not key.endswith("num_batches_tracked")}
    torch.save(tensors, tmp_path / "weights.pth")
    build_smp_model("FPN", f"tu-{SMALL}", 3, 1, tmp_path / "weights.pth")


def test_dpt_takes_a_file_and_leaves_nothing_unused(tmp_path: Path) -> None:
    thin = {"embed_dim": 96, "num_heads": 3}
    torch.save(timm.create_model("vit_tiny_patch16_224", **thin).state_dict(), tmp_path / "vit.pth")
    model = build_smp_model("DPT", "tu-vit_tiny_patch16_224", 4, 2, tmp_path / "vit.pth", **thin)
    model(torch.zeros(2, 4, 64, 96)).mean().backward()
    assert not [key for key, value in model.named_parameters() if value.grad is None]


class Malicious:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("protocol", [None, 2, 4])
def test_code_in_a_file_is_not_run(protocol: int | None, tmp_path: Path) -> None:
    content, path = {"state_dict": Malicious(tmp_path / "pwned")}, tmp_path / "evil.pth"
    torch.save(content, path) if protocol is None else path.write_bytes(pickle.dumps(content, protocol))
    message = one_line(read_tensors, path)
    assert not (tmp_path / "pwned").exists()
    if protocol != 4:  # which PyTorch never writes, so that it counts as damaged
        assert "refused: it holds " in message
        assert "mkdir" in message


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("page.pth", b"\n<!DOCTYPE html><html>404</html>", "web page"),
        ("page.safetensors", b"<html>", "web page"),
        ("pointer.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "Git LFS pointer"),
        ("empty.pth", b"", "is empty, not weights"),
        ("empty.safetensors", b"", "is empty, not weights"),
        ("noise.pth", bytes(range(256)) * 9, "damaged"),
        ("text.pth", b"hello, world\n", "damaged"),
    ],
)
def test_files_that_are_no_weights(name: str, content: bytes, expected: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    message = one_line(read_tensors, path)
    assert message.startswith(f"{path}: ")
    assert expected in message


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("part", [0.01, 0.5, 0.99])
def test_truncated_files(whole: nn.Module, suffix: str, part: float, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    torch.save(whole.state_dict(), path) if suffix == ".pth" else save_file(whole.state_dict(), path)
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    assert "damaged" in one_line(read_tensors, path)


@pytest.mark.parametrize("content", [{"epoch": 1}, [torch.zeros(1)], torch.zeros(3), {"state_dict": {}}])
def test_files_without_tensors_by_name(content, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "weights.pth")
    assert "contains no named tensors" in one_line(read_tensors, tmp_path / "weights.pth")


def test_missing_file_and_folder(tmp_path: Path) -> None:
    for path, expected in ((tmp_path / "no.pth", "no such file"), (tmp_path, "is a folder")):
        assert f"{path}: {expected}" in one_line(read_tensors, path)
        assert f"encoder_weights: there is no file {path}" in one_line(build_timm, SMALL, 3, path, indices=[0])
