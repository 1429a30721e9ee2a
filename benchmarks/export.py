"""Exported files compared with PyTorch, for every kind of network: the table in docs/export.md.

    uv run python -m benchmarks.export                 # all rows, about half an hour on two cores
    uv run python -m benchmarks.export unet dinov2     # rows whose name begins with one of these, to stdout only

Each network is exported with the code of `train/convert_checkpoint.py`, for a fixed size and for any size. Its
probabilities are compared with those of PyTorch in float64, at the size of the trace and at another size. Weights are
random but scaled so that every layer matters and logits spread like those of a trained network: an untrained ViT
returns its input almost unchanged, and logits close to 0 would hide errors.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from inference.card import ModelCard
from inference.common.errors import UserError
from train.configs.config import Config
from train.export.export_wrapper import ExportWrapper, fixed_size_reason
from train.export.formats import FORMATS
from train.export.parity import ParityResult, check_parity, other_size, reference_output
from train.export.parity_images import parity_images
from train.model import MODELS, SegmentationModel

TILE = 128
SMP, DINO, AERIAL = "SMPSegmentationModel", "DINOv2Segmentation", "AerialFormer"
# (family, architecture, backbone): every architecture, and each kind of encoder that exporters treat differently.
ROWS: tuple[tuple[str, str, str], ...] = (
    (SMP, "Unet", "resnet18"),
    (SMP, "UnetPlusPlus", "resnet18"),
    (SMP, "FPN", "resnet18"),
    (SMP, "MAnet", "resnet18"),
    (SMP, "Linknet", "resnet18"),
    (SMP, "PAN", "resnet18"),
    (SMP, "PSPNet", "resnet18"),
    (SMP, "UPerNet", "resnet18"),
    (SMP, "DeepLabV3", "resnet18"),
    (SMP, "DeepLabV3Plus", "resnet18"),
    (SMP, "Segformer", "mit_b0"),
    (SMP, "UnetPlusPlus", "efficientnet-b0"),
    (SMP, "UnetPlusPlus", "tu-tf_efficientnetv2_s"),
    (SMP, "Unet", "tu-mobilenetv3_large_100"),
    (SMP, "Segformer", "tu-mobilenetv4_conv_small"),
    (SMP, "Segformer", "tu-mobilenetv4_hybrid_medium"),
    (SMP, "Unet", "tu-convnextv2_atto"),
    (SMP, "Unet", "tu-mambaout_femto"),
    (SMP, "Unet", "tu-swin_tiny_patch4_window7_224"),
    (SMP, "UnetPlusPlus", "vit_small_patch14_reg4_dinov2"),
    (SMP, "DPT", "tu-vit_tiny_patch16_224"),
    (DINO, "multilevel", "dinov2_s"),
    (DINO, "linear", "dinov2_s_reg"),
    (DINO, "multilevel", "vit_small_patch16_dinov3"),
    (AERIAL, "AerialFormer-T", "na"),
)


def config(family: str, architecture: str, backbone: str, tile: int = TILE) -> Config:
    """Return a config with three classes, the demo data and random weights."""
    opts: dict[str, Any] = {"encoder_weights": None}
    if "swin" in backbone or "vit_tiny" in backbone:
        opts["encoder_params"] = {"img_size": tile}
    return Config.model_validate(
        {
            "segmentation_model_cls": family,
            "num_classes": 3,
            "tile_size": tile,
            "segmentation_config": {"architecture": architecture, "backbone": backbone, "opts": opts},
            "data_module": {"data_dir": "demo://kelp", "class_names": ["background", "kelp", "other"]},
            "logging": {"project": "p", "name": "n"},
        }
    )


def random_model(settings: Config) -> tuple[SegmentationModel, ModelCard]:
    """Build a network with random weights whose layers all affect the logits, and whose logits are widely spread."""
    torch.manual_seed(0)
    card = ModelCard(
        name="n",
        task="p",
        bands=[1, 2, 3],
        dtype="uint8",
        tile_size=settings.tile_size,
        mean=[0.485, 0.456, 0.406],
        std=[0.229, 0.224, 0.225],
        max_pixel_value=255,
        class_names=["background", "kelp", "other"],
        activation="softmax",
    )
    model = MODELS[settings.segmentation_model_cls](settings.plain(), card.model_dump(mode="json"))
    for name, parameter in model.named_parameters():
        if name.endswith((".gamma", ".gamma_1", ".gamma_2")):  # LayerScale is initialised with 1e-5
            nn.init.constant_(parameter, 0.3)
        elif name.endswith(("pos_embed", "relative_position_bias_table")):
            nn.init.normal_(parameter, std=0.2)
    image = model.normalize(parity_images([settings], card, (settings.tile_size, settings.tile_size)).image)
    with torch.no_grad():
        model.train()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 0.3
        for _ in range(10):
            model(image)  # adapt the running statistics to the image
        model.eval()
        spread = model(image).std()
        last = [m for m in model.model.modules() if isinstance(m, nn.Conv2d)][-1]
        last.weight *= 3 / spread
    return model.requires_grad_(False), card


def rows(wanted: Sequence[tuple[str, str, str]], folder: Path) -> Iterator[str]:
    """Yield a row of the table for each network, format and size."""
    for family, architecture, backbone in wanted:
        settings = config(family, architecture, backbone)
        model, card = random_model(settings)
        title = f"{architecture}, {backbone}" if family != AERIAL else architecture
        for key, chosen in FORMATS.items():
            for any_size in (False, True):
                what = f"| {title} | {key} | {'any size' if any_size else 'tile size'} "
                if any_size and (reason := fixed_size_reason(model)):
                    yield f"{what}| refused: {reason} | | |"
                    continue
                asked = card.model_copy(update={"any_size": any_size, "output": "probabilities"})
                yield what + measure(model, asked, settings, chosen, folder / f"file{chosen.suffix}")


def measure(model: SegmentationModel, card: ModelCard, settings: Config, chosen: Any, path: Path) -> str:
    """Export a network, compare it with PyTorch, and return the cells of difference, seconds and megabytes."""
    network = ExportWrapper(model, "probabilities").eval()
    tile, cpu = card.tile_size, torch.device("cpu")
    found: list[ParityResult] = []
    for size in [(tile, tile)] + ([other_size(tile)] if card.any_size else []):
        image = model.normalize(parity_images([settings], card, size).image)
        if not found:
            began = time.perf_counter()
            try:
                chosen.write(network, card, image, path)
            except UserError as error:
                return f"| refused: {str(error).partition(': ')[2][:90]} | | |"
            seconds = time.perf_counter() - began
        found.append(check_parity(chosen.load(path, cpu), reference_output(network, image, cpu), card))
    shown = ", ".join(f"{one.difference:.0e}" if one.error is None else "can't be run" for one in found)
    verdict = "correct" if all(one.passed for one in found) else "wrong, refused when converting"
    return f"| {verdict}: {shown} | {seconds:.0f} | {path.stat().st_size / 1e6:.0f} |"


_OTHER = "{}x{}".format(*other_size(TILE))
HEADER = f"""\
# Networks and file formats

