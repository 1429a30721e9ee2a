"""All benchmarks of speed by one command, which writes the table of benchmarks/README.md.

    uv run python -m benchmarks                # all parts, under 15 minutes on two cores
    uv run python -m benchmarks start mapping  # some of them; the others keep their figures and revisions
    uv run python -m benchmarks --table        # write the table anew: figures whose code has changed are marked

Each part runs its competitors in turn and takes the median. Ratios are comparable between machines, seconds are not.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2

from benchmarks import results
from benchmarks.processes import Usage
from benchmarks.results import Row


@dataclass(frozen=True)
class Part:
    """Part of the benchmarks.

    Attributes:
        title: What it measures.
        paths: Code that it measures.
        measure: Function from (temporary folder, rounds) to the rows.
    """

    title: str
    paths: tuple[str, ...]
    measure: Callable[[Path, int], list[Row]]


def _usages(found: Mapping[str, Usage], reference: str) -> list[Row]:
    return [Row(name, usage.cpu, usage.wall, reference) for name, usage in found.items()]


def _loader(folder: Path, rounds: int) -> list[Row]:
    from benchmarks.loader import STRENGTHS, TILE, augmentation_seconds, make_data

    cv2.setNumThreads(1)
    make_data(folder, 1, TILE)
    return [
        Row(f"{title}: {strength}", seconds, None, f"{title}: {STRENGTHS[0]}")
        for title, by_strength in augmentation_seconds(folder, 16, rounds).items()
        for strength, seconds in by_strength.items()
    ]


def _step(folder: Path, rounds: int) -> list[Row]:
    from benchmarks.step import measure

    rows = []
    for tile in (128, 256):
        times = {name: statistics.median(all_) for name, all_ in measure(tile, 8, 12, rounds).items()}
        rows += [Row(f"{name}, {tile} px", seconds, None, f"bare loop, {tile} px") for name, seconds in times.items()]
    return rows


def _start(folder: Path, rounds: int) -> list[Row]:
    from benchmarks.start import measure

    return _usages(measure(folder, rounds), "bare imports")


def _mapping(folder: Path, rounds: int) -> list[Row]:
    from benchmarks.inference import near_free

    return _usages(near_free(folder, 8192, rounds).run(), "plain copy")


def _networks(folder: Path, rounds: int) -> list[Row]:
    from benchmarks.inference import ARCHITECTURES, with_network, write_mosaic, write_network

    model = write_network(folder / "network.onnx", *next(iter(ARCHITECTURES.values())))
    programs, _ = with_network(folder, write_mosaic(folder / "mosaic.tif", 4096), model, min(rounds, 2))
    return _usages(programs.run(), "bare forward, onnxruntime")


def _int8(folder: Path, rounds: int) -> list[Row]:
    from benchmarks.int8 import untrained

    return [
        Row(f"{encoder}: {name}", seconds, None, f"{encoder}: onnxruntime fp32")
        for encoder, times in untrained(folder, 2 * rounds).items()
        for name, seconds in times.items()
    ]


def _evaluation(folder: Path, rounds: int) -> list[Row]:
    from benchmarks.evaluation import measure

    return _usages(measure(folder, 4096, rounds), "inference.py, both images")


PARTS = {
    "loader": Part(
        "a window of 1024 px", ("train/augmentation", "train/transforms.py", "train/data/reader.py"), _loader
    ),
    "step": Part(
        "a training step, U-Net on MobileNetV2, batches of 8", ("train/segmentation_model.py", "train/optim"), _step
    ),
    "start": Part("up to the first batch", ("train/__main__.py", "train/run", "train/data"), _start),
    "mapping": Part("8192 px, a network of almost no cost", ("inference",), _mapping),
    "networks": Part("4096 px, U-Net on MobileNetV2, tiles of 512 px", ("inference",), _networks),
    "int8": Part("a tile of 512 px on one thread, U-Nets", ("train/export/int8_file.py",), _int8),
    "evaluation": Part("two images of 4096 px", ("eval", "inference"), _evaluation),
}


def main() -> int:
    """Measure the chosen parts and write the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--table", action="store_true", help="measure nothing, write the table anew")
    options = arguments.parse_args()
    if unknown := [part for part in options.parts if part not in PARTS]:
        arguments.error(f"{', '.join(unknown)} (allowed: {', '.join(PARTS)})")
    found = results.read()
    for name in [] if options.table else options.parts or PARTS:
        began, load, part = time.monotonic(), results.load(), PARTS[name]
        with tempfile.TemporaryDirectory() as folder:
            rows = part.measure(Path(folder), options.rounds)
        found[name] = results.new_result(part.title, rows, part.paths, load)
        results.write({each: found[each] for each in PARTS if each in found})
        print(f"{name}: {time.monotonic() - began:.0f} s")
    results.write({each: found[each] for each in PARTS if each in found})
    print(results.table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
