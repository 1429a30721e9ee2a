"""Work of a batch on Ray as the driver keeps it: the images, where outcomes go, and what each worker does."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from inference.batch.attempt import Attempt
from inference.batch.distributed.actor import BandJob, Place
from inference.batch.distributed.split import SplitImage
from inference.batch.job import Outcome
from inference.batch.progress import BatchProgress
from inference.batch.queue import Queue, Task


@dataclass(frozen=True)
class Work:
    """Work of a batch, and where its outcomes go.

    Attributes:
        queue: Images that wait.
        attempt: Returns the attempt for an image.
        started: Called before an attempt writes its first file.
        record: Called with each outcome.
        files: Returns the paths of all files of an image.
        bar: Progress.
        local: True if the folder of the maps is one that each worker must see.
    """

    queue: Queue
    attempt: Callable[[Task], Attempt]
    started: Callable[[Task], None]
    record: Callable[[Attempt, Outcome], None]
    files: Callable[[Task], Sequence[Path]]
    bar: BatchProgress
    local: bool = True


@dataclass
class Slot:
    """Worker, and what it does.

    Attributes:
        actor: Handle of the worker.
        answer: Reference to the result of the method that it was sent; None if it is idle.
        doing: That method.
        place: Its place; None until it has started.
        attempt: The attempt; None if it has no image, or a row band of one.
        following: Attempt whose image it opens meanwhile, and which is its next one unless another worker is idle.
        split: Image whose row band it predicts, or which it joins; None for others.
        band: That row band.
        progress: Reference to the progress that was asked for.
    """

    actor: Any
    answer: Any = None
    doing: Literal["place", "prepare", "run", "predict", "join"] = "place"
    place: Place | None = None
    attempt: Attempt | None = None
    following: Attempt | None = None
    split: SplitImage | None = None
    band: BandJob | None = None
    progress: Any = None