Written by `python -m benchmarks.export`; do not edit. For every network: the exported file for the tile size, and with
`--dynamic` for any size. The numbers are the largest difference in any probability from PyTorch in float64 (batch 1)
or float32 (batch 2), at {TILE}x{TILE} and, for any size, at {_OTHER}. *Refused* and *wrong* files are never written:
the converter reports them and ends with exit code 2 or 3. PSPNet and UPerNet pool into a fixed number of bins, which
exporters record for one size only, so the pooling is exported as matrix products. Seconds are the time for writing.

| network | file | size | largest difference | seconds | MB |
|---|---|---|---|---|---|
"""


def main() -> None:
    """Export every network, print the rows, and write the page if all were asked for."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("rows", nargs="*", help="first letters of architectures or backbones (default: all)")
    begins = tuple(name.lower() for name in arguments.parse_args().rows)
    wanted = [
        row for row in ROWS if not begins or row[1].lower().startswith(begins) or row[2].lower().startswith(begins)
    ]
    lines = []
    with tempfile.TemporaryDirectory() as name:
        for line in rows(wanted, Path(name)):
            print(line, flush=True)
            lines.append(line)
    if not begins:
        path = Path(__file__).parents[1] / "docs" / "export.md"
        path.write_text(HEADER + "\n".join(lines) + "\n", encoding="utf-8")
        sys.stderr.write(f"{path}\n")


if __name__ == "__main__":
    main()
