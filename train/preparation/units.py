"""Units of a draw: cells of ground that must land in one split, because of their place, site, date or area."""

from collections.abc import Sequence
from dataclasses import dataclass

from inference.common.errors import UserError
from inference.common.text import quoted
from train.configs.data import SPLITS
from train.data.pairs import join_some

Place = tuple[int, int, int]
"""Number of a frame, and row and column of a cell in it."""


@dataclass(frozen=True)
class Unit:
    """Block of an image, and what it is drawn with.

    Attributes:
        place: Its cell.
        key: Site, date, split or value of a column; empty for the cell alone; None if it isn't known.
        image: Number of the image.
    """

    place: Place
    key: str | None
    image: int


class Units:
    """Units: cells with the same key are one, and cells that several images show join the keys of these.

    Args:
        members: Blocks.
    """

    def __init__(self, members: Sequence[Unit]) -> None:
        self._members = members
        self._root: dict[str | Place, str | Place] = {}
        self._joined: set[tuple[str, str]] = set()
        self._unknown: set[Place] = set()
        keys: dict[Place, dict[str, int]] = {}
        for member in members:
            if member.key is None:
                self._unknown.add(member.place)
            else:
                keys.setdefault(member.place, {}).setdefault(member.key, member.image)
        self._keys = keys
        for place, several in keys.items():
            for key in several:
                if key:
                    self._join(place, key)
            named = sorted(several)
            self._joined |= {(named[0], other) for other in named[1:]}
        numbers: dict[str | Place, int] = {}
        self._numbers = {place: numbers.setdefault(self._find(place), len(numbers)) for place in sorted(keys)}

    def _find(self, node: str | Place) -> str | Place:
        self._root.setdefault(node, node)
        while self._root[node] != node:
            self._root[node] = self._root[self._root[node]]
            node = self._root[node]
        return node

    def _join(self, place: Place, key: str) -> None:
        self._root[self._find(place)] = self._find(key)

    def number(self, place: Place) -> int:
        """Return the number of a cell's unit."""
        return self._numbers[place]

    def key(self, place: Place) -> str | None:
        """Return the key of a cell; None if it isn't known, and a split if one of several keys is one."""
        if place in self._unknown:
            return None
        keys = sorted(self._keys[place])
        return next((key for key in keys if key in SPLITS), keys[0])

    def notices(self, names: Sequence[str], by: str) -> list[str]:
        """Return a notice about keys that were joined, because images of several show the same ground.

        Args:
            names: Names of the images.
            by: What is drawn: site, date, column or given.

        Raises:
            UserError: Two of the keys are different splits that the user gave.
        """
        for place, several in sorted(self._keys.items()):
            given = [key for key in sorted(several) if key in SPLITS]
            if by in {"given", "column"} and len(given) > 1:
                one, other = (names[several[key]] for key in given[:2])
                raise UserError(
                    f"split.by: {by}: {quoted(one)} ({given[0]}) and {quoted(other)} ({given[1]}) show the same "
                    f"ground, such as cell {place[1]}, {place[2]} (give both the same split, or leave one image out)"
                )
        if not self._joined or by == "block":
            return []
        shown = join_some(f"{quoted(one)} and {quoted(other)}" for one, other in sorted(self._joined))
        return [f"split.by: {by}: images of {shown} show the same ground, so that they are drawn as one"]
