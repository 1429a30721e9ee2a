"""Predictions of a model for a split: the map of each image, made with the inference code, and its pixel counts."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from eval.dataset import Split
from eval.models import Model
from eval.scoring.bootstrap import Counts
from eval.scoring.counts import Block, Grid, ScoreSettings, count_image
from inference.common.areas import usable_crs
from inference.common.progress import progress
from inference.common.raster import WINDOW_CACHE, environment, open_raster
from inference.options import DeviceName, Options
from inference.plan import make_plan
from inference.predict import Mapper
from train.data.chip import write_chip
from train.data.pairs import Scene
from train.data.reader import Reader

MAPPING_OPTIONS = (
    "tile_size",
    "overlap",
    "window",
    "batch_size",
    "tta",
    "nodata",
    "max_pixel_value",
    "resample",
    "threshold",
)
"""Options of inference.py that an evaluation passes on; --bands belongs to the split."""


@dataclass(frozen=True)
class Predictions:
    """Maps of a split by one model.

    Attributes:
        model: The model.
        split: Images and labels.
        counts: Pixel counts of each image.
        masks: Path of the map of each image.
        backend: Inference back end that ran the model.
        mapping: Options of mapping that differ from the defaults.
    """

    model: Model
    split: Split
    counts: tuple[Counts, ...]
    masks: tuple[Path, ...]
    backend: str
    mapping: Mapping[str, Any] = field(default_factory=dict)

    @property
    def threshold(self) -> float:
        """Threshold of the maps; the more probable of two softmax classes has a probability above 0.5."""
        card = self.model.card
        default = card.threshold if card.activation == "sigmoid" else 0.5
        return float(self.mapping.get("threshold", default))


def predict_split(
    model: Model,
    split: Split,
    settings: ScoreSettings,
    masks: Path,
    temporary: Path,
    device: DeviceName = "auto",
    mapping: Mapping[str, Any] | None = None,
) -> Predictions:
    """Map each image of a split and count its pixels against the labels.

    Args:
        model: The model.
        split: Images and labels.
        settings: Classes and distances to count for.
        masks: Existing folder for the maps.
        temporary: Existing folder for the probabilities of one image at a time.
        device: Device to run the model on.
        mapping: Options of mapping that differ from the defaults, some of MAPPING_OPTIONS.

    Raises:
        UserError: An image can't be read, or doesn't fit the model.
    """
    reader, mapper = Reader(split.rule), Mapper()
    counts, paths, backend = [], [], ""
    for scene in progress(split.scenes, len(split.scenes), f"mapping the {split.name} split"):
        mask, probabilities = masks / f"{scene.name}.tif", temporary / "probabilities.tif"
        image = image_file(scene, temporary)
        options = Options(
            model=model.path,
            card=model.card_file,
            probabilities=probabilities,
            bands=split.bands,
            device=device,
            cog=False,
            overwrite=True,
            **(mapping or {}),
        )
        summary = mapper.carry_out(replace(make_plan(image, mask, options, clear=False), compress=False))
        backend = summary.backend
        with open_blocks(scene, reader, mask, probabilities) as read:
            grid = Grid(scene.height, scene.width, usable_crs(scene.image), scene.transform)
            counts.append(count_image(read, grid, settings))
        probabilities.unlink()
        if scene.block is not None:
            Path(image).unlink()
        paths.append(mask)
    reader.close()
    return Predictions(model, split, tuple(counts), tuple(paths), backend, dict(mapping or {}))


def image_file(scene: Scene, temporary: Path) -> str:
    """Return the path of a scene's image; of a block a copy in a temporary folder, so that it is mapped by itself."""
    if scene.block is None:
        return scene.image.path
    chip = temporary / f"{scene.name}.tif"
    write_chip(scene, chip)
    return str(chip)


def described(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of mapping as values that JSON can hold and that equal themselves (NaN doesn't)."""
    return {name: "nan" if value != value else value for name, value in mapping.items()}


@contextmanager
def open_blocks(scene: Scene, reader: Reader, mask: Path, probabilities: Path) -> Iterator[Callable[[int, int], Block]]:
    """Open the label, map and probabilities of an image.

    Yields:
        Function from (first row, row after the last) to the block of these rows.
    """
    with environment(WINDOW_CACHE), open_raster(mask) as mapped, open_raster(probabilities) as floats:
        # For two classes, the probability of class 1 is enough.
        bands = [2] if floats.count == 2 else list(range(1, floats.count + 1))

        def read(first: int, stop: int) -> Block:
            rows = Window(0, first, scene.width, stop - first)
            label = reader.label(scene, rows)
            probability: NDArray[np.float32] = floats.read(bands, window=rows)
            prediction: NDArray[Any] = mapped.read(1, window=rows)
            counted = (label != reader.rule.ignore_index) & (mapped.dataset_mask(window=rows) > 0)
            return Block(label, prediction, probability, counted)

        yield read
