"""Values of a config as the rules ask for them."""

from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from train.configs.document import KeyPath
from train.configs.network import default_ignore_index
from train.configs.problems import Problem, value_at
from train.configs.registries.families import FAMILIES, Architecture, Family
from train.configs.schema import default

DATA = "data_module"
NETWORK = "segmentation_config"
FAMILY: KeyPath = ("segmentation_model_cls",)
ARCHITECTURE: KeyPath = (NETWORK, "architecture")
BACKBONE: KeyPath = (NETWORK, "backbone")
OPTS: KeyPath = (NETWORK, "opts")


class Invalid(Exception):
    """A rule asks for a value that is invalid itself."""


@dataclass(frozen=True)
class Facts:
    """A YAML that the schema has checked key by key.

    The schema converts no value, so that one which isn't invalid has the type and the range of its field.

    Attributes:
        data: YAML whose shared keys have been moved to the top level.
        origin: Path that the value of a shared key comes from (see `shared.Settled`).
        invalid: Paths of the values that the schema refuses.
    """

    data: Mapping[str, Any]
    origin: Mapping[str, KeyPath]
    invalid: Set[KeyPath] = frozenset()

    def get(self, *path: str | int) -> Any:
        """Return the value at a path, or its default where none is given.

        Raises:
            Invalid: It, or a part of it, is invalid.
        """
        at = self.origin.get(str(path[0]), path) if len(path) == 1 else path
        if at in self._around_invalid or self._is_invalid(at):
            raise Invalid
        value = value_at(self.data, path)
        return default(path) if value is None else value

    def _is_invalid(self, path: KeyPath) -> bool:
        """Return True if a value, or what contains it, is invalid."""
        return any(path[:depth] in self.invalid for depth in range(len(path) + 1))

    @cached_property
    def _around_invalid(self) -> frozenset[KeyPath]:
        """Paths of what is invalid or contains something invalid."""
        return frozenset(path[:depth] for path in self.invalid for depth in range(len(path) + 1))

    def given(self, *path: str | int) -> bool:
        """Say whether the YAML has a value at a path."""
        return value_at(self.data, path) is not None

    def items(self, *path: str | int) -> Iterator[tuple[Any, Any]]:
        """Yield the pairs of the mapping at a path whose keys and values are valid; a value's own parts may not be."""
        mapping = value_at(self.data, path)
        for key, value in mapping.items() if isinstance(mapping, Mapping) else ():
            at = (*path, key)
            if value is not None and not self._is_invalid(at):
                yield key, value

    def where(self, key: str) -> tuple[KeyPath, ...]:
        """Return where a shared key gets its value, for a problem to refer to; nothing where it is a default."""
        return (self.origin[key],) if key in self.origin else ()

    @property
    def num_classes(self) -> int:
        """Classes that the network tells apart."""
        return int(self.get("num_classes"))

    @property
    def labels(self) -> int:
        """Number of classes that a label may hold."""
        return max(2, self.num_classes)

    @property
    def task(self) -> str:
        """Binary or multiclass."""
        return "binary" if self.num_classes == 1 else "multiclass"

    @property
    def ignore_index(self) -> int:
        """Label that counts nowhere."""
        given = self.get(NETWORK, "ignore_index")
        return default_ignore_index(self.num_classes) if given is None else int(given)

    @property
    def epochs(self) -> int:
        """Number of epochs."""
        return int(self.get("max_epoch"))

    @property
    def family(self) -> Family:
        """Family of networks."""
        return FAMILIES[self.get(*FAMILY)]

    @property
    def architecture(self) -> Architecture:
        """Architecture; `Invalid` where its name is unknown, which a rule of its own reports."""
        name = self.family.match(self.get(*ARCHITECTURE))
        if name is None:
            raise Invalid
        return self.family.architectures[name]

    @property
    def encoder(self) -> str:
        """Canonical name of the encoder; `Invalid` where its name is unknown, which a rule of its own reports."""
        name = self.family.resolve(self.get(*BACKBONE))
        if name is None:
            raise Invalid
        return name


Rule = Callable[[Facts], Iterator[Problem]]
