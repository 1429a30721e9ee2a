"""Clusters of regions that touch each other, whatever their classes: they share outlines that are simplified once."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from inference.vector.runs import Runs, connected, touching

if TYPE_CHECKING:
    from inference.vector.regions import Regions


class Clusters:
    """Regions that have ended, held until all regions that touch them, directly or through others, have ended too."""

    def __init__(self) -> None:
        self._of_open = np.zeros(0, np.int64)  # cluster of each open region
        self._held: list[tuple[Regions, NDArray[np.int64]]] = []  # with the cluster of each region

    def release(
        self,
        open_region: NDArray[np.int64],
        touch: tuple[NDArray[np.int64], NDArray[np.int64]],
        stays: NDArray[np.bool_],
        ended: NDArray[np.int64],
        regions: "Regions",
    ) -> "Regions":
        """Add a band of rows, and return the regions of the clusters that have ended, in the order of their last rows.

        Args:
            open_region: Number of each region that was open before the band.
            touch: Numbers of the two regions of each pair that touches.
            stays: True for the regions that are open after the band.
            ended: Numbers of the regions that ended in it.
            regions: These regions.
        """
        known = int(self._of_open.max(initial=-1)) + 1
        known = max([known, *(int(cluster.max(initial=-1)) + 1 for _, cluster in self._held)])
        count, cluster = connected(
            known + len(stays),
            np.concatenate([self._of_open, touch[0] + known]),
            np.concatenate([open_region + known, touch[1] + known]),
        )
        of_region = cluster[known:]
        self._held = [(held, cluster[number]) for held, number in self._held]
        self._held.append((regions, of_region[ended]))
        lasts = np.zeros(count, np.bool_)
        lasts[of_region[stays]] = True
        number = np.cumsum(lasts) - 1
        self._of_open = number[of_region[stays]]
        return self._split(lasts, number)

    def _split(self, lasts: NDArray[np.bool_], number: NDArray[np.int64]) -> "Regions":
        """Keep the regions of clusters that last, and return the others."""
        released, labels, kept = [], [], []
        for regions, cluster in self._held:
            stays = lasts[cluster]
            released.append(regions[~stays])
            labels.append(cluster[~stays])
            if stays.any():
                kept.append((regions[stays], number[cluster[stays]]))
        self._held = kept
        together, label = type(released[0]).joined(released), np.concatenate(labels)
        last, first = np.full(len(lasts), -1), np.full(len(lasts), np.iinfo(np.int64).max)
        np.maximum.at(last, label, together.last)
        np.minimum.at(first, label, together.first)
        return together[np.lexsort((together.first, together.last, first[label], last[label]))]


def touching_regions(
    runs: Runs, above: Runs, width: int, region: NDArray[np.int64], above_region: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the numbers of the regions of all pairs of runs that share a side or a corner.

    Args:
        runs: Runs of a band of rows.
        above: Runs of the row before the band.
        width: Width of the map, pixels.
        region: Number of each run's region.
        above_region: The same of the runs above.
    """
    beside = np.flatnonzero((runs.row[1:] == runs.row[:-1]) & (runs.start[1:] == runs.stop[:-1]))
    one, other = touching(runs, runs, width, diagonal=True, same_class=False)
    low, high = touching(runs, above, width, diagonal=True, same_class=False)
    first = np.concatenate([region[beside], region[one], region[low]])
    second = np.concatenate([region[beside + 1], region[other], above_region[high]])
    apart = first != second
    return first[apart], second[apart]
