"""Time and peak memory of mapping a mosaic with inference.py, against habitat-mapper and lower limits.

    uv run python -m benchmarks.inference                                # all parts
    uv run python -m benchmarks.inference pipeline --habitat-mapper /path/to/environment/bin/python
    uv run python -m benchmarks.inference networks --threads 1           # one thread each side

Whole processes are measured, start-up included. The parts are:

1. `pipeline`: a network of almost no cost (its logit is the first band), so that the time is that of reading, tiling,
   blending and writing. Against a plain copy, which reads the mosaic and writes an empty mask, and against
   habitat-mapper with the same ONNX file, without its median filter.
2. `networks`: U-Net on MobileNetV2 and SegFormer on MiT-B0, 512 px, or a trained model given with --model. Against a
   bare forward loop: the same runtime on the same number of tiles, without reading, start-up not counted. If OpenVINO
   is installed it is measured too, in bfloat16 only on a CPU with AMX or with --bf16, and the share of equal mask
   pixels is printed.
3. `memory`: the network of almost no cost on a small and on a large mosaic.

The programs take turns, and the median of the rounds is used. Peak memory is the kernel's high-water mark of the
resident set, sampled while the process runs.
"""

import argparse
import sys
import tempfile
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import rasterio
from onnx import TensorProto, helper, numpy_helper
from rasterio.transform import from_origin
from rasterio.windows import Window

from benchmarks.loader import texture
from benchmarks.processes import Usage, in_turns
from benchmarks.programs import BARE_FORWARD, HABITAT_MAPPER, PLAIN_COPY
from benchmarks.results import machine
from inference.card import METADATA_KEY, ModelCard
from inference.common.cpu import has_tile_units
from inference.tiles.tiling import tile_axis

TILE = 512
COMMAND = Path(__file__).parents[1] / "inference" / "inference.py"
ARCHITECTURES = {"unet / mobilenet_v2": ("Unet", "mobilenet_v2"), "segformer / mit_b0": ("Segformer", "mit_b0")}


def write_mosaic(path: Path, side: int) -> Path:
    """Write a tiled deflate mosaic of random pieces of the demo data, which compress like real images."""
    piece, _ = texture(2048)
    rng = np.random.default_rng(0)
    profile = {"driver": "GTiff", "count": 3, "dtype": "uint8", "compress": "deflate", "photometric": "RGB"}
    profile |= {"tiled": True, "blockxsize": TILE, "blockysize": TILE, "num_threads": "all_cpus"}
    profile |= {"crs": "EPSG:32609", "transform": from_origin(5e5, 5.8e6, 0.1, 0.1)}
    with rasterio.Env(GDAL_CACHEMAX=64 * 2**20), rasterio.open(path, "w", height=side, width=side, **profile) as file:
        for row in range(0, side, TILE):
            for col in range(0, side, TILE):
                r, c = rng.integers(0, 2048 - TILE, 2)
                rows, cols = min(TILE, side - row), min(TILE, side - col)
                file.write(piece[:, r : r + rows, c : c + cols], window=Window(col, row, cols, rows))
    return path


def card(**changes: Any) -> ModelCard:
    """Return the card of a two-class RGB model with ImageNet normalisation, which is also habitat-mapper's default."""
    values: dict[str, Any] = {
        "name": "benchmark",
        "task": "benchmark",
        "bands": [1, 2, 3],
        "dtype": "uint8",
        "tile_size": TILE,
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "max_pixel_value": 255.0,
        "class_names": ["background", "target"],
        "activation": "sigmoid",
    }
    return ModelCard.model_validate(values | changes)


def write_first_band_network(path: Path) -> Path:
    """Write an ONNX network that returns its first band as the logit."""
    constants = {"first": [0], "last": [1], "axis": [1]}
    graph = helper.make_graph(
        [helper.make_node("Slice", ["input", *constants], ["logits"])],
        "near_free",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, TILE, TILE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1, TILE, TILE])],
        [numpy_helper.from_array(np.array(value), name) for name, value in constants.items()],
    )
    return save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)


def write_network(path: Path, architecture: str, encoder: str) -> Path:
    """Write a network with random weights as ONNX."""
    import segmentation_models_pytorch as smp
    import torch

    torch.manual_seed(0)
    model = smp.create_model(architecture, encoder, encoder_weights=None, in_channels=3, classes=1).eval()
    example = (torch.zeros(1, 3, TILE, TILE),)
    torch.onnx.export(
        model,
        example,
        str(path),
        dynamo=False,
        opset_version=18,
        dynamic_axes={"input": {0: "n"}},
        input_names=["input"],
        output_names=["logits"],
    )
    return save(onnx.load(path), path)


def save(model: onnx.ModelProto, path: Path) -> Path:
    """Write an ONNX model with an embedded card."""
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, card().dumps()
    onnx.save(model, path)
    return path


