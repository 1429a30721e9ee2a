"""Shared keys: one value that may stand in several places of a YAML, settled before anything else is checked."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from train.configs.config import SHARED
from train.configs.document import KeyPath
from train.configs.problems import Problem, value_at
from train.configs.wording import dotted, shown


@dataclass
class Settled:
    """Shared keys after settling.

    Attributes:
        origin: Path whose value counts, by key of the top level; only of keys that were given.
        moved: Part of `origin`: keys that a section had and the top level had not.
        problems: One for each place whose value disagrees with the one that counts.
    """

    origin: dict[str, KeyPath] = field(default_factory=dict)
    moved: dict[str, KeyPath] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def covered(path: KeyPath, overrides: Iterable[KeyPath]) -> bool:
    """Say whether an override wrote this value, or the mapping that it is in."""
    return any(path[: len(override)] == override for override in overrides)


def settle(data: dict[str, Any], overrides: Mapping[KeyPath, Any]) -> Settled:
    """Move each shared key to the top level of `data`, in place.

    Where an override names a shared key, whatever the file says of it is dropped: the one of the top level reaches all
    sections, and one of a section is the value that counts. A value of a wrong type stays where it is, to be reported.

    Args:
        data: The YAML with its overrides already written into it.
        overrides: The overrides by path.
    """
    settled = Settled()
    for top, copies in SHARED.items():
        given = [(path, value) for path in [(top,), *copies] if (value := value_at(data, path)) is not None]
        by_hand = [(path, value) for path, value in given if covered(path, overrides)]
        if by_hand:
            for path, _ in given:
                if not covered(path, overrides):
                    _remove(data, path)
            given = by_hand
        sound = [(path, value) for path, value in given if type(value) is int or (top, value) == ("batch_size", "auto")]
        if not sound:
            if given:
                settled.origin[top] = given[0][0]
            continue
        first, counts = sound[0]
        for path, value in sound[1:]:
            if value != counts:
                text = f"is {shown(value)}, but {dotted(first)} is {shown(counts)} (they are one value: "
                text += "change one" + ("" if by_hand else f", or leave all but {top} out") + ")"
                settled.problems.append(Problem(text, (path, first)))
            _remove(data, path)
        settled.origin[top] = first
        if first != (top,):
            _remove(data, first)
            if value_at(data, (top,)) is None:
                data[top] = counts
                settled.moved[top] = first
    bands = value_at(data, ("data_module", "bands"))
    if data.get("num_bands") is None and isinstance(bands, list) and bands:
        data["num_bands"] = len(bands)
        settled.origin["num_bands"] = settled.moved["num_bands"] = ("data_module", "bands")
    return settled


def _remove(data: dict[str, Any], path: KeyPath) -> None:
    section = value_at(data, path[:-1])
    if isinstance(section, dict):
        section.pop(path[-1], None)
