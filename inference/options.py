"""Options of mapping: names, defaults and allowed values; imports nothing that is slow, so that --help is quick."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from inference.common.cpu import cores
from inference.common.errors import UserError
from inference.common.text import LONGEST_NAME, clean_line
from inference.model.registry import BACKENDS
from inference.vector.options import VectorOptions

WindowName = Literal["bartlett-hann", "hann", "none"]
DeviceName = Literal["auto", "cpu", "cuda", "mps"]
PrecisionName = Literal["fp32", "bf16", "fp16"]
WINDOW_NAMES: tuple[str, ...] = get_args(WindowName)
BACKEND_NAMES: tuple[str, ...] = ("auto", *BACKENDS)
DEVICE_NAMES: tuple[str, ...] = get_args(DeviceName)
PRECISION_NAMES: tuple[str, ...] = get_args(PrecisionName)
LARGEST_OVERLAP = 0.9
LARGEST_TILE = 65_536
"""Largest side of a tile, pixels, as in a config."""
LARGEST_BATCH = 4096
"""Most tiles in a batch; more make nothing faster."""
LARGEST_BAND = 65_535
"""Most bands of a GeoTIFF."""


def most_threads() -> int:
    """Return the largest number of CPU threads: more than a few for each core wait for each other."""
    return max(64, 4 * cores())


@dataclass(frozen=True, kw_only=True)
class Options(VectorOptions):
    """Options of the command and of `inference.predict.predict`; None takes the model card's value.

    Those of polygons and tables of sites are described in `VectorOptions`.

    Attributes:
        model: .onnx or .pt file; None for the model in inference/weights.
        card: JSON of a card, ours or habitat-mapper's, in place of the card in the model.
        tile_size: Side of the tiles, pixels.
        overlap: Smallest share of a tile that its neighbour covers too.
        window: Blending window.
        batch_size: Tiles in a batch.
        device: Device to run on.
        backend: Library that runs the network.
        precision: Precision to compute in.
        threshold: Probability above which a pixel is of class 1, of two.
        probabilities: File for probabilities, float32, one band per class.
        tta: True to average over the eight flips and turns of each tile (test-time augmentation).
        bands: Bands of the mosaic, counted from 1, in the network's order.
        nodata: Nodata value in place of the file's; "none" for no value.
        max_pixel_value: Value that pixels are divided by first.
        resample: True to read at the card's ground sample distance; the map stays on the mosaic's grid.
        threads: CPU threads; None for all.
        cog: True to write cloud-optimised GeoTIFFs.
        overwrite: True to replace existing files.
    """

    model: str | Path | None = None
    card: str | Path | None = None
    tile_size: int | None = None
    overlap: float = 0.5
    window: WindowName = "bartlett-hann"
    batch_size: int | None = None
    device: DeviceName = "auto"
    backend: str = "auto"
    precision: PrecisionName = "fp32"
    threshold: float | None = None
    probabilities: str | Path | None = None
    tta: bool = False
    bands: Sequence[int] | None = None
    nodata: float | str | None = None
    max_pixel_value: float | None = None
    resample: bool = False
    threads: int | None = None
    cog: bool = True
    overwrite: bool = False

    def check(self) -> None:
        """Check the values; raise `UserError` with a line for each invalid option."""
        problems = []
        for option, value, allowed in (
            ("--window", self.window, WINDOW_NAMES),
            ("--device", self.device, DEVICE_NAMES),
            ("--backend", self.backend, BACKEND_NAMES),
            ("--precision", self.precision, PRECISION_NAMES),
        ):
            if value not in allowed:
                problems.append(f"{option}: {value} (allowed: {', '.join(allowed)})")
        if not 0 <= self.overlap <= LARGEST_OVERLAP:
            problems.append(f"--overlap: {self.overlap:g} (allowed: 0 to {LARGEST_OVERLAP:g})")
        if self.threshold is not None and not 0 < self.threshold < 1:
            problems.append(f"--threshold: {self.threshold:g} (allowed: between 0 and 1)")
        if self.max_pixel_value is not None and not 0 < self.max_pixel_value < math.inf:
            problems.append(f"--max-pixel-value: {self.max_pixel_value:g} (allowed: above 0)")
        for option, number, most in (
            ("--tile-size", self.tile_size, LARGEST_TILE),
            ("--batch-size", self.batch_size, LARGEST_BATCH),
            ("--threads", self.threads, most_threads()),
            *(("--bands", band, LARGEST_BAND) for band in self.bands or ()),
        ):
            if number is not None and not 1 <= number <= most:
                problems.append(f"{option}: {clean_line(str(number), LONGEST_NAME)} (allowed: 1 to {most})")
        if isinstance(self.nodata, str) and self.nodata != "none":
            problems.append(f"--nodata: {self.nodata} (allowed: a number, nan, none)")
        problems += self.vector_problems("--polygons")
        if problems:
            raise UserError("\n".join(problems))
