"""Writing of a map: probabilities to classes, files and totals by class, block by block from top to bottom.

The blocks also go to the polygons and the table of sites.
"""

import json
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from inference.common.areas import usable_crs
from inference.common.palette import MAP_COLOURS, class_colours, red_green_blue
from inference.common.paths import file_name
from inference.model.probabilities import class_probabilities, classify, of_class, probability_channels
from inference.output.geotiff import BLOCK, Output
from inference.output.summary import ClassCounter, ClassTotal
from inference.plan import Plan

if TYPE_CHECKING:
    from inference.vector.outputs import VectorOutputs, VectorPlan

SOFTWARE = "hakai-ml-train"
"""Name of the software in the metadata of a map."""
NODATA = 255
"""Value of invalid pixels in the map of a model without a background class."""


@dataclass(frozen=True)
class Validity:
    """Validity of some rows of a mosaic.

    Attributes:
        row: First of the rows.
        stop: Row after the last one.
        invalid: (rows, width) bool, True at invalid pixels; None where all pixels are valid.
        fill_values: (rows, width) uint8, see `NodataDetector.add`; None where no pixel has such a value.
    """

    row: int
    stop: int
    invalid: NDArray[np.bool_] | None
    fill_values: NDArray[np.uint8] | None = None


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
        self.counter = ClassCounter(len(card.class_names), usable_crs(header), header.transform, header.width)
        self._names = list(card.class_names)
        self._presence_first = card.presence_channels > 0
        tags = _tags(plan, backend)
        common: dict[str, Any] = {
            "overwrite": plan.options.overwrite,
            "cog": plan.options.cog,
            "threads": plan.source.threads,
        }
        self._files: list[Output | VectorOutputs] = []
        self._vector: VectorOutputs | None = None
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
                colours=map_colours(len(card.class_names), card.background_index),
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
                    compress=plan.compress,
                    **common,
                )
                self._files.append(self._floats)
            if plan.vector is not None:
                self._vector = _vector_outputs(plan.vector)
                self._files.append(self._vector)
        except BaseException:
            self.discard()
            raise
        rows = min(BLOCK, header.height)
        self._row = self._filled = 0
        self._block = np.empty((rows, header.width), np.uint8)
        self._kept = self._floats is not None or self._vector is not None
        count = probability_channels(card) if self._kept else 0
        self._probability = np.empty((count, rows, header.width), np.float32)
        self._validity: deque[Validity] = deque()

    def add_validity(self, validity: Validity) -> None:
        """Set the validity of the next rows of the mosaic; call it before `add_rows` for the same rows."""
        self._validity.append(validity)

    def add_rows(self, probability: NDArray[np.float32]) -> None:
        """Add the next rows of probabilities, (channels, n, width) float32, and write the blocks that are complete."""
        done = 0
        while done < probability.shape[1]:
            part = min(len(self._block) - self._filled, probability.shape[1] - done)
            rows, place = np.s_[done : done + part], np.s_[self._filled : self._filled + part]
            classify(probability[:, rows], self._threshold, self._block[place], self._presence_first)
            if self._kept:
                self._probability[:, place] = probability[:, rows]
            self._filled += part
            done += part
            if self._filled == len(self._block) or self._row + self._filled == self._height:
                self._flush()

    def complete(self) -> None:
        """Complete all files; they keep their temporary names."""
        assert self._row == self._height
        for file in self._files:
            file.complete()

    def publish(self) -> list[ClassTotal]:
        """Rename all files to their final names, and return the totals by class."""
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

    @property
    def lines(self) -> list[str]:
        """Lines about further files for the summary."""
        return [] if self._vector is None else self._vector.lines

    @property
    def paths(self) -> list[Path]:
        """Files of polygons, sites and styles that are written."""
        return [] if self._vector is None else self._vector.paths

    def _flush(self) -> None:
        block = self._block[: self._filled]
        parts = self._parts(self._row, self._filled)
        invalid = self._joined([(part, part.invalid) for part in parts], np.bool_)
        self.counter.add(self._row, block, invalid)
        fill_values = self._joined([(part, part.fill_values) for part in parts], np.uint8)
        if fill_values is not None:
            self.counter.add_fill_values(block, fill_values)
        if invalid is not None:
            block[invalid] = self._blank
        self._map.write(self._row, block[None], invalid)
        if self._kept:
            bands = class_probabilities(self._probability[:, : self._filled])
            if self._vector is not None:
                self._vector.add(self._row, block, invalid, of_class(bands, block))
            if self._floats is not None:
                if invalid is not None:
                    bands[:, invalid] = np.nan
                self._floats.write(self._row, bands, invalid)
        self._row, self._filled = self._row + self._filled, 0

    def _parts(self, row: int, rows: int) -> list[Validity]:
        """Return the parts of the mosaic that some rows lie in."""
        while self._validity and self._validity[0].stop <= row:
            self._validity.popleft()
        return [part for part in self._validity if part.row < row + rows]

    def _joined(self, parts: Sequence[tuple[Validity, NDArray[Any] | None]], dtype: Any) -> NDArray[Any] | None:
        """Return the rows of the block to write, (rows, width), from arrays of parts; None where all are None."""
        if all(values is None for _, values in parts):
            return None
        row, rows = self._row, self._filled
        found = np.zeros((rows, self._width), dtype)
        for part, values in parts:
            if values is not None:
                start, stop = max(row, part.row), min(row + rows, part.stop)
                found[start - row : stop - row] = values[start - part.row : stop - part.row]
        return found


