"""Resuming a run: its `last.ckpt`, and the comparison of the data with those that the run was trained on so far."""

from collections.abc import Mapping, Sequence
from typing import Any

from inference.common.documents import read_json
from inference.common.errors import UserError
from train.configs.config import Config
from train.configs.wording import shown
from train.data.fingerprint import file_digests, fingerprint
from train.data.labelled_images import LabelledImages
from train.data.normalization import Normalization
from train.data.pairs import join_some
from train.run.checkpoint_state import Wrong, at, check_list, check_type, refusal
from train.run.checkpoints import read_checkpoint
from train.run.folder import LAST, RunFolder, dotted_values, is_resumable
from train.run.provenance import now

# The length of a run is also written as the network's; a data set that has moved is compared file by file.
_MAY_DIFFER = ("segmentation_config.max_epochs", "data_module.data_dir")


def read_last_checkpoint(folder: RunFolder) -> dict[str, Any]:
    """Read a run's `last.ckpt`.

    Raises:
        UserError: It can't be read.
    """
    return read_checkpoint(folder.checkpoints / LAST)


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
        if not difference and not force:
            _check_fingerprint(folder, data, card, changes)
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


def check_config(folder: RunFolder, content: Mapping[str, Any], config: Config, force: bool) -> None:
    """Check that a checkpoint was trained with the config of its run: keys that may change when it is resumed aside.

    A checkpoint of another run of the same network has all that this one continues from; so has that of a run whose
    `config.yml` was edited.

    Args:
        folder: Run folder.
        content: Content of its `last.ckpt`.
        config: Resolved config, without anything left to the data.
        force: True to go on where they differ.

    Raises:
        UserError: They differ, and `force` is False.
    """
    try:
        trained = at(content, "hyper_parameters", "config")
        check_type(trained, dict, "hyper_parameters.config")
    except Wrong as error:
        raise UserError(refusal(folder, [error])) from None
    own = dotted_values(config.plain())
    differences = [
        f"{key} is {shown(value)}, {folder.config.name} has {shown(own[key])}"
        for key, value in dotted_values(trained).items()
        if key in own and value != own[key] and not is_resumable(key) and key not in _MAY_DIFFER
    ]
    if differences and not force:
        raise UserError(
            f"{folder.checkpoints / LAST}: is a checkpoint of another run, or {folder.config.name} was changed: "
            f"{join_some(differences)} (restore the file, or begin a new run; --force goes on)"
        )


def is_prolonged(content: Mapping[str, Any], config: Config) -> bool:
    """Return True if a run is resumed with more epochs or steps than its checkpoint was trained for."""
    before, now = dotted_values(content["hyper_parameters"]["config"]), dotted_values(config.plain())

    def raised(key: str) -> bool:
        old, new = before.get(key), now.get(key)
        # No limit is written as -1.
        return isinstance(old, int) and isinstance(new, int) and old != -1 and (new > old or new == -1)

    return raised("trainer.max_epochs") or raised("trainer.max_steps")


def write_record(folder: RunFolder, data: LabelledImages, changes: Sequence[str]) -> None:
    """Write a digest of each file of the data, to be compared when the run is resumed."""
    folder.write_json(folder.data, {"files": file_digests(data.scenes), "changes": list(changes)})


def _check_fingerprint(
    folder: RunFolder, data: LabelledImages, card: Mapping[str, Any], changes: Sequence[str]
) -> None:
    """Check that a checkpoint was trained on the data of the run's record.

    One from before a change of the data, which `changes` records, has another fingerprint.
    """
    trained_on = card["training_data"]
    if trained_on.get("changes", []) == changes and trained_on["fingerprint"] != fingerprint(data.scenes["train"]):
        raise UserError(
            f"{folder.checkpoints / LAST}: is a checkpoint of another run: it was trained on other data than "
            f"{folder.data.name} records (restore the file, or begin a new run; --force goes on)"
        )


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
