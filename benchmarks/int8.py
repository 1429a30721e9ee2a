"""Networks in int8 against float32 and bfloat16: CPU time of a tile on one thread, and the change of the masks.

    OMP_NUM_THREADS=1 uv run python -m benchmarks.int8 RUN ...

Each RUN is a run folder or checkpoint of a trained network whose data set is at hand. It is written as float and int8
ONNX by the converter's code; ONNX Runtime and OpenVINO (if installed) run both in turn, and the median of the CPU times
is used. The loss is that of the converter's check (1 - IoU with the float masks on the val split).
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.inference import TILE, card, write_network
from benchmarks.loader import texture
from inference.common.cpu import has_tile_units
from inference.common.errors import CheckFailed
from train.export import int8_file, onnx_file
from train.export.export_wrapper import ExportWrapper
from train.export.int8_check import FLOAT_FIRST, write_int8
from train.export.int8_windows import int8_windows
from train.export.source import find_source
from train.export.trained_model import load_trained_model

CPU = torch.device("cpu")
ENCODERS = "mobilenet_v2", "efficientnet-b0"


def onnxruntime_run(path: Path, tile: NDArray[np.float32]) -> Callable[[], Any]:
    """Return a function that runs a file once with ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"input": tile})


def openvino_run(path: Path, tile: NDArray[np.float32], hint: str) -> Callable[[], Any]:
    """Return a function that runs a file once with OpenVINO."""
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    model.reshape({model.inputs[0]: list(tile.shape)})
    options = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": 1}
    compiled = core.compile_model(model, "CPU", options)
    return lambda: compiled(tile, share_inputs=True)


def tile_seconds(exact: Path, quantised: Path, tile: NDArray[np.float32], rounds: int) -> dict[str, float]:
    """Return the median CPU seconds of a tile for each library and precision, which take turns on one thread."""
    runs = {"onnxruntime fp32": onnxruntime_run(exact, tile), "onnxruntime int8": onnxruntime_run(quantised, tile)}
    if find_spec("openvino"):
        runs["openvino fp32"] = openvino_run(exact, tile, "f32")
        if has_tile_units():
            runs["openvino bf16"] = openvino_run(exact, tile, "bf16")
        runs["openvino int8, rest fp32"] = openvino_run(quantised, tile, "f32")
        if has_tile_units():
            runs["openvino int8, rest bf16"] = openvino_run(quantised, tile, "bf16")
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds + 1):
        for name, run in runs.items():
            began = time.process_time()
            run()
            times[name].append(time.process_time() - began)
    return {name: statistics.median(values[1:]) for name, values in times.items()}  # the first run warms up


def untrained(folder: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Return the CPU seconds of `tile_seconds` for U-Nets with random weights, by encoder."""
    image, _ = texture(2048)
    mean, std = (torch.tensor(values)[:, None, None] for values in (card().mean, card().std))
    tiles = [torch.from_numpy(image[:, first : first + TILE, :TILE]) for first in range(0, 2048, TILE)]
    windows = [((tile / 255 - mean) / std).contiguous() for tile in tiles]
    found = {}
    for encoder in ENCODERS:
        exact, ready, quantised = (folder / f"{encoder}-{kind}.onnx" for kind in ("float", "ready", "int8"))
        write_network(exact, "Unet", encoder)
        int8_file.prepare(exact, ready)
        int8_file.write(ready, card(), windows, quantised, FLOAT_FIRST[1])
        found[encoder] = tile_seconds(exact, quantised, windows[0][None].numpy(), rounds)
    return found


def measure(source: str, folder: Path, rounds: int) -> None:
    """Print the table of one trained network."""
    trained = load_trained_model(find_source(source).checkpoint, None)
    card_ = trained.card.model_copy(update={"output": "probabilities"})
    network = ExportWrapper(trained.model, "probabilities").eval()
    windows = int8_windows(trained.config, trained.model, card_)
    exact, quantised = folder / "float.onnx", folder / "int8.onnx"
    onnx_file.write(network, card_, windows.calibration[0][None].repeat(2, 1, 1, 1), exact)
    try:
        loss = f"{write_int8(network, card_, windows, quantised, quantised, CPU).int8_loss:.3%}, written"
    except CheckFailed as error:
        loss = str(error)
    times = tile_seconds(exact, quantised, windows.calibration[0][None].numpy(), rounds)
    settings = trained.config.segmentation_config
    print(f"{settings.architecture} / {settings.backbone}, tile of {card_.tile_size} px")
    first = times["onnxruntime fp32"]
    for name, seconds in times.items():
        print(f"  {name:<26}{1000 * seconds:8.1f} ms {first / seconds:6.2f}x")
    print(f"  loss of IoU: {loss}")


def cpu_name() -> str:
    """Return the name of the CPU and its units for 8-bit integers."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    name = next((line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")), "?")
    units = [unit for unit in ("avx2", "avx512_vnni", "avx_vnni", "amx_int8", "amx_bf16") if f" {unit}" in text]
    return f"{name} ({', '.join(units) or 'unknown units'})"


def main() -> None:
    """Measure each network."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("runs", nargs="+", metavar="RUN", help="run folder or checkpoint")
    arguments.add_argument("--rounds", type=int, default=7)
    options = arguments.parse_args()
    print(cpu_name())
    for source in options.runs:
        with tempfile.TemporaryDirectory() as name:
            measure(source, Path(name), options.rounds)


if __name__ == "__main__":
    main()
