"""Every config that comes with the project: it reads, its network is built and takes any image, and it learns.

In the default tier networks are on the meta device: real shapes, no content. The slow tier runs a real step of each.
"""

import re
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import yaml
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.models import BEGIN, CONFIGS, END, PAGE, build_empty, count_macs, row, saved_for_backward, shipped
from train.configs.config import Config
from train.configs.loader import load_config
from train.data.normalization import IMAGENET_MEAN, IMAGENET_STD
from train.losses import build_loss
from train.model import MODELS

SMALL = ["tile_size=64", "batch_size=2", "segmentation_config.opts.encoder_weights=null"]

ZOO = {
    "kelp-rgb": [
        "pa-aerialformer",
        "pa-deeplabv3p-efficientnetv2-m",
        "pa-fpn-efficientnetv2-m",
        "pa-manet-efficientnetv2-m",
        "pa-unetpp-efficientnetv2-m",
        "pa-segformer-mambaout-small",
        "pa-segformer-mit-b3",
        "pa-segformer-mit-b5",
        "pa-segformer-mobilenetv4-conv-m",
        "pa-segformer-mobilenetv4-hybrid-m",
        "pa-segformer-tf-efficientnet-v2-m",
        "pa-segformer-tf-efficientnet-v2-s",
        "pa-unetpp-efficientnet-b4",
        "pa-unetpp-efficientnetv2-l",
        "pa-unetpp-efficientnetv2-s",
        "pa-unetpp-mobilenetv3-l",
        "pa-unetpp-vit-base-patch14-reg4-dinov2",
        "sp-segformer-mit-b3",
        "sp-unetpp-efficientnetv2-m",
        "sp-unetpp-efficientnetv2-s",
        "sp-unetpp-mobilenetv3-large-100",
    ],
    "mussels-rgb": [
        "unetpp-convnextv2-large",
        "unetpp-convnextv2-tiny",
        "unetpp-efficientnet-b4",
        "unetpp-efficientnetv2-m",
        "unetpp-efficientnetv2-s",
        "unetpp-vit-base-patch14-reg4-dinov2",
    ],
}

every_config = pytest.mark.parametrize("path", shipped(), ids=lambda p: f"{p.parent.name}/{p.stem}")


def values(node: Any) -> list[Any]:
    """All that stands in a YAML document, keys apart."""
    if isinstance(node, dict | list):
        return [value for item in (node.values() if isinstance(node, dict) else node) for value in values(item)]
    return [node]


def test_the_whole_zoo_is_there() -> None:
    assert sum(map(len, ZOO.values())) == 27
    for folder, names in ZOO.items():
        assert {path.stem for path in (CONFIGS / folder).iterdir()} == set(names), folder
    assert {"unet-mobilenetv2.yml", "your-own-data.yml"} <= {path.name for path in shipped()}


