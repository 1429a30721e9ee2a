"""Time of one epoch of `train()`, against a bare PyTorch loop over the same batches.

    uv run python -m benchmarks.step

Both train the same network on the same windows, read by the same loader with the same workers, without validation.
`train()` also counts scores, logs and checks for Ctrl-C; the bare loop does forward, backward, clipping and step only.
The two take turns, so that a change in the machine's speed affects both; the median of the rounds is used.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from train.configs.config import Config
from train.datamodule import DataModule
from train.run.fit import build_model, train
from train.run.metrics_table import MetricsTable


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
    """Train an epoch in a bare loop and return the seconds."""
    data = DataModule(settings)
    data.prepare()
    torch.manual_seed(settings.seed)
    model = build_model(settings, data, pretrained=False).train()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    loader = data.train_dataloader()
    began = time.perf_counter()
    for batch in loader:
        image, label = batch["image"].to(device), batch["label"].to(device)
        loss = model.loss(model(model.normalize(image)), label)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def time_train(settings: Config) -> float:
    """Train an epoch with `train()` and return the seconds it records for the epoch."""
    seconds: list[float] = []
    stop = MetricsTable._stop_clock

    def record(table: MetricsTable) -> None:
        stop(table)
        seconds.append(table.train_seconds)

    MetricsTable._stop_clock = record  # type: ignore[method-assign, assignment]
    try:
        train(settings)
    finally:
        MetricsTable._stop_clock = stop  # type: ignore[method-assign]
    return max(seconds)


def main() -> None:
    """Measure and print both times and their ratio."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--steps", type=int, default=12)
    arguments.add_argument("--batch", type=int, default=8)
    arguments.add_argument("--tile", type=int, default=256)
    options = arguments.parse_args()
    times: dict[str, list[float]] = {"train()": [], "bare loop": []}
    with tempfile.TemporaryDirectory() as folder:
        settings = config(str(Path(folder)), options.steps, options.batch, options.tile)
        runs: list[tuple[str, Any]] = [("train()", time_train), ("bare loop", time_bare_loop)]
        for number in range(options.rounds + 1):
            for name, run in runs if number % 2 else runs[::-1]:
                spent = run(settings)
                if number:  # the first round warms up
                    times[name].append(spent)
    for name, spent in times.items():
        print(f"{name:<12}{statistics.median(spent):8.2f} s for {options.steps} steps of {options.batch}")
    ratios = [a / b for a, b in zip(times["train()"], times["bare loop"], strict=True)]
    print(f"ratio       {statistics.median(ratios):8.3f} (rounds: {', '.join(f'{r:.3f}' for r in ratios)})")


if __name__ == "__main__":
    main()