def _vector_outputs(plan: "VectorPlan") -> "VectorOutputs":
    from inference.vector.outputs import VectorOutputs  # needs pyogrio and shapely

    return VectorOutputs(plan)


def map_colours(classes: int, background: int | None) -> dict[int, tuple[int, int, int]]:
    """Return the colour of each value of a map, red, green and blue in 0 to 255."""
    colours = {value: red_green_blue(each) for value, each in class_colours(classes, background, MAP_COLOURS).items()}
    colours[NODATA if background is None else background] = (0, 0, 0)
    return colours


def _factor(plan: Plan) -> str:
    """Return the factors of resampling, one number where they are the same; empty if nothing was resampled."""
    return " x ".join(dict.fromkeys(f"{by:.6g}" for by in plan.factor or ()))


def _tags(plan: Plan, backend: str) -> dict[str, str]:
    """Return the map's metadata: mosaic, model, classes and settings."""
    card, options = plan.card, plan.options
    names: Sequence[str] = card.class_names
    tags = {
        "CLASS_NAMES": json.dumps(dict(enumerate(names)), ensure_ascii=False),
        "MODEL": card.name,
        "MODEL_TASK": card.task,
        "MODEL_REVISION": card.revision or "",
        "MODEL_LICENCE": card.licence or "",
        "MODEL_FILE": plan.request.path.name,
        "MOSAIC": file_name(plan.source.header.path),
        "BANDS": ",".join(map(str, plan.source.bands)),
        "NODATA": "none" if plan.source.nodata is None else f"{plan.source.nodata:.17g}",
        "INVALID_PIXELS": _invalid_pixels(plan),
        "BACKGROUND": "none" if card.background_index is None else str(card.background_index),
        "DATE": options.date or plan.source.header.date,
        "BACKEND": backend,
        "TILE_SIZE": str(plan.rows.tile),
        "OVERLAP": f"{options.overlap:g}",
        "WINDOW": options.window,
        "THRESHOLD": f"{plan.threshold:g}" if len(names) == 2 else "",
        "TEST_TIME_AUGMENTATION": "flips and turns" if options.tta else "",
        "RESAMPLED_BY": _factor(plan),
        "TIFFTAG_SOFTWARE": SOFTWARE,
    }
    return {key: value for key, value in tags.items() if value}


def _invalid_pixels(plan: Plan) -> str:
    """Return how invalid pixels can be told from background."""
    if plan.card.background_index is None:
        return f"{NODATA}, the nodata value"
    return "0, and 0 in the mask band" if plan.source.may_be_invalid else "none"