@every_config
def test_reads_as_it_is_meant(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("# "), "a header line says what it is good for"
    assert len(text.splitlines()) < 50
    loaded = load_config(path)
    assert loaded.notices == []  # nothing in our own files is translated or passed over
    for value in values(yaml.safe_load(text)):
        assert not re.match(r"[/~\\]|[A-Za-z]:[/\\]|file:", str(value)), f"{value} lies on somebody's machine"
    if path.parent.name not in ZOO:
        return
    config, data = loaded.config, loaded.config.data_module
    assert data.class_names is not None
    if path.stem.startswith("sp-"):
        assert (config.num_classes, data.background_index) == (2, "none")
        assert data.label_map == {0: 2, 1: 0, 2: 1}
        assert config.ignore_index == 2
    else:
        assert config.num_classes == 1
        assert data.class_names[0] == "background"
        assert data.label_map is None
    assert config.segmentation_config.opts.encoder_weights == "imagenet"
    assert config.batch_size * config.trainer.accumulate_grad_batches == (8 if "aerialformer" in path.stem else 24)


@every_config
def test_pixels_are_normalised_as_in_pretraining(path: Path) -> None:
    config = load_config(path).config
    name = str(config.segmentation_config.backbone)
    expected: tuple[Any, Any] = (IMAGENET_MEAN, IMAGENET_STD)  # SMP's own encoders, and Swin
    if name.startswith("tu-"):
        pretrained = timm.models.get_pretrained_cfg(name.removeprefix("tu-"))
        expected = (pretrained.mean, pretrained.std)
    else:
        assert name == "na" or name in smp.encoders.encoders
    data = config.data_module
    given = (tuple(data.mean), tuple(data.std)) if data.mean and data.std else (IMAGENET_MEAN, IMAGENET_STD)
    assert given == expected


@every_config
def test_takes_any_image(path: Path) -> None:
    config = load_config(path, SMALL).config
    network = build_empty(config).eval()
    run = MODELS[config.segmentation_model_cls].run_network
    for height, width in ((64, 64), (61, 75)):
        logits = run(network, torch.empty(2, config.num_bands, height, width, device="meta"))
        assert logits.shape == (2, config.num_classes, height, width)
    frozen = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    encoder = {name for name, _ in network.named_parameters() if name.startswith("encoder.")}
    assert frozen == (encoder if config.segmentation_config.freeze_encoder else set())


@pytest.mark.slow
@every_config
def test_learns(path: Path) -> None:
    """One real step of training has a finite loss and changes what it should."""
    config = load_config(path, SMALL).config
    family = MODELS[config.segmentation_model_cls]
    torch.manual_seed(0)
    network = family.build(config, None)
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    frozen = bool(config.segmentation_config.freeze_encoder)
    network.train()
    if frozen:
        network.encoder.requires_grad_(False)  # type: ignore[union-attr]
        network.encoder.eval()  # type: ignore[union-attr]
    loss = build_loss(config.loss_terms, num_classes=config.num_classes, ignore_index=config.ignore_index)
    image = torch.randn(2, config.num_bands, 64, 64)
    label = torch.randint(0, 3, (2, 64, 64))  # 2 is ignored in all of them
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=1e-4)
    value = loss(family.run_network(network, image), label)
    value.backward()
    optimizer.step()
    assert value.isfinite()
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)
    for name, parameter in network.named_parameters():
        held = frozen and name.startswith("encoder.")
        if held or parameter.grad is None:
            assert torch.equal(parameter, before[name]), name
    moved = sum(not torch.equal(parameter, before[name]) for name, parameter in network.named_parameters())
    assert moved > (0.2 if frozen else 0.8) * sum(p.requires_grad for p in network.parameters())


OLD = """
segmentation_model_cls: SMPSegmentationModel
enable_logging: true
tags: [a, b]
num_bands: &bands 3
num_classes: &classes 1
tile_size: &tile 896
batch_size: &batch 4
max_epoch: &epochs 20
segmentation_config:
  architecture: "{architecture}"
  backbone: "{backbone}"
  freeze_encoder: false
  opts: {opts}
  num_classes: *classes
  ignore_index: 2
  lr: 0.0003
  weight_decay: 0.0001
  num_bands: *bands
  tile_size: *tile
  batch_size: *batch
  max_epochs: *epochs
  warmup_period: 0.1
  loss: {{name: "LovaszLoss", opts: {{mode: "binary", from_logits: true}}}}
data_module: {{data_dir: "data/", tile_size: *tile, num_classes: *classes, batch_size: *batch, fill_value: 0, fill_mask: 0,
  num_workers: 4, pin_memory: true, persistent_workers: true}}
trainer: {{accumulate_grad_batches: 32, gradient_clip_val: 0.5, max_epochs: *epochs, precision: "16-mixed", deterministic: false}}
logging: {{project: "p", name: "n", save_dir: "./checkpoints", log_model: true}}
"""  # noqa: E501
PYRAMID = (
    "{encoder_weights: true, encoder_depth: 4, encoder_indices: [2, 5, 8, 11], "
    "encoder_params: {scale_factors: [4, 2, 1, 0.5], img_size: 896}, "
    "decoder_channels: [128, 64, 32, 16], head_upsampling: 1.75}"
)


