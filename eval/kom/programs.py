"""A model that both programs map the same images with, and how right each of the maps is."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from eval.kom.habitat_mapper import HabitatMapper
from eval.scoring import confusion
from eval.scoring.confusion import Floats
from inference.card import ModelCard
from inference.common.errors import CheckFailed
from inference.common.raster import open_raster
from inference.predict import Mapper
from train.data.pairs import Scene
from train.data.reader import Reader

_ROWS = 512

OURS, THEIRS, AFTER = "ours", "habitat-mapper", "habitat-mapper, post-processed"
_ENDS = {OURS: "_ours", THEIRS: "_habitat-mapper", AFTER: "_post-processed"}


@dataclass
class Entrant:
    """A model in both programs.

    Attributes:
        name: As the user knows it.
        path: The .onnx or .pt file.
        card: Its card.
        card_file: JSON in place of the card that the file carries.
        mapper: The habitat-mapper that knows it; None: only our code maps.
        missing: Why habitat-mapper doesn't.
        scores: For each kind of map, (classes, classes) pixels: rows as labelled, columns as mapped.
        changed: Valid pixels that habitat-mapper's post-processing changes.
    """

    name: str
    path: Path
    card: ModelCard
    card_file: Path | None = None
    mapper: HabitatMapper | None = None
    missing: str = ""
    scores: dict[str, Floats] = field(default_factory=dict)
    changed: int = 0

    def __post_init__(self) -> None:
        self._ours = Mapper()

    def map(self, image: Path, out: Path, blur: int, morph: int) -> dict[str, Path]:
        """Maps an image; returns the map of each kind.

        Args:
            image: A GeoTIFF.
            out: An existing folder for the maps.
            blur: Side of habitat-mapper's median filter, where it post-processes.
            morph: Side of its opening and closing.

        Raises:
            UserError: We can't map it.
            CheckFailed: habitat-mapper can't.
        """
        paths = {kind: out / f"{image.stem}{end}.tif" for kind, end in _ENDS.items()}
        threshold = 0.5 if len(self.card.class_names) == 2 else None
        self._ours.predict(
            image, paths[OURS], model=self.path, card=self.card_file, threshold=threshold, cog=False, overwrite=True
        )
        if self.mapper is None:
            return {OURS: paths[OURS]}
        self.mapper.map(image, paths[THEIRS])
        self.mapper.map(image, paths[AFTER], blur, morph)
        return paths

    def count(self, maps: dict[str, Path], scene: Scene | Path, reader: Reader | None) -> None:
        """Counts what post-processing changed, and, where there are labels, what is right."""
        classes = len(self.card.class_names)
        for window, valid, found in _read(maps):
            if AFTER in found:
                self.changed += int(((found[THEIRS] != found[AFTER]) & valid).sum())
            if reader is None or not isinstance(scene, Scene):
                continue
            label = reader.label(scene, window)
            counted = valid & (label != reader.rule.ignore_index)
            for kind, prediction in found.items():
                if (highest := int(prediction.max(where=counted, initial=0))) >= classes:
                    raise CheckFailed(f"{maps[kind]}: {kind} maps valid pixels as {highest}, which is no class")
                before = self.scores.setdefault(kind, np.zeros((classes, classes)))
                before += confusion.count(label, prediction, counted, classes)

    def table(self) -> list[str]:
        """A line for each kind of map: IoU and Dice of the target, or their means over classes."""
        target = target_of(self.card)
        lines = []
        for kind, counts in self.scores.items():
            scores = confusion.class_scores(counts)
            iou, dice = (
                float(confusion.mean_of_present(values) if target is None else values[target])
                for values in (scores["iou"], scores["dice"])
            )
            lines.append(f"  {kind:<32} IoU {iou:.4f}  Dice {dice:.4f}")
        return lines


def target_of(card: ModelCard) -> int | None:
    """The class that is looked for; None where there are several."""
    return 1 - card.background_index if len(card.class_names) == 2 and card.background_index is not None else None


def _read(maps: dict[str, Path]) -> Iterator[tuple[Window, NDArray[np.bool_], dict[str, NDArray[np.uint8]]]]:
    """Strips of maps of one image: where they lie, which pixels are valid by our map, and the classes."""
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
