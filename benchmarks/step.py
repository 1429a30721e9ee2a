"""CPU seconds of a training step of `train()`, against a bare PyTorch loop over the same batches.

    uv run python -m benchmarks.step

Both train the same network on the same windows with the same optimiser, without validation; the same loader reads in a
worker process, whose time isn't counted. `train()` also counts scores, logs, checks for Ctrl-C and seeds each step; the
bare loop does forward, backward, clipping and step only. A step lasts from the start of a batch to that of the next
one. The two take turns, so that a change in the machine's speed affects both; the median of the rounds is used.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch

from train.configs.config import Config
from train.datamodule import DataModule
from train.model import SegmentationModel
from train.optim.adamw import adamw
from train.optim.parameter_groups import parameter_groups
from train.run.fit import build_model, train

_WARM = 2  # first steps, which allocate memory and start the worker


def config(folder: str, steps: int, batch: int, tile: int) -> Config:
    """Return a config of a U-Net on the demo data, without validation, because the bare loop has none."""
    return Config.model_validate(
        {
            "tile_size": tile,
            "batch_size": batch,
            "max_epoch": 1,
            "segmentation_config": {
                "architecture": "Unet",
                "backbone": "mobilenet_v2",
                "opts": {"encoder_weights": None},
            },
            "data_module": {
                "data_dir": "demo://kelp",
                "augmentation": "light",
                "samples_per_epoch": steps * batch,
                "num_workers": 1,
            },
            "trainer": {"accelerator": "auto", "limit_val_batches": 0, "limit_test_batches": 0},
            "checkpoint": {"monitor": "train/dice", "save_top_k": 0, "save_last": False},
            "logging": {"save_dir": folder, "project": "p", "name": "n"},
        }
    )


def time_bare_loop(settings: Config) -> float:
    """Train an epoch in a bare loop and return the CPU seconds of a step."""
    data = DataModule(settings)
    data.prepare()
    torch.manual_seed(settings.seed)
    torch.use_deterministic_algorithms(False)
    model = build_model(settings, data, pretrained=False).train()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)
    options = settings.segmentation_config
    optimizer = adamw(parameter_groups(model.model, options.lr, options.weight_decay), options.lr)
    starts = []
    for batch in data.train_dataloader():
        starts.append(_now(device))
        image, label = batch["image"].to(device), batch["label"].to(device)
        loss = model.loss(model(model.normalize(image)), label)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
    return _step_seconds(starts)


def time_train(settings: Config) -> float:
    """Train an epoch with `train()` and return the CPU seconds of a step."""
    starts: list[float] = []
    original = SegmentationModel.on_train_batch_start

    def record(model: SegmentationModel, *arguments: Any) -> None:
        starts.append(_now(model.device))
        original(model, *arguments)

    SegmentationModel.on_train_batch_start = record  # type: ignore[method-assign, assignment]
    try:
        train(settings)
    finally:
        SegmentationModel.on_train_batch_start = original  # type: ignore[method-assign]
    return _step_seconds(starts)


def _now(device: torch.device) -> float:
    """Return CPU seconds of this process; with a GPU the time of day once it has finished its work."""
    if device.type != "cuda":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def _step_seconds(starts: list[float]) -> float:
    return (starts[-1] - starts[_WARM]) / (len(starts) - 1 - _WARM)


def measure(tile: int, batch: int, steps: int, rounds: int) -> dict[str, list[float]]:
    """Return the CPU seconds of a step in each round, of `train()` and of the bare loop."""
    times: dict[str, list[float]] = {"train()": [], "bare loop": []}
    runs: list[tuple[str, Callable[[Config], float]]] = [("train()", time_train), ("bare loop", time_bare_loop)]
    with tempfile.TemporaryDirectory() as folder:
        settings = config(folder, steps, batch, tile)
        for number in range(rounds + 1):
            for name, run in runs if number % 2 else runs[::-1]:
                spent = run(settings)
                if number:  # the first round warms up
                    times[name].append(spent)
    return times


def main() -> None:
    """Measure and print both times and their ratio."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--steps", type=int, default=12)
    arguments.add_argument("--batch", type=int, default=8)
    arguments.add_argument("--tile", type=int, nargs="+", default=[128, 256])
    options = arguments.parse_args()
    for tile in options.tile:
        times = measure(tile, options.batch, options.steps, options.rounds)
        print(f"{tile} px, batches of {options.batch}")
        for name, spent in times.items():
            print(f"  {name:<12}{1000 * statistics.median(spent):8.1f} ms of CPU a step")
        ratios = [a / b for a, b in zip(times["train()"], times["bare loop"], strict=True)]
        print(f"  ratio       {statistics.median(ratios):8.3f} (rounds: {', '.join(f'{r:.3f}' for r in ratios)})")


if __name__ == "__main__":
    main()