class SideBySide:
    """Programs that map one mosaic in turn.

    Args:
        folder: Folder for the maps.
        mosaic: Mosaic.
        rounds: Number of rounds.
        habitat_mapper: Python of an environment with habitat-mapper; None to leave it out.
        threads: CPU threads of each program; None for all.
    """

    def __init__(
        self, folder: Path, mosaic: Path, rounds: int, habitat_mapper: str | None, threads: int | None = None
    ) -> None:
        self.folder, self.mosaic, self.rounds, self.habitat_mapper = folder, mosaic, rounds, habitat_mapper
        self.threads = threads
        self.commands: dict[str, list[str]] = {}

    def add_ours(self, name: str, model: Path, *options: str) -> Path:
        """Add a run of inference.py; return the path of its map."""
        target = self.folder / f"{len(self.commands)}.tif"
        files = [str(self.mosaic), str(target), "--model", str(model), "--overwrite"]
        files += [] if self.threads is None else ["--threads", str(self.threads)]
        self.commands[name] = [sys.executable, str(COMMAND), *files, *options]
        return target

    def add_habitat_mapper(self, model: Path, activation: str = "sigmoid") -> None:
        """Add habitat-mapper, whose Python must have been given."""
        assert self.habitat_mapper is not None
        numbers = str(TILE), str(self.threads or 0)
        arguments = [str(self.mosaic), str(self.folder / "habitat-mapper.tif"), str(model), activation, *numbers]
        self.commands["habitat-mapper"] = [self.habitat_mapper, "-c", HABITAT_MAPPER, *arguments]

    def run(self) -> dict[str, Usage]:
        """Run all programs in turn and return the medians of their times."""
        return in_turns(self.commands, self.rounds, reading=_usage)

    def report(self, title: str, reference: str) -> dict[str, Usage]:
        """Run all programs; print and return medians, with ratios to the times of `reference`."""
        found = self.run()
        print(f"{title} ({machine()})")
        for name, used in found.items():
            to = found[reference]
            print(
                f"  {name:<38}{used.wall:8.2f} s {used.wall / to.wall:7.2f}x {used.cpu:8.2f} CPU s "
                f"{used.cpu / to.cpu:7.2f}x {used.peak:8.0f} MiB"
            )
        return found


def _usage(name: str, used: Usage) -> Usage:
    """Return what a program used; a bare forward prints the times of its loop, without start-up."""
    if not name.startswith("bare"):
        return used
    wall, cpu = map(float, used.out.split())
    return replace(used, wall=wall, cpu=cpu)


def near_free(folder: Path, side: int, rounds: int, habitat_mapper: str | None = None) -> SideBySide:
    """Return the programs that map a mosaic with the network of almost no cost, and a plain copy."""
    mosaic, model = write_mosaic(folder / "mosaic.tif", side), write_first_band_network(folder / "free.onnx")
    programs = SideBySide(folder, mosaic, rounds, habitat_mapper)
    programs.commands["plain copy"] = [sys.executable, "-c", PLAIN_COPY, str(mosaic), str(folder / "copy.tif")]
    programs.add_ours("inference.py, --no-cog", model, "--no-cog")
    programs.add_ours("inference.py, COG", model)
    if habitat_mapper is not None:
        programs.add_habitat_mapper(model)
    return programs


def pipeline(options: argparse.Namespace, folder: Path) -> None:
    """Measure the network of almost no cost against a plain copy and habitat-mapper."""
    side = options.side or 8192
    _warn_of_habitat_mapper(options)
    programs = near_free(folder, side, options.rounds, options.habitat_mapper)
    programs.report(f"network of almost no cost, {side} px", "plain copy")


def with_network(
    folder: Path,
    mosaic: Path,
    model: Path,
    rounds: int,
    habitat_mapper: str | None = None,
    bf16: bool = False,
    threads: int | None = None,
) -> tuple[SideBySide, dict[str, Path]]:
    """Return the programs that map a mosaic with a network, with bare forwards of its tiles.

    Args:
        folder: Folder for the maps.
        mosaic: Mosaic.
        model: ONNX file with a card.
        rounds: Number of rounds.
        habitat_mapper: Python of an environment with habitat-mapper; None to leave it out.
        bf16: True for OpenVINO in bfloat16 on a CPU without AMX, too.
        threads: CPU threads of each program; None for all.

    Returns:
        The programs, and the path of the map of each name: that of ONNX Runtime first.
    """
    from inference.model.card_files import read_card

    with rasterio.open(mosaic) as file:
        shape = file.shape
    card_ = read_card(model)
    tile = card_.tile_size
    count = len(tile_axis(shape[0], tile, 0.5)) * len(tile_axis(shape[1], tile, 0.5))
    programs = SideBySide(folder, mosaic, rounds, habitat_mapper, threads)
    bare = [sys.executable, "-c", BARE_FORWARD]
    arguments = [str(model), str(count), str(tile), str(threads or 0)]
    programs.commands["bare forward, onnxruntime"] = [*bare, "onnxruntime", *arguments]
    maps = {"onnxruntime": programs.add_ours("inference.py, onnxruntime", model)}
    precisions = {"fp32": "f32", "bf16": "bf16"} if find_spec("openvino") is not None else {}
    if not has_tile_units() and not bf16:
        precisions.pop("bf16", None)
    for precision, hint in precisions.items():
        title = f"openvino {precision}"
        programs.commands[f"bare forward, {title}"] = [*bare, "openvino", *arguments, hint]
        options = ["--backend", "openvino", "--precision", precision]
        maps[title] = programs.add_ours(f"inference.py, {title}", model, *options)
    if habitat_mapper is not None:
        programs.add_habitat_mapper(model, "none" if card_.output == "probabilities" else "sigmoid")
    return programs, maps


