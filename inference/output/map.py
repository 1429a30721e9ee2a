"""Writing of a map: probabilities to classes, files and totals by class, block by block from top to bottom."""

import json
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.common.palette import MAP_COLOURS, class_colours, red_green_blue
from inference.model.probabilities import class_probabilities, classify, probability_channels
from inference.output.geotiff import BLOCK, Output
from inference.output.summary import ClassCounter, ClassTotal
from inference.plan import Plan

SOFTWARE = "hakai-ml-train"
"""Name of the software in the metadata of a map."""
NODATA = 255
"""Value of invalid pixels in the map of a model without a background class."""


class MapWriter:
    """Writer of the map and, if requested, of the probabilities, fed with rows of blended probabilities.

    Args:
        plan: Plan of the run.
        backend: Title of the back end, for the map's metadata.

    Attributes:
        counter: Pixels and areas by class so far.

    Raises:
        UserError: A file can't be written.
    """

    def __init__(self, plan: Plan, backend: str) -> None:
        header, card = plan.source.header, plan.card
        self._threshold, self._height, self._width = plan.threshold, header.height, header.width
        self._blank = NODATA if card.background_index is None else 0
        self.counter = ClassCounter(len(card.class_names), header.crs, header.transform, header.width)
        self._names = list(card.class_names)
        self._presence_first = card.presence_channels > 0
        tags = _tags(plan, backend)
        common: dict[str, Any] = {
            "overwrite": plan.options.overwrite,
            "cog": plan.options.cog,
            "threads": plan.source.threads,
        }
        self._files: list[Output] = []
        try:
            self._map = Output(
                plan.target,
                header,
                bands=1,
                dtype="uint8",
                nodata=NODATA if card.background_index is None else None,
                masked=card.background_index is not None and plan.source.may_be_invalid,
                tags=tags,
                names=[card.task],
                colours=_colours(len(card.class_names), card.background_index),
                **common,
            )
            self._files.append(self._map)
            self._floats: Output | None = None
            if plan.probabilities is not None:
                names, count = card.class_names, len(card.class_names)
                self._floats = Output(
                    plan.probabilities,
                    header,
                    bands=count,
                    dtype="float32",
                    nodata=np.nan,
                    tags=tags,
                    names=names,
                    **common,
                )
                self._files.append(self._floats)
        except BaseException:
            self.discard()
            raise
        rows = min(BLOCK, header.height)
        self._row = self._filled = 0
        self._block = np.empty((rows, header.width), np.uint8)
        count = probability_channels(card) if self._floats is not None else 0
        self._probability = np.empty((count, rows, header.width), np.float32)
        self._validity: deque[tuple[int, int, NDArray[np.bool_] | None]] = deque()

    def add_validity(self, row: int, rows: int, invalid: NDArray[np.bool_] | None) -> None:
        """Set the validity of the next rows of the mosaic; call it before `add_rows` for the same rows.

        Args:
            row: First of the rows.
            rows: Number of rows.
            invalid: (rows, width) bool, True at invalid pixels; None where all pixels are valid.
        """
        self._validity.append((row, row + rows, invalid))

    def add_rows(self, probability: NDArray[np.float32]) -> None:
        """Add the next rows of probabilities, (channels, n, width) float32, and write the blocks that are complete."""
        done = 0
        while done < probability.shape[1]:
            part = min(len(self._block) - self._filled, probability.shape[1] - done)
            rows, place = np.s_[done : done + part], np.s_[self._filled : self._filled + part]
            classify(probability[:, rows], self._threshold, self._block[place], self._presence_first)
            if self._floats is not None:
                self._probability[:, place] = probability[:, rows]
            self._filled += part
            done += part
            if self._filled == len(self._block) or self._row + self._filled == self._height:
                self._flush()

    def finish(self) -> list[ClassTotal]:
        """Finish all files, rename them to their final names, and return the totals by class."""
        assert self._row == self._height
        for file in self._files:
            file.complete()
        for file in reversed(self._files):  # the map last: where it exists, the other files do too
            file.publish()
        areas = self.counter.areas
        return [
            ClassTotal(name, value, int(self.counter.pixels[value]), None if areas is None else float(areas[value]))
            for value, name in enumerate(self._names)
        ]

    def discard(self) -> None:
        """Delete the unfinished files."""
        for file in self._files:
            file.discard()

    def _flush(self) -> None:
        block = self._block[: self._filled]
        invalid = self._invalid(self._row, self._filled)
        self.counter.add(self._row, block, invalid)
        if invalid is not None:
            block[invalid] = self._blank
        self._map.write(self._row, block[None], invalid)
        if self._floats is not None:
            bands = class_probabilities(self._probability[:, : self._filled])
            if invalid is not None:
                bands[:, invalid] = np.nan
            self._floats.write(self._row, bands, invalid)
        self._row, self._filled = self._row + self._filled, 0

    def _invalid(self, row: int, rows: int) -> NDArray[np.bool_] | None:
        """Return the invalid pixels of some rows, (rows, width) bool; None where all pixels are valid."""
        while self._validity and self._validity[0][1] <= row:
            self._validity.popleft()
        parts = [part for part in self._validity if part[0] < row + rows]
        if all(invalid is None for _, _, invalid in parts):
            return None
        found = np.zeros((rows, self._width), np.bool_)
        for first, last, invalid in parts:
            if invalid is not None:
                start, stop = max(row, first), min(row + rows, last)
                found[start - row : stop - row] = invalid[start - first : stop - first]
        return found


def _colours(classes: int, background: int | None) -> dict[int, tuple[int, int, int]]:
    colours = {value: red_green_blue(each) for value, each in class_colours(classes, background, MAP_COLOURS).items()}
    colours[NODATA if background is None else background] = (0, 0, 0)
    return colours


def _tags(plan: Plan, backend: str) -> dict[str, str]:
    """Return the map's metadata: model, classes and settings."""
    card, options = plan.card, plan.options
    names: Sequence[str] = card.class_names
    tags = {
        "CLASS_NAMES": json.dumps(dict(enumerate(names)), ensure_ascii=False),
        "MODEL": card.name,
        "MODEL_TASK": card.task,
        "MODEL_REVISION": card.revision or "",
        "MODEL_LICENCE": card.licence or "",
        "MODEL_FILE": plan.request.path.name,
        "BACKEND": backend,
        "TILE_SIZE": str(plan.rows.tile),
        "OVERLAP": f"{options.overlap:g}",
        "WINDOW": options.window,
        "THRESHOLD": f"{plan.threshold:g}" if len(names) == 2 else "",
        "TEST_TIME_AUGMENTATION": "flips and turns" if options.tta else "",
        "RESAMPLED_BY": f"{plan.factor:.6g}" if plan.factor is not None else "",
        "TIFFTAG_SOFTWARE": SOFTWARE,
    }
    return {key: value for key, value in tags.items() if value}
