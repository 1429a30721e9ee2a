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

from train.export import int8_file, onnx_file
from train.export.export_wrapper import ExportWrapper
from train.export.int8_check import int8_data, mask_losses
from train.export.source import find_source
from train.export.trained_model import load_trained_model

CPU = torch.device("cpu")


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


def measure(source: str, folder: Path, rounds: int) -> None:
    """Print the table of one network."""
    trained = load_trained_model(find_source(source).checkpoint, None)
    card = trained.card.model_copy(update={"output": "probabilities"})
    network = ExportWrapper(trained.model, "probabilities").eval()
    data = int8_data([trained.config], trained.model, card)
    exact, quantised = folder / "float.onnx", folder / "int8.onnx"
    onnx_file.write(network, card, data.calibration[0][None].repeat(2, 1, 1, 1), exact)
    int8_file.write(network, card, data.calibration, quantised)
    losses = mask_losses(network, card, data, quantised, CPU)
    tile = data.calibration[0][None].numpy()
    runs = {"onnxruntime fp32": onnxruntime_run(exact, tile), "onnxruntime int8": onnxruntime_run(quantised, tile)}
    if find_spec("openvino"):
        runs["openvino fp32"] = openvino_run(exact, tile, "f32")
        runs["openvino bf16"] = openvino_run(exact, tile, "bf16")
        runs["openvino int8, rest fp32"] = openvino_run(quantised, tile, "f32")
        runs["openvino int8, rest bf16"] = openvino_run(quantised, tile, "bf16")
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds + 1):
        for name, run in runs.items():
            began = time.process_time()
            run()
            times[name].append(time.process_time() - began)
    settings = trained.config.segmentation_config
    print(f"{settings.architecture} / {settings.backbone}, tile of {card.tile_size} px")
    first = statistics.median(times["onnxruntime fp32"][1:])
    for name, values in times.items():
        seconds = statistics.median(values[1:])  # the first run warms up
        print(f"  {name:<26}{1000 * seconds:8.1f} ms {first / seconds:6.2f}x")
    print("  loss of IoU: " + ", ".join(f"{name} {loss:.2%}" for name, loss in losses.items()))


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
