"""Images that a batch still has to map, found in its journal."""

from collections.abc import Mapping
from dataclasses import replace

from inference.batch.arguments import Batch
from inference.batch.items import Item, identity
from inference.batch.journal import DONE, STARTED, Record
from inference.batch.place import Place
from inference.batch.queue import Task
from inference.batch.settings import differences
from inference.common.errors import UserError
from inference.common.paths import shown_path
from inference.common.text import limited
from inference.options import Options

_SHOWN = 5


def to_do(batch: Batch, latest: Mapping[str, Record], place: Place) -> list[Task]:
    """Return the images that aren't done, with whether their files may be replaced.

    Args:
        batch: The batch.
        latest: Last line of the journal about each map.
        place: Place of the files of the batch.

    Raises:
        UserError: Maps were made of other images or with other settings, and may not be replaced.
    """
    stale: dict[str, str] = {}
    done: set[str] = set()
    if not batch.options.overwrite:
        for name, record in latest.items():
            changed = differences(batch.settings, record) if record["state"] == DONE else []
            if changed and place.exists(name):
                stale[name] = f"{name} was made with {', '.join(changed)}"
    for item in batch.items:
        found = latest.get(item.name)
        if found is None or found["state"] != DONE or not _is_there(place, found):
            continue
        if differences(batch.settings, found):
            continue
        reason = _other_image(item, found, batch.options)
        if reason is None:
            done.add(item.name)
        elif not batch.options.overwrite:
            stale[item.name] = f"{item.name} {reason}"
    if stale:
        raise UserError(
            f"{place.shown}: {'; '.join(limited(stale.values(), _SHOWN))} (choose another OUT_DIR, or "
            "replace such maps with --overwrite)"
        )
    tasks = []
    in_doubt: dict[str, list[str]] = {}
    for item in batch.items:
        if item.name not in done:
            # Files of an attempt that was killed are the batch's own: when it was begun, none had these names.
            own = latest.get(item.name, {}).get("state") in (STARTED, DONE)
            tasks.append(Task(item, batch.options.overwrite or own))
            if not tasks[-1].overwrite:
                in_doubt[item.name] = [name for name in batch.layout.files(item) if place.exists(name)]
    known = place.own([name for names in in_doubt.values() for name in names])
    return [
        replace(task, overwrite=task.overwrite or bool(names and known.issuperset(names)))
        for task in tasks
        for names in [in_doubt.get(task.item.name, [])]
    ]


def _is_there(place: Place, record: Record) -> bool:
    """Return True if all files of a map that is done are there."""
    files = record.get("files")
    further = [name for name in files if isinstance(name, str)] if isinstance(files, list) else []
    return all(place.exists(name) for name in (record["output"], *further))


def _other_image(item: Item, record: Record, options: Options) -> str | None:
    """Return why a map that is done isn't one of this image; None if it is."""
    before = record.get("file")
    now = identity(item.source)
    if now is None or not isinstance(before, list):
        if record["image"] != item.image:
            return f"was made of {shown_path(record['image'])}, not of {shown_path(item.image)}"
    elif list(now) != before:
        return f"was made of another file than {shown_path(item.source)} is now"
    given = item.date or options.date
    if given and record.get("date") != given:
        return f"has the date {shown_path(record.get('date') or 'none')}, not {given}"
    return None
