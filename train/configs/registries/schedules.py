"""Registry of the learning rate schedules: value of `segmentation_config.lr_scheduler`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from train.configs.registries.names import load


@dataclass(frozen=True)
class Schedule:
    """A row of the registry.

    Attributes:
        name: Canonical name.
        meaning: What it does.
        source: Paper or library that it comes from.
        path: Dotted path of a function of (share of training done, share of training that is warm-up), both in [0, 1],
            to the learning rate as a share of its highest value.
    """

    name: str
    meaning: str
    source: str
    path: str

    def load(self) -> Callable[[float, float], float]:
        """Import the function."""
        return cast(Callable[[float, float], float], load(self.path))


SCHEDULES: dict[str, Schedule] = {
    schedule.name: schedule
    for schedule in (
        Schedule(
            "onecycle",
            "Half a cosine up from 1/25, half a cosine down to 1/250000",
            "Smith & Topin 2017, arXiv:1708.07120, as in PyTorch's OneCycleLR",
            "train.optim.schedules:onecycle",
        ),
        Schedule(
            "cosine",
            "Linear rise, half a cosine down to 0",
            "Loshchilov & Hutter 2016, arXiv:1608.03983",
            "train.optim.schedules:cosine",
        ),
        Schedule(
            "poly",
            "Linear rise, linear fall to 0 (power 1)",
            "AerialFormer (arXiv:2306.06842), Swin (arXiv:2103.14030)",
            "train.optim.schedules:poly",
        ),
        Schedule("constant", "Linear rise, then 1", "", "train.optim.schedules:constant"),
    )
}
