"""Estimate of a batch, made before it is started: images, pixels, bytes to read, time and disk space."""

import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from inference.batch.arguments import Batch
from inference.batch.distributed.options import LOCAL, RayOptions
from inference.batch.items import Item, identity
from inference.batch.journal import Record, read_journal, records
from inference.batch.layout import JOURNAL
from inference.batch.place import Folder, Place
from inference.batch.progress import duration
from inference.batch.reasons import Reasons
from inference.batch.remaining import to_do
from inference.common.cpu import cores
from inference.common.errors import UserError
from inference.common.paths import Address, user_path
from inference.common.progress import progress
from inference.common.raster import read_header
from inference.model.backends import choose_backend, open_backend
from inference.model.choose import choose_model
from inference.plan import request_for, room_for
from inference.tiles.reading import plan_reading

_READERS = 8
_TIMED = 3
_GIB = 2**30


@dataclass(frozen=True)
class PlannedWorkers:
    """Workers of Ray, as far as they are known before it is started.

    Attributes:
        number: Workers at a time; None if it isn't known.
        threads: Threads of each; None for the cores of this machine.
        split_px: Pixels above which several share an image; 0 for none.
    """

    number: int | None
    threads: int | None
    split_px: int


def planned_workers(ray: RayOptions, batch: Batch) -> PlannedWorkers:
    """Return the workers that options ask for; on this machine no more than it has cores for."""
    number, threads = ray.workers, batch.options.threads
    if number is not None and ray.address == LOCAL:
        threads = threads or max(1, cores() // number)
        number = max(1, min(number, cores() // threads))
    return PlannedWorkers(number, threads, 0 if batch.address or number == 1 else ray.split_px)


@dataclass
class Estimate:
    """Estimate of a batch; `str` formats it for the terminal.

    Attributes:
        images: Number of images that would be mapped.
        done: Number of images that are done.
        there: Number of images whose files exist but are not of this batch.
        failing: Reasons why images can't be mapped.
        failed: Number of these images.
        pixels: Pixels that would be mapped.
        read: Bytes of the files that would be read.
        unknown: Number of images whose bytes aren't known.
        tiles: Number of tiles, empty ones included.
        seconds: Time that it would take one process.
        workers: Workers of Ray that would share the images; None without Ray.
        whole: Pixels of the largest image that one process maps.
        by_journal: True if `seconds` is known from maps that are done; else it was measured on tiles of noise.
        most: Bytes that the maps need at most.
        likely: Bytes that they need if they compress as those that are done; None if none is.
        free: Bytes that are free on the disk.
        largest: Bytes that the files of the largest image need at most.
        address: Address of the bucket that the maps go to; empty if they stay on the disk.
    """

    images: int = 0
    done: int = 0
    there: int = 0
    failing: Reasons = field(default_factory=Reasons)
    failed: int = 0
    pixels: int = 0
    read: int = 0
    unknown: int = 0
    tiles: int = 0
    seconds: float = 0.0
    workers: PlannedWorkers | None = None
    whole: int = 0
    by_journal: bool = False
    most: float = 0.0
    likely: float | None = None
    free: int = 0
    largest: float = 0.0
    address: str = ""

    def __str__(self) -> str:
        counts = [f"{self.images:,} to map"]
        counts += [f"{self.done:,} done before"] if self.done else []
        counts += [f"{self.there:,} skipped, as their maps exist already"] if self.there else []
        counts += [f"{self.failed:,} can't be mapped"] if self.failed else []
        remote = f", and of {self.unknown:,} addresses" if self.unknown else ""
        lines = [
            f"images: {', '.join(counts)}",
            *self.failing.table("can't be mapped"),
            f"pixels: {self.pixels / 1e6:,.1f} Mpx, {self.tiles:,} tiles",
            f"to read: {_size(self.read)}{remote}",
            self._time(),
            *self._room(),
            "dry run: nothing was written",
        ]
        return "\n".join(lines)

    def _time(self) -> str:
        """Return what is said of the time.

        That of several workers is the time of one by their number, but at least that of the largest image which is not
        split.
        """
        basis = "at the speed of the maps that are done" if self.by_journal else "measured on a few tiles"
        about, number = f"time: about {duration(self.seconds)}", 1 if self.workers is None else self.workers.number
        if number is None:
            return f"{about} for one worker ({basis}; --workers N gives the time of N)"
        if number == 1:
            return f"{about}{'' if self.workers is None else ' with 1 worker'} ({basis})"
        shared, longest = self.seconds / number, self.seconds * self.whole / max(1, self.pixels)
        rule = "as long as the largest mosaic takes" if longest > shared else f"that of one worker, by {number:,}"
        return f"time: about {duration(max(shared, longest))} with {number:,} workers ({basis}; {rule})"

    def _room(self) -> list[str]:
        """Return what is said of the room for the maps."""
        most = f"up to {_size(self.most)}" + ("" if self.likely is None else f", probably {_size(self.likely)}")
        if not self.address:
            return [f"disk: {most}; {_size(self.free)} are free"]
        return [
            f"bucket: {most}, in {self.address}",
            f"disk: up to {_size(self.largest)} for each map that is being made; {_size(self.free)} are free",
        ]


def estimate(batch: Batch, shown: bool = True, ray: RayOptions | None = None) -> Estimate:
    """Return the estimate of a batch, for which the header of each image is read; writes nothing.

    Args:
        batch: The batch.
        shown: False to show no progress.
        ray: Options of Ray, which isn't started; None to map in one process.

    Raises:
        UserError: Maps were made with other settings, or the model can't be loaded.
    """
    place, latest = _look(batch)
    tasks = to_do(batch, latest, place)
    result = Estimate(done=len(batch.items) - len(tasks), workers=None if ray is None else planned_workers(ray, batch))
    items = []
    for task in tasks:
        exists = any(place.exists(name) for name in batch.layout.files(task.item))
        if exists and not task.overwrite:
            result.there += 1
        else:
            items.append(task.item)
    _read_headers(batch, items, result, shown)
    _add_time(batch, latest, result)
    done = [record for record in latest.values() if _numbers(record, "bytes", "pixels")]
    if done:
        rate = sum(record["bytes"] for record in done) / sum(record["pixels"] for record in done)
        result.likely = rate * result.pixels if batch.options.probabilities is None else None
    result.address = batch.address
    disk = next(folder for folder in (batch.folder, *batch.folder.absolute().parents) if folder.exists())
    result.free = shutil.disk_usage(disk).free
    return result


def _look(batch: Batch) -> tuple[Place, dict[str, Record]]:
    """Return the place of a batch and what its journal says, without writing anything."""
    if not batch.address:
        return Folder(batch.folder), read_journal(batch.folder / JOURNAL)
    from inference.batch.bucket.session import look  # needs boto3

    stored = look(batch)
    content = b"" if stored.journal is None else stored.journal.content
    found = records(content[: content.rfind(b"\n") + 1], Address(f"{batch.address}/{JOURNAL}"))
    return stored, {record["output"]: record for record in found}


def _read_headers(batch: Batch, items: Sequence[Item], result: Estimate, shown: bool) -> None:
    """Add what the headers of images say."""
    card, options = batch.settings.card, batch.options
    split_px = 0 if result.workers is None else result.workers.split_px

    def look(item: Item) -> Callable[[], None]:
        try:
            header = read_header(item.source)
            reading = plan_reading(header, card, options, [])
        except UserError as error:
            return lambda found=str(error): fail(item, found)  # type: ignore[misc]

        def add() -> None:
            result.images += 1
            pixels = header.height * header.width
            result.pixels += pixels
            if not split_px or pixels <= split_px:
                result.whole = max(result.whole, pixels)
            result.tiles += len(reading.rows) * len(reading.cols)
            room = room_for(header, card, False, options.cog)
            if options.probabilities is not None:
                room += room_for(header, card, True, options.cog)
            result.most += room
            result.largest = max(result.largest, room)
            known = identity(item.source)
            result.read += 0 if known is None else known[0]
            result.unknown += known is None

        return add

    def fail(item: Item, reason: str) -> None:
        result.failed += 1
        result.failing.add(item.source, reason)

    with ThreadPoolExecutor(_READERS) as pool:
        found = pool.map(look, items)
        for add in progress(found, len(items), "reading headers") if shown else found:
            add()


def _add_time(batch: Batch, latest: dict[str, Record], result: Estimate) -> None:
    done = [
        record
        for record in latest.values()
        if _numbers(record, "seconds", "pixels") and record.get("options") == batch.settings.options
    ]
    if done:
        speed = sum(record["pixels"] for record in done) / max(1e-9, sum(record["seconds"] for record in done))
        result.seconds, result.by_journal = result.pixels / speed, True
    elif result.tiles:
        result.seconds = result.tiles * _seconds_a_tile(batch, result.workers)


def _seconds_a_tile(batch: Batch, workers: PlannedWorkers | None) -> float:
    """Return the time that the network takes for a tile of noise, with the threads of a worker."""
    options, card = batch.options, batch.settings.card
    if workers is not None and workers.threads is not None:
        options = replace(options, threads=workers.threads)
    model = choose_model(backend=options.backend) if options.model is None else user_path(options.model, "--model")
    request = request_for(Path(model), card, options)
    network = open_backend(choose_backend(model, options.backend, options.precision), request)
    rng = np.random.default_rng(0)
    pixels = rng.standard_normal((request.batch, request.bands, request.tile, request.tile)).astype(np.float32)
    network(pixels)
    began = time.perf_counter()
    for _ in range(_TIMED):
        network(pixels)
    return (time.perf_counter() - began) / _TIMED / request.batch * (8 if options.tta else 1)


def _numbers(record: Record, *keys: str) -> bool:
    return record["state"] == "done" and all(
        isinstance(record.get(key), int | float) and record[key] > 0 for key in keys
    )


def _size(count: float) -> str:
    """Return a number of bytes as text."""
    return f"{count / _GIB:,.1f} GiB" if count >= _GIB / 10 else f"{count / 2**20:,.1f} MiB"
