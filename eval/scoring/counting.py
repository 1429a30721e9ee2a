"""Maps each image of a split with the code that maps mosaics, and counts what is right."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from eval.dataset import Split
from eval.models import Model
from eval.scoring.bootstrap import Counts
from eval.scoring.scores import Block, Classes, Grid, count_image
from inference.common.progress import progress
from inference.common.raster import WINDOW_CACHE, environment, open_raster
from inference.predict import Mapper
from train.data.pairs import Scene
from train.data.reader import Reader


@dataclass(frozen=True)
class Judged:
    """What one model did on one split.

    Attributes:
        model: The model.
        split: The data.
        counts: Of each image.
        masks: The map of each image; empty where they weren't kept.
        backend: What ran it.
    """

    model: Model
    split: Split
    counts: tuple[Counts, ...]
    masks: tuple[Path, ...]
    backend: str


def judge(model: Model, split: Split, classes: Classes, masks: Path, temporary: Path, device: str = "auto") -> Judged:
    """Maps and counts.

    Args:
        model: The model.
        split: The data.
        classes: What to score.
        masks: An existing folder for the maps.
        temporary: An existing folder for the probabilities of one image.
        device: Where to run.

    Raises:
        UserError: An image can't be read, or doesn't fit the model.
    """
    reader, mapper = Reader(split.rule), Mapper()
    counts, paths, backend = [], [], ""
    for scene in progress(split.scenes, len(split.scenes), f"mapping the {split.name} split"):
        target, floats = masks / f"{scene.pair.name}.tif", temporary / "probabilities.tif"
        summary = mapper.predict(
            scene.pair.image,
            target,
            model=model.path,
            card=model.card_file,
            probabilities=floats,
            bands=split.bands,
            device=device,
            cog=False,
            overwrite=True,
        )
        backend = summary.backend
        with blocks(scene, reader, target, floats) as read:
            grid = Grid(scene.height, scene.width, scene.image.crs, scene.image.transform)
            counts.append(count_image(read, grid, classes))
        floats.unlink()
        paths.append(target)
    reader.close()
    return Judged(model, split, tuple(counts), tuple(paths), backend)


@contextmanager
def blocks(scene: Scene, reader: Reader, mask: Path, floats: Path) -> Iterator[Callable[[int, int], Block]]:
    """Opens what is to be compared; gives a function from (first row, row after the last) to these rows."""
    with environment(WINDOW_CACHE), open_raster(mask) as classes, open_raster(floats) as probabilities:
        # Two classes: the probability of class 1 says all.
        bands = [2] if probabilities.count == 2 else list(range(1, probabilities.count + 1))

        def read(first: int, stop: int) -> Block:
            rows = Window(0, first, scene.width, stop - first)
            label = reader.label(scene, rows)
            probability: NDArray[np.float32] = probabilities.read(bands, window=rows)
            prediction: NDArray[Any] = classes.read(1, window=rows)
            counted = (label != reader.rule.ignore_index) & (classes.dataset_mask(window=rows) > 0)
            return Block(label, prediction, probability, counted)

        yield read
