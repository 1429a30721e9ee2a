"""Time of a batch of small mosaics, against a shell loop of single commands, and start of a batch with a long manifest.

    uv run python -m benchmarks.batch [--number 100] [--side 1024] [--model MODEL.onnx [--card CARD.json]] [--ray]

Whole processes are measured, start-up included; batch and loop take turns. Without --model the network costs almost
nothing (its logit is the first band), so that the ratio is that of everything else. The maps must be the same bytes.
With --ray two workers of Ray are measured against one, with a thread each, from the first map that is begun to the last
that is done: Ray's own start takes seconds, however many mosaics there are.
"""

import argparse
import datetime
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.inference import COMMAND, write_first_band_network, write_mosaic


def seconds(commands: Sequence[Sequence[str]], code: int = 0) -> float:
    """Run commands one after another and return the time that they take."""
    began = time.perf_counter()
    for command in commands:
        done = subprocess.run([sys.executable, str(COMMAND), *command], capture_output=True, text=True)
        if done.returncode != code:
            raise SystemExit(done.stderr)
    return time.perf_counter() - began


def against_a_loop(folder: Path, number: int, rounds: int, options: Sequence[str]) -> None:
    """Print the times of a batch and of a loop."""
    mosaics = sorted((folder / "in").iterdir())
    loop_out, batch_out = folder / "loop", folder / "batch"
    times: dict[str, list[float]] = {"loop": [], "batch": []}
    for _ in range(rounds):
        for out in (loop_out, batch_out):
            shutil.rmtree(out, ignore_errors=True)
        loop_out.mkdir()
        times["loop"].append(seconds([[str(path), str(loop_out / path.name), *options] for path in mosaics]))
        times["batch"].append(seconds([[str(folder / "in"), str(batch_out), *options]]))
        for path in mosaics:
            if (loop_out / path.name).read_bytes() != (batch_out / path.name).read_bytes():
                raise SystemExit(f"{path.name}: the maps differ")
    loop, batch = (statistics.median(times[name]) for name in ("loop", "batch"))
    print(f"{number} mosaics, medians of {rounds} rounds; the maps are the same bytes")
    print(f"  batch       {batch:8.1f} s  {loop / batch:.2f}x")
    print(f"  shell loop  {loop:8.1f} s  1.00x")


def on_ray(folder: Path, number: int, rounds: int, options: Sequence[str]) -> None:
    """Print the times of one worker of Ray and of two, with one thread each."""
    times: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(rounds):
        for workers, taken in times.items():
            out = folder / f"ray{workers}"
            shutil.rmtree(out, ignore_errors=True)
            more = ["--ray", "--workers", str(workers), "--threads", "1", *options]
            whole = seconds([[str(folder / "in"), str(out), *more]])
            taken.append(mapping_seconds(out / "batch.jsonl"))
            print(f"  {workers} workers: {taken[-1]:.1f} s of {whole:.1f} s in all", flush=True)
    for path in (folder / "in").iterdir():
        if (folder / "ray1" / path.name).read_bytes() != (folder / "ray2" / path.name).read_bytes():
            raise SystemExit(f"{path.name}: the maps differ")
    one, two = (statistics.median(taken) for taken in times.values())
    print(f"{number} mosaics, medians of {rounds} rounds; the maps are the same bytes")
    print(f"  1 worker   {one:8.1f} s  1.00x")
    print(f"  2 workers  {two:8.1f} s  {one / two:.2f}x")


def mapping_seconds(journal: Path) -> float:
    """Return the time between the first line of a journal and the last, whole seconds."""
    lines = journal.read_text().splitlines()
    first, last = (datetime.datetime.fromisoformat(json.loads(line)["time"]) for line in (lines[0], lines[-1]))
    return (last - first).total_seconds()


def with_a_manifest(folder: Path, rows: int, options: Sequence[str]) -> None:
    """Print how long a batch with a long manifest takes until its first map is begun: all rows are of missing files."""
    manifest = folder / "long.csv"
    real = next((folder / "in").iterdir())
    lines = [f"{real},first.tif", *(f"{folder}/gone/{at}.tif,{at}.tif" for at in range(rows - 1))]
    manifest.write_text("image,output\n" + "".join(f"{line}\n" for line in lines))
    journal = folder / "long" / "batch.jsonl"
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, str(COMMAND), str(manifest), str(folder / "long"), *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not (journal.exists() and journal.stat().st_size):
        time.sleep(0.01)
    took = time.perf_counter() - began
    process.kill()
    process.wait()
    print(f"manifest of {rows:,} rows: the first mosaic is begun after {took:.1f} s")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description="Batch against a shell loop of single commands.")
    parser.add_argument("--number", type=int, default=100, help="mosaics")
    parser.add_argument("--side", type=int, default=1024, help="side of a mosaic, pixels")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=10_000, help="rows of the manifest")
    parser.add_argument("--model", help="model to map with (default: a network of almost no cost)")
    parser.add_argument("--card", help="card of the model")
    parser.add_argument("--ray", action="store_true", help="measure two workers of Ray against one instead")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        first = write_mosaic(folder / "in" / "0.tif", options.side)
        for at in range(1, options.number):
            shutil.copy(first, folder / "in" / f"{at}.tif")
        model = options.model or str(write_first_band_network(folder / "free.onnx"))
        more = ["--model", model, *(["--card", options.card] if options.card else [])]
        if options.ray:
            on_ray(folder, options.number, options.rounds, more)
            return
        against_a_loop(folder, options.number, options.rounds, more)
        with_a_manifest(folder, options.rows, more)


if __name__ == "__main__":
    main()
