"""Model that is mapped with inference.py and with habitat-mapper, and the scores of each kind of map."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from eval.kom.habitat_mapper import HabitatMapper
from eval.scoring import confusion
from eval.scoring.confusion import Floats
from eval.scoring.counts import target_class
from inference.card import ModelCard
from inference.common.errors import CheckFailed
from inference.common.raster import open_raster
from inference.predict import Mapper
from train.data.pairs import Scene
from train.data.reader import Reader

_ROWS = 512

OURS, THEIRS, POST_PROCESSED = "inference.py", "habitat-mapper", "habitat-mapper, post-processed"
"""Kinds of map, as the printed table calls them."""
SUFFIXES = {OURS: "_ours", THEIRS: "_habitat-mapper", POST_PROCESSED: "_post-processed"}
"""Ends of the names of the maps, before .tif."""


@dataclass
class ScoredModel:
    """Model with its pixel counts for each kind of map.

    Attributes:
        name: Name to show to the user.
        path: Path of the .onnx or .pt file.
        card: Model card.
        card_file: JSON file used in place of the embedded card.
        habitat_mapper: habitat-mapper with the model registered; None: only inference.py maps.
        refusal: Reason why habitat-mapper can't run the model; empty if it can.
        confusion: For each kind of map, (K, K) pixels: rows are labelled classes, columns predicted classes.
        changed: Number of valid pixels that habitat-mapper's post-processing changes.
    """

    name: str
    path: Path
    card: ModelCard
    card_file: Path | None = None
    habitat_mapper: HabitatMapper | None = None
    refusal: str = ""
    confusion: dict[str, Floats] = field(default_factory=dict)
    changed: int = 0

    def __post_init__(self) -> None:
        self._mapper = Mapper()

    def map(self, image: Path, out: Path, blur: int, morph: int) -> dict[str, Path]:
        """Map an image with both programs.

        Args:
            image: GeoTIFF.
            out: Existing folder for the maps.
            blur: Side of habitat-mapper's median filter for the post-processed map, pixels.
            morph: Side of its morphological opening and closing, pixels.

        Returns:
            Path of each kind of map.

        Raises:
            UserError: inference.py can't map the image.
            CheckFailed: habitat-mapper fails.
        """
        paths = {kind: out / f"{image.stem}{suffix}.tif" for kind, suffix in SUFFIXES.items()}
        threshold = 0.5 if len(self.card.class_names) == 2 else None
        self._mapper.predict(
            image, paths[OURS], model=self.path, card=self.card_file, threshold=threshold, cog=False, overwrite=True
        )
        if self.habitat_mapper is None:
            return {OURS: paths[OURS]}
        self.habitat_mapper.map(image, paths[THEIRS])
        self.habitat_mapper.map(image, paths[POST_PROCESSED], blur, morph)
        return paths

    def count(self, maps: dict[str, Path], scene: Scene | Path, reader: Reader | None) -> None:
        """Add the pixels that post-processing changes and, if there are labels, the confusion matrix of each map.

        Args:
            maps: Path of each kind of map.
            scene: Image with its label, or an image without one.
            reader: Reader of labels; None without labels.

        Raises:
            CheckFailed: A map has a value that is not a class.
        """
        classes = len(self.card.class_names)
        for window, valid, found in _read_strips(maps):
            if POST_PROCESSED in found:
                self.changed += int(((found[THEIRS] != found[POST_PROCESSED]) & valid).sum())
            if reader is None or not isinstance(scene, Scene):
                continue
            label = reader.label(scene, window)
            counted = valid & (label != reader.rule.ignore_index)
            for kind, prediction in found.items():
                if (highest := int(prediction.max(where=counted, initial=0))) >= classes:
                    raise CheckFailed(f"{maps[kind]}: {kind} maps valid pixels as {highest}, which is no class")
                total = self.confusion.setdefault(kind, np.zeros((classes, classes)))
                total += confusion.confusion_matrix(label, prediction, counted, classes)

    def table(self) -> list[str]:
        """Return a line for each kind of map: IoU and Dice of the target class, or their means over classes."""
        target = target_class(self.card)
        lines = []
        for kind, counts in self.confusion.items():
            scores = confusion.class_scores(counts)
            iou, dice = (
                float(confusion.mean_of_present(values) if target is None else values[target])
                for values in (scores["iou"], scores["dice"])
            )
            shown = ["n/a" if math.isnan(score) else f"{score:.4f}" for score in (iou, dice)]
            lines.append(f"  {kind:<32} IoU {shown[0]}  Dice {shown[1]}")
        return lines


def _read_strips(maps: dict[str, Path]) -> Iterator[tuple[Window, NDArray[np.bool_], dict[str, NDArray[np.uint8]]]]:
    """Read maps of one image in strips: window, pixels that are valid in our map, and classes by kind of map."""
    files = {kind: open_raster(path) for kind, path in maps.items()}
    try:
        ours = files[OURS]
        for row in range(0, ours.height, _ROWS):
            window = Window(0, row, ours.width, min(_ROWS, ours.height - row))
            valid = ours.dataset_mask(window=window) > 0
            yield window, valid, {kind: file.read(1, window=window) for kind, file in files.items()}
    finally:
        for file in files.values():
            file.close()
