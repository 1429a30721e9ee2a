"""Where pretrained weights come from, without a network of its own: the hub is a stand-in or a closed door."""

import socket
import time
from pathlib import Path

import huggingface_hub
import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from huggingface_hub import constants
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import save_file
from torch import nn

from inference.common.errors import UserError
from train.models import pretrained
from train.models.aerial_former import AerialFormerNetwork
from train.models.backbones import build_timm
from train.models.dinov2 import DINOv2
from train.models.smp_models import build_smp_model
from train.models.vit_pyramid import build_vit_pyramid_model

SMALL = "mobilenetv3_small_050"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a hub that must not be asked."""

    def unexpected(*args: object, **kwargs: object) -> None:
        raise AssertionError("the hub was asked")

    folder = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(pretrained, "get_session", unexpected)
    monkeypatch.setattr(pretrained, "hf_hub_download", unexpected)
    return folder


def put(cache: Path, repo: str, revision: str, network: nn.Module) -> Path:
    """Lays weights into the cache as the hub's client does."""
    snapshot = cache / f"models--{repo.replace('/', '--')}" / "snapshots" / revision
    snapshot.mkdir(parents=True)
    if revision == COMMIT:
        refs = snapshot.parent.parent / "refs"
        refs.mkdir()
        (refs / "main").write_text(revision)
    save_file(network.state_dict(), snapshot / "model.safetensors")
    return snapshot / "model.safetensors"


def small() -> nn.Module:
    torch.manual_seed(9)
    return timm.create_model(SMALL)


def tensors(network: nn.Module, prefix: str = "") -> dict[str, torch.Tensor]:
    return {key.removeprefix(prefix): value for key, value in network.state_dict().items()}


def test_nothing_is_looked_for_without_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*args: object) -> None:
        raise AssertionError("a connection was opened")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)
    for weights in (None, False):
        build_smp_model("Linknet", "mobilenet_v2", 3, 1, weights)
        build_smp_model("Linknet", f"tu-{SMALL}", 3, 1, weights)
    build_smp_model("DPT", "tu-vit_tiny_patch16_224", 3, 1)
    with torch.device("meta"):
        AerialFormerNetwork("T", 3, 1)
    DINOv2("dinov2_s", 3, 1, "linear", encoder_weights=False)
    build_vit_pyramid_model("Linknet", "vit_tiny_patch16_224", 3, 1, encoder_weights=False)


@pytest.mark.parametrize("weights", ["imagenet", True])
def test_smp_encoder_from_the_cache(weights: str | bool, cache: Path) -> None:
    settings = smp.encoders.encoders["mobilenet_v2"]["pretrained_settings"]["imagenet"]
    torch.manual_seed(9)
    source = smp.Unet("mobilenet_v2", encoder_weights=None).encoder
    put(cache, settings["repo_id"], settings["revision"], source)
    encoder = build_smp_model("Unet", "mobilenet_v2", 4, 1, weights).encoder
    loaded, saved = tensors(encoder), tensors(source)
    torch.testing.assert_close(loaded.pop("features.0.0.weight")[:, 3], saved["features.0.0.weight"][:, 0] * 0.75)
    assert all(torch.equal(value, saved[key]) for key, value in loaded.items())


@pytest.mark.parametrize(("weights", "bands"), [("imagenet", 3), (True, 4), ("lamb_in1k", 5)])
def test_timm_encoder_from_the_cache(weights: str | bool, bands: int, cache: Path) -> None:
    source = small()
    put(cache, f"timm/{SMALL}.lamb_in1k", COMMIT, source)
    encoder = build_smp_model("UnetPlusPlus", f"tu-{SMALL}", bands, 1, weights).encoder
    loaded, saved = tensors(encoder, "model."), tensors(source)
    stem = loaded.pop("conv_stem.weight")
    torch.testing.assert_close(stem[:, :3], saved["conv_stem.weight"] * 3 / bands)
    assert len(loaded) > 100
    assert all(torch.equal(value, saved[key]) for key, value in loaded.items())


