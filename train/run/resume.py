"""Resuming a run: its `last.ckpt`, and the comparison of the data with those that the run was trained on so far."""

from collections.abc import Mapping, Sequence
from typing import Any

from inference.common.documents import read_json
from inference.common.errors import UserError
from train.data.fingerprint import file_digests, fingerprint
from train.data.labelled_images import LabelledImages
from train.data.normalization import Normalization
from train.data.pairs import join_some
from train.run.checkpoint_state import Wrong, at, check_list, check_type, refusal
from train.run.checkpoints import LAST, read_checkpoint
from train.run.folder import RunFolder
from train.run.provenance import now


def read_last_checkpoint(folder: RunFolder) -> dict[str, Any]:
    """Read a run's `last.ckpt`.

    Raises:
        UserError: There is none, or it can't be read.
    """
    last = folder.checkpoints / LAST
    if not last.is_file():
        found = ", ".join(sorted(p.name for p in folder.checkpoints.glob("*.ckpt"))) or "none"
        raise UserError(f"{last}: no such file, so the run can't be resumed (checkpoints: {found})")
    return read_checkpoint(last)


def changed_data(folder: RunFolder, data: LabelledImages, content: Mapping[str, Any], force: bool) -> list[str]:
    """Compare the data with those that a run was trained on so far.

    Args:
        folder: Run folder.
        data: Prepared images; a normalisation that was measured stays the run's.
        content: Content of the run's `last.ckpt`, whose card has the fingerprint of the train split.
        force: True to go on where the data differ.

    Returns:
        Changes of the data during the run, one line each: those of earlier parts, and the one found now.

    Raises:
        UserError: The data differ, and `force` is False; or the record of the data is damaged.
    """
    card = _card(folder, content)
    if data.measures:
        # The network has learnt with this normalisation; a measurement of other data would shift its input, also when
        # the run is resumed again later.
        data.normalization = Normalization(tuple(card["mean"]), tuple(card["std"]), card["max_pixel_value"])
    known, changes = _read_record(folder)
    found = file_digests(data.scenes)
    if known:
        difference = _difference(known, found)
    elif fingerprint(data.scenes["train"]) != card["training_data"]["fingerprint"]:
        difference = "the train split has another fingerprint (the run has no list of files to compare)"
    else:
        difference = ""  # a run of an earlier version, which recorded no other split
    if not difference:
        return changes
    if not force:
        raise UserError(
            f"{data.data_dir}: isn't the data that {folder.path} was trained on so far: {difference} (restore the "
            "data, or begin a new run; --force goes on with these data and records it in summary and card)"
        )
    return [*changes, f"{now()}, after step {content.get('global_step')}: {difference}"]


def write_record(folder: RunFolder, data: LabelledImages, changes: Sequence[str]) -> None:
    """Write a digest of each file of the data, to be compared when the run is resumed."""
    folder.write_json(folder.data, {"files": file_digests(data.scenes), "changes": list(changes)})


def _card(folder: RunFolder, content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the model card in a checkpoint, after checking the values that are needed here."""
    try:
        card: dict[str, Any] = at(content, "hyper_parameters", "card")
        check_type(card, dict, "hyper_parameters.card")
        check_type(at(card, "training_data", "fingerprint"), str, "hyper_parameters.card.training_data.fingerprint")
        for key in ("mean", "std"):
            check_list(at(card, key), (int, float), f"hyper_parameters.card.{key}")
        check_type(at(card, "max_pixel_value"), (int, float), "hyper_parameters.card.max_pixel_value")
    except Wrong as error:
        raise UserError(refusal(folder, [error])) from None
    return card


def _read_record(folder: RunFolder) -> tuple[dict[str, str], list[str]]:
    """Return digests by file, and earlier changes; nothing for a run of an earlier version."""
    if not folder.data.is_file():
        return {}, []
    content = read_json(folder.data)
    try:
        files, changes = at(content, "files"), at(content, "changes")
        check_type(files, dict, "files")
        check_list(list(files.values()), str, "files")
        check_list(changes, str, "changes")
    except Wrong as error:
        raise UserError(
            f"{folder.data}: {error.args[0]}: {error.args[1]} (restore the file; without it only the fingerprint of "
            "the train split is compared)"
        ) from None
    return files, changes


def _difference(known: Mapping[str, str], found: Mapping[str, str]) -> str:
    """Describe in one line which files differ; empty where none does."""
    parts = [
        ("added", sorted(found.keys() - known.keys())),
        ("gone", sorted(known.keys() - found.keys())),
        ("changed", sorted(name for name in known.keys() & found.keys() if known[name] != found[name])),
    ]
    return "; ".join(f"{what}: {join_some(names)}" for what, names in parts if names)