def networks(options: argparse.Namespace, folder: Path) -> None:
    """Measure real networks against a bare forward loop and habitat-mapper."""
    side = options.side or 4096
    mosaic = Path(options.mosaic) if options.mosaic else write_mosaic(folder / "mosaic.tif", side)
    models = {"the given model": Path(options.model)} if options.model else {}
    if not models:
        for number, (name, parts) in enumerate(ARCHITECTURES.items()):
            models[name] = write_network(folder / f"network{number}.onnx", *parts)
    _warn_of_habitat_mapper(options)
    if find_spec("openvino") is None:
        print("OpenVINO is not measured: it is not installed", file=sys.stderr)
    elif not has_tile_units() and not options.bf16:
        print("OpenVINO in bf16 is not measured: no AMX was found on this CPU (force it with --bf16)", file=sys.stderr)
    for name, model in models.items():
        programs, maps = with_network(
            folder, mosaic, model, options.rounds, options.habitat_mapper, options.bf16, options.threads
        )
        found = programs.report(f"{name}, {mosaic.name}", "bare forward, onnxruntime")
        for title in maps:
            ours, bare = found[f"inference.py, {title}"], found[f"bare forward, {title}"]
            print(f"  {title}: {ours.wall / bare.wall:.2f}x its bare forward, {ours.cpu / bare.cpu:.2f}x in CPU")
            if (other := found.get("habitat-mapper")) is not None:
                wall, cpu = other.wall / ours.wall, other.cpu / ours.cpu
                print(f"    habitat-mapper takes {wall:.2f} times as long, {cpu:.2f} times in CPU")
        (_, full), *others = maps.items()
        for title, path in others:
            with rasterio.open(full) as one, rasterio.open(path) as other:
                print(f"  mask pixels the same with {title}: {(one.read(1) == other.read(1)).mean():.4%}")


def _warn_of_habitat_mapper(options: argparse.Namespace) -> None:
    if options.habitat_mapper is None:
        print(
            "habitat-mapper is not measured (give the Python of its environment with --habitat-mapper)", file=sys.stderr
        )


def memory(options: argparse.Namespace, folder: Path) -> None:
    """Measure the peak memory of the network of almost no cost on two mosaics."""
    model = write_first_band_network(folder / "free.onnx")
    peaks = []
    for side in (4096, options.side or 16384):
        programs = SideBySide(folder, write_mosaic(folder / f"{side}.tif", side), options.rounds, None)
        programs.add_ours("inference.py", model)
        peaks.append(programs.report(f"network of almost no cost, {side} px", "inference.py")["inference.py"].peak)
    print(f"  {peaks[1] / peaks[0]:.2f} times the memory")


PARTS = {"pipeline": pipeline, "networks": networks, "memory": memory}


def main() -> None:
    """Measure and print the chosen parts."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--side", type=int, help="side of the (larger) mosaic, pixels")
    arguments.add_argument("--mosaic", help="mosaic for `networks` (default: made from the demo data)")
    arguments.add_argument("--model", help="trained model for `networks`, ONNX with a card")
    arguments.add_argument("--bf16", action="store_true", help="measure OpenVINO in bf16 on any CPU")
    arguments.add_argument("--threads", type=int, help="CPU threads of each program for `networks` (default: all)")
    arguments.add_argument("--habitat-mapper", metavar="PYTHON", help="Python of an environment with habitat-mapper")
    options = arguments.parse_args()
    if wrong := set(options.parts) - set(PARTS):
        arguments.error(f"{', '.join(sorted(wrong))} (allowed: {', '.join(PARTS)})")
    for part in options.parts or PARTS:
        with tempfile.TemporaryDirectory() as name:
            PARTS[part](options, Path(name))


if __name__ == "__main__":
    main()
