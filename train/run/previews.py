"""Previews of a run: which windows of the training and validation data are drawn."""

import math
from pathlib import Path

import numpy as np
import torch

from train.configs.config import Config
from train.datamodule import DataModule
from train.model import SegmentationModel
from train.run.folder import RunFolder
from train.run.panels import Panel, draw_labels, draw_panels, pixel_width

PREVIEWS = 6
"""Validation windows that are drawn."""
_CANDIDATES = 200
"""Validation windows that are read to choose from, at most about as many."""
_TRAINING_WINDOWS = 12


def draw_training_windows(data: DataModule, folder: RunFolder) -> Path:
    """Draw the first training windows as the network sees them, augmented as in the first epoch.

    Returns:
        Path of the PNG.
    """
    dataset = data.train_dataset()
    samples = [dataset[(0, index)] for index in range(min(_TRAINING_WINDOWS, len(dataset.windows)))]
    dataset.reader.close()
    path = folder.previews / "augmentations.png"
    folder.previews.mkdir(exist_ok=True)
    draw_labels([s[0] for s in samples], [s[1] for s in samples], *_legend(data.config), path)
    return path


def draw_previews(model: SegmentationModel, data: DataModule, folder: RunFolder, title: str = "") -> list[Path]:
    """Draw windows of the val split as image, label, prediction and errors, under a title.

    Returns:
        Paths of the PNGs, `overview.png` first.
    """
    return draw_panels(_panels(model, data), *_legend(data.config), folder.previews, title)


def _legend(config: Config) -> tuple[list[str], int | None, int]:
    return config.class_names, config.background_index, config.ignore_index


@torch.inference_mode()
def _panels(model: SegmentationModel, data: DataModule) -> list[Panel]:
    """Return windows of the val split with their predictions, from most foreground to least."""
    config = data.config
    dataset = data.grid_dataset("val")
    every = max(1, math.ceil(len(dataset) / _CANDIDATES))
    background = config.background_index
    found = []
    for index in range(0, len(dataset), every):
        label = dataset[index][1]
        labelled = label[label != config.ignore_index]
        if labelled.size:
            found.append((labelled.size / label.size, float((labelled != background).mean()), index))
    # Windows that are mostly unlabelled or beyond the edge are drawn only where there are no better ones.
    enough = next((s for s in (0.8, 0.3, 0.0) if sum(f[0] > s for f in found) >= PREVIEWS), 0.0)
    shares = sorted(((foreground, index) for size, foreground, index in found if size > enough), reverse=True)
    if not shares:
        return []
    wanted = np.unique(np.linspace(0, len(shares) - 1, min(PREVIEWS, len(shares))).round().astype(int))
    device = next(model.parameters()).device
    model.eval()
    panels = []
    for index in (shares[i][1] for i in wanted):
        image, label, (scene, row, col) = dataset[index]
        batch = torch.from_numpy(image)[None].permute(0, 3, 1, 2).to(device)
        prediction = model.predict_classes(batch)[0].cpu().numpy().astype(np.uint8)
        shown = dataset.scenes[scene]
        title = f"{shown.name} r{row} c{col}"
        panels.append(Panel(title, image, label, prediction, pixel_width(shown.image)))
    return panels
