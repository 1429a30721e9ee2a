"""Attempt to map an image, as the driver of a batch knows it."""

from inference.batch.arguments import Batch
from inference.batch.bucket.upload import Upload
from inference.batch.items import identity
from inference.batch.job import Job
from inference.batch.queue import Task


class Attempt:
    """Attempt to map an image.

    Args:
        batch: The batch.
        task: The image and the number of the attempt.
        upload: Where its files are uploaded to; None if they stay.

    Attributes:
        task: The image and the number of the attempt.
        file: Size and time of change of the image when the attempt began; None for an address.
        job: Work that the attempt is.
    """

    def __init__(self, batch: Batch, task: Task, upload: Upload | None = None) -> None:
        self.task = task
        self.file = identity(task.item.source)
        options = batch.layout.options(batch.options, task.item, overwrite=task.overwrite)
        self.job = Job(task.item.source, batch.layout.target(task.item), options, task.attempt, upload)