def test_vision_transformer_from_the_cache(cache: Path) -> None:
    torch.manual_seed(9)
    source = timm.create_model("vit_tiny_patch16_224")
    put(cache, "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k", COMMIT, source)
    model = build_vit_pyramid_model("FPN", "vit_tiny_patch16_224", 3, 1, encoder_weights=True)
    assert torch.equal(model.encoder.model.blocks[7].mlp.fc1.weight, source.blocks[7].mlp.fc1.weight)
    dpt = build_smp_model("DPT", "tu-vit_tiny_patch16_224", 3, 1, "imagenet")
    assert torch.equal(dpt.encoder.model.blocks[7].mlp.fc1.weight, source.blocks[7].mlp.fc1.weight)


class Answer:
    def __init__(self, status: int) -> None:
        self.status_code = status

    def head(self, url: str, timeout: float) -> "Answer":
        assert url == constants.ENDPOINT
        assert timeout <= 3
        return self


def test_download_when_the_cache_is_empty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source, asked = small(), []

    def download(repo: str, file: str, revision: str | None) -> str:
        asked.append((repo, file, revision))
        if file == "model.safetensors":
            raise LocalEntryNotFoundError("no such file in the repository")
        torch.save(source.state_dict(), tmp_path / file)
        return str(tmp_path / file)

    monkeypatch.setattr(pretrained, "get_session", lambda: Answer(200))
    monkeypatch.setattr(pretrained, "hf_hub_download", download)
    encoder = build_smp_model("FPN", f"tu-{SMALL}", 3, 1, True).encoder
    repo = f"timm/{SMALL}.lamb_in1k"
    assert asked == [(repo, "model.safetensors", None), (repo, "pytorch_model.bin", None)]
    assert torch.equal(encoder.model.conv_stem.weight, source.conv_stem.weight)


def failure(call, *args, **kwargs) -> str:
    start = time.monotonic()
    with pytest.raises(UserError) as error:
        call(*args, **kwargs)
    assert time.monotonic() - start < 10
    assert "\n" not in str(error.value)
    return str(error.value)


def fail_smp() -> str:
    return failure(build_smp_model, "Unet", "resnet18", 3, 1, "imagenet")


def assert_helpful(message: str, wanted: str, repo: str, cache: Path) -> None:
    assert message.startswith(f"encoder_weights: can't get the '{wanted}' weights of ")
    assert repo in message
    assert str(cache) in message
    assert "encoder_weights: /path/to/file" in message
    assert "encoder_weights: null" in message


