"""Label values: how the values of a label file become class indices."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.common.raster import Header
from inference.common.validity import equal
from train.configs.config import Config


@dataclass(frozen=True)
class LabelRule:
    """Mapping of the values of a label file to class indices.

    Attributes:
        classes: Number of classes, background included: indices 0 to classes - 1.
        ignore_index: Value that stands for "no label" after mapping.
        label_map: Value in the file to value after mapping; other values stay.
        nodata: Value in the file that means "no label"; "none" for no value; None for the file's own nodata,
            unless that is a class.
    """

    classes: int
    ignore_index: int
    label_map: tuple[tuple[int, int], ...] = ()
    nodata: int | str | None = None

    def allowed(self) -> str:
        """Return the values that a file may hold, as text."""
        known = {*dict(self.label_map), *range(self.classes), self.ignore_index}
        known |= {self.nodata} if isinstance(self.nodata, int) else set()
        words: list[str] = []
        for value in sorted(known):
            if value - 1 not in known or value + 1 not in known or len(known) <= 10:
                words.append(str(value))
            elif words[-1] != "to":
                words.append("to")
        return ", ".join(words).replace(", to, ", " to ")

    def nodata_of(self, header: Header) -> float | None:
        """Return the value in a file that means "no label"; None for no value."""
        if self.nodata == "none":
            return None
        if self.nodata is not None:
            return int(self.nodata)
        nodata = header.nodata[0]
        if nodata is None or not float(nodata).is_integer():
            return nodata
        return None if self.class_of(int(nodata)) is not None else int(nodata)

    def class_of(self, value: int) -> int | None:
        """Return the class index of a value in the file; None for ignored and unknown values."""
        mapped = dict(self.label_map).get(value, value)
        return mapped if 0 <= mapped < self.classes else None

    @property
    def unknown(self) -> int | None:
        """Value that marks what is neither a class nor ignored after mapping; None if all of 1 to 255 are taken."""
        return next((v for v in range(255, 0, -1) if v >= self.classes and v != self.ignore_index), None)

    def table(self, nodata: float | None) -> NDArray[np.uint8]:
        """Return the mapping of all uint8 values, (256,) uint8; unknown values become `self.unknown`."""
        return _table(self, nodata)


def label_rule(config: Config) -> LabelRule:
    """Return the mapping of label values that a config describes."""
    mapping = config.data_module.label_map or {}
    return LabelRule(config.labels, config.ignore_index, tuple(mapping.items()), config.data_module.label_nodata)


@lru_cache(maxsize=64)
def _table(rule: LabelRule, nodata: float | None) -> NDArray[np.uint8]:
    table = np.full(256, rule.unknown or 0, np.uint8)
    table[: rule.classes] = np.arange(rule.classes)
    table[rule.ignore_index] = rule.ignore_index
    for source, target in rule.label_map:
        if 0 <= source <= 255:
            table[source] = target
    if isinstance(nodata, int) and 0 <= nodata <= 255:
        table[nodata] = rule.ignore_index
    return table


def map_labels(
    values: NDArray[Any], rule: LabelRule, nodata: float | None
) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
    """Map label values to class indices.

    Args:
        values: (H, W) of any real type; a NaN means "no label".
        rule: Mapping of the values.
        nodata: Value that means "no label"; None for no value.

    Returns:
        Label (H, W) uint8. Unknown (H, W) bool, True where a value is neither a class nor ignored; None if none
        is.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        # A value that is no byte becomes some byte, and then differs from it.
        small = np.ascontiguousarray(values).astype(np.uint8, copy=False)
    label: NDArray[np.uint8] = cv2.LUT(small, rule.table(nodata)).reshape(values.shape)
    strange: NDArray[np.bool_] | None = None
    if values.dtype not in (np.uint8, np.bool_) and (large := small != values).any():
        known: dict[float, int] = dict(rule.label_map) | ({} if nodata is None else {nodata: rule.ignore_index})
        for source, target in known.items():
            found = large & equal(values, source)
            label[found], large[found] = target, False
        if values.dtype.kind == "f":
            nan = np.isnan(values)
            label[nan], large[nan] = rule.ignore_index, False
        strange = large
    unknown = None if rule.unknown is None else label == rule.unknown
    if strange is not None:
        unknown = strange if unknown is None else strange | unknown
    return label, unknown if unknown is not None and unknown.any() else None