@pytest.mark.parametrize(
    ("config", "architecture", "backbone", "opts"),
    [
        ("kelp-rgb/pa-unetpp-efficientnetv2-m", "UnetPlusPlus", "tf_efficientnetv2_m", "{encoder_weights: true}"),
        ("kelp-rgb/pa-manet-efficientnetv2-m", "MANet", "tf_efficientnetv2_m", "{encoder_weights: true}"),
        ("kelp-rgb/pa-segformer-mit-b3", "SegFormer", "mit_b3", "{encoder_weights: imagenet}"),
        ("kelp-rgb/pa-unetpp-mobilenetv3-l", "UnetPlusPlus", "mobilenetv3_large_100", "{encoder_weights: true}"),
        ("kelp-rgb/pa-unetpp-vit-base-patch14-reg4-dinov2", "UnetPlusPlus", "vit_base_patch14_reg4_dinov2", PYRAMID),
        ("mussels-rgb/unetpp-efficientnet-b4", "UnetPlusPlus", "efficientnet_b4", "{encoder_weights: ImageNet}"),
    ],
)
def test_files_of_the_original_tool_mean_the_same_network(
    config: str, architecture: str, backbone: str, opts: str, tmp_path: Path
) -> None:
    path = tmp_path / "old.yml"
    path.write_text(OLD.format(architecture=architecture, backbone=backbone, opts=opts))
    old, ours = load_config(path).config, load_config(CONFIGS / f"{config}.yml").config
    assert old.segmentation_config.architecture == ours.segmentation_config.architecture
    assert old.segmentation_config.backbone == ours.segmentation_config.backbone

    def shapes(config: Config) -> dict[str, torch.Size]:
        return {key: value.shape for key, value in build_empty(config).state_dict().items() if "pos_embed" not in key}

    assert shapes(old) == shapes(ours)


class TestCounting:
    """The figures of docs/models.md."""

    @staticmethod
    def of(cls: str = "SMPSegmentationModel", **network: Any) -> Config:
        return Config.model_validate(
            {
                "segmentation_model_cls": cls,
                "num_classes": 16,
                "tile_size": 64,
                "batch_size": 2,
                "segmentation_config": {"opts": {"encoder_weights": None}, **network},
                "data_module": {"data_dir": "d"},
            }
        )

    @pytest.mark.parametrize(("variant", "published"), [("T", 42_711_626), ("S", 64_029_530), ("B", 113_822_292)])
    def test_aerialformer_has_the_published_parameters(self, variant: str, published: int) -> None:
        network = build_empty(self.of("AerialFormer", architecture=f"AerialFormer-{variant}"))
        assert sum(p.numel() for p in network.parameters()) == published

    def test_multiply_adds_of_known_networks(self) -> None:
        conv = torch.nn.Conv2d(3, 8, 3, stride=2, padding=1, device="meta")
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            conv(torch.empty(1, 3, 64, 64, device="meta"))
        assert counter.get_total_flops() // 2 == 32 * 32 * 8 * 3 * 3 * 3
        with torch.device("meta"):
            resnet18 = timm.create_model("resnet18").eval()
            with FlopCounterMode(display=False) as counter:
                resnet18(torch.empty(1, 3, 224, 224))
        assert counter.get_total_flops() / 2e9 == pytest.approx(1.82, abs=0.01)
        config = self.of()
        network = build_empty(config)
        assert count_macs(config, network, 128) == pytest.approx(4 * count_macs(config, network, 64), rel=0.01)

    def test_memory_of_a_network_counted_by_hand(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A convolution keeps its input, ReLU its output: once, though the next convolution keeps it too."""
        config = self.of()
        with torch.device("meta"):
            stack = torch.nn.Sequential(
                torch.nn.Conv2d(3, 8, 1, bias=False), torch.nn.ReLU(), torch.nn.Conv2d(8, 1, 1, bias=False)
            )
        monkeypatch.setattr(MODELS["SMPSegmentationModel"], "run_network", staticmethod(lambda net, image: net(image)))
        with FakeTensorMode(allow_non_fake_inputs=True):
            saved = saved_for_backward(config, stack.to_empty(device="cuda"))
        pixels = 2 * 64 * 64
        # The last is what the stand-in for a loss keeps: the logits.
        assert sorted(saved) == sorted([4 * 3 * pixels, 4 * 8 * pixels, 4 * 1 * pixels])


def page_rows() -> dict[str, str]:
    table = PAGE.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0]
    return {line.split("`")[1]: line for line in table.splitlines() if line.startswith("| `")}


def test_the_page_has_them_all_and_agrees_with_their_headers() -> None:
    rows = page_rows()
    assert set(rows) == {path.relative_to(CONFIGS).as_posix() for path in shipped()}
    for name, line in rows.items():
        if name.split("/")[0] in ZOO:
            gib, card = (cell.strip() for cell in line.split("|")[-3:-1])
            header = (CONFIGS / name).read_text().partition("segmentation_model_cls")[0]
            assert f"# GPU: {card} GB (about {gib} GiB, an estimate" in header, name


@pytest.mark.slow
@every_config
def test_the_page_is_up_to_date(path: Path) -> None:
    assert page_rows()[path.relative_to(CONFIGS).as_posix()] == row(path)