@pytest.mark.parametrize(
    ("build", "wanted", "repo"),
    [
        (lambda: build_smp_model("Unet", "resnet18", 3, 1, "ssl"), "ssl", "smp-hub/resnet18.ssl"),
        (lambda: build_smp_model("Unet", f"tu-{SMALL}", 3, 1, True), "lamb_in1k", f"timm/{SMALL}.lamb_in1k"),
        (lambda: DINOv2("dinov2_s", 3, 1, encoder_weights=True), "lvd142m", "timm/vit_small_patch14_dinov2.lvd142m"),
        (
            lambda: AerialFormerNetwork("B", 3, 1, encoder_weights="imagenet"),
            "ms_in22k",
            "timm/swin_base_patch4_window12_384.ms_in22k",
        ),
        (
            lambda: build_vit_pyramid_model("Unet", "vit_tiny_patch16_224", 3, 1, encoder_weights=True),
            "augreg_in21k_ft_in1k",
            "timm/vit_tiny_patch16_224",
        ),
    ],
    ids=["smp", "timm", "dinov2", "aerial_former", "pyramid"],
)
def test_no_network(build, wanted: str, repo: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real client of the hub, at a port where nobody listens."""
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(pretrained, "get_session", huggingface_hub.get_session)
    message = failure(build)
    assert_helpful(message, wanted, repo, cache)
    assert "the hub can't be reached" in message


def test_a_hub_that_never_answers(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    class Silent:
        def head(self, url: str, timeout: float) -> None:
            time.sleep(60)

    monkeypatch.setattr(pretrained, "_PROBE_S", 0.3)
    monkeypatch.setattr(pretrained, "get_session", Silent)
    start = time.monotonic()
    message = fail_smp()
    assert time.monotonic() - start < 2
    assert_helpful(message, "imagenet", "smp-hub/resnet18.imagenet", cache)


def test_offline_mode_does_not_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in fail_smp()


def test_a_hub_in_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "get_session", lambda: Answer(503))
    assert "the hub answers with status 503" in fail_smp()


@pytest.mark.parametrize("error", [OSError("connection reset"), RuntimeError("429 Too Many\nRequests")])
def test_a_download_that_breaks(error: Exception, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    def download(*args: object, **kwargs: object) -> str:
        raise error

    monkeypatch.setattr(pretrained, "get_session", lambda: Answer(200))
    monkeypatch.setattr(pretrained, "hf_hub_download", download)
    message = fail_smp()
    assert " ".join(str(error).split()) in message
    assert_helpful(message, "imagenet", "smp-hub/resnet18.imagenet", cache)


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (
            lambda: build_smp_model("Unet", "resnet18", 3, 1, "imagent"),
            "resnet18 has no weights 'imagent'; did you mean 'imagenet'",
        ),
        (lambda: build_smp_model("Unet", f"tu-{SMALL}", 3, 1, "advprop"), r"allowed: lamb_in1k, a local file, or null"),
        (lambda: build_smp_model("Unet", "tu-legacy_seresnet18", 3, 1, True), r"at https://\S+ only: download them"),
        (lambda: build_smp_model("Unet", "resnet18", 3, 1, "weights.pth"), "there is no file weights.pth"),
        (lambda: build_smp_model("Unet", "resnet18", 3, 1, "weights/resnet18"), "there is no file weights/resnet18"),
        (lambda: build_smp_model("Unet", "resnet19", 3, 1), "SMP has no encoder 'resnet19'; did you mean 'resnet18'"),
        (lambda: build_smp_model("Unet", "tu-resnet19", 3, 1), "timm has no model 'resnet19'; did you mean 'resnet18'"),
        (lambda: build_smp_model("Unet", "resnet18", 3, 1, decoder_chanels=1), "did you mean 'decoder_channels'"),
        (lambda: build_smp_model("Unet", "tu-resnet18", 3, 1, decoder_chanels=1), "did you mean 'decoder_channels'"),
        (
            lambda: build_smp_model("Unet", "tu-resnet18", 3, 1, drop_path=1),
            "Unet can't be built on tu-resnet18: .*drop_path",
        ),
        (
            lambda: build_smp_model("Unet", "resnet18", 3, 1, aux_params={"classes": 2}),
            r"opts\.aux_params: not an option of Unet",
        ),
        (
            lambda: build_smp_model("Unet", "resnet18", 3, 1, encoder_depth=4),
            "Unet can't be built on resnet18: .*depth is 4",
        ),
        (lambda: build_smp_model("Unet", "tu-vit_tiny_patch16_224", 3, 1), "Unsupported model downsampling pattern"),
        (
            lambda: build_smp_model("DPT", "tu-vit_small_patch14_dinov2", 3, 1),
            "patches are 14 pixels wide, not a power of two",
        ),
    ],
)
def test_what_does_not_exist_is_refused(build, expected: str) -> None:
    with pytest.raises(UserError, match=expected) as error:
        build()
    assert "\n" not in str(error.value)


def test_no_published_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "is_model_pretrained", lambda name: False)
    monkeypatch.setattr(pretrained.timm, "list_pretrained", lambda pattern: [])
    message = failure(build_smp_model, "Unet", f"tu-{SMALL}", 3, 1, True)
    assert message.startswith(f"encoder_weights: there are no published weights for {SMALL}: ")


def test_options_that_leave_logits_alone() -> None:
    model = build_smp_model("unet", "resnet18", 3, 1, activation=None, aux_params=None, decoder_use_batchnorm=False)
    assert not [part for part in model.decoder.modules() if isinstance(part, nn.BatchNorm2d)]


def test_home_folder_in_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    source = small()
    torch.save(source.state_dict(), tmp_path / "small.pth")
    encoder = build_smp_model("FPN", f"tu-{SMALL}", 3, 1, "~/small.pth").encoder
    assert torch.equal(encoder.model.conv_stem.weight, source.conv_stem.weight)


@pytest.mark.parametrize("bands", range(1, 13))
def test_any_band_count(bands: int) -> None:
    with torch.device("meta"):
        assert build_timm("resnet10t", bands, indices=[0, 1, 2, 3, 4]).conv1[0].in_channels == bands
