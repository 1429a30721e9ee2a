"""Agreement of the processes of a distributed run before training starts."""

import hashlib
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch.distributed as dist

from inference.common.errors import UserError
from inference.common.text import limited, quoted
from train.configs.config import Config
from train.configs.wording import shown
from train.datamodule import DataModule
from train.model import SegmentationModel
from train.run.auto_batch import set_batch_size
from train.run.checkpoints import Checkpoints
from train.run.folder import RunFolder, dotted_values
from train.run.metrics_table import MetricsTable
from train.run.preflight import check_batches

# Values that processes may see differently: nodes may keep copies of the data, and have other numbers of cores.
_MAY_DIFFER = ("data_module.data_dir", "data_module.num_workers", "data_module.pin_memory", "logging.save_dir")


class ProcessAgreement(L.Callback):
    """Agreement of all processes on the run folder, the config, the data and the batch size, once they are connected.

    Only the processes that Lightning starts on one machine inherit the folder of rank 0; those of other nodes, and of
    a launcher such as torchrun or srun, learn it here. `batch_size: auto` becomes the smallest that any process found.

    Args:
        data: Prepared data module.
        folder: Run folder; of rank 0 the real one.
        checkpoints: Callback that saves; gets the folder of rank 0.
        table: Callback that writes the scores; gets the folder of rank 0.
        automatic: True if each process has chosen its own batch size.
        notify: Called with each line for the user.

    Attributes:
        folder: Run folder of rank 0.
    """

    def __init__(
        self,
        data: DataModule,
        folder: RunFolder,
        checkpoints: Checkpoints,
        table: MetricsTable,
        automatic: bool,
        notify: Callable[[str], None],
    ) -> None:
        self.folder = folder
        self._data = data
        self._checkpoints = checkpoints
        self._table = table
        self._automatic = automatic
        self._notify = notify

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Agree before training; the process group exists by now.

        Raises:
            UserError: The processes don't fit together; raised in all of them.
        """
        if stage != "fit" or trainer.world_size == 1:
            return
        path = trainer.strategy.broadcast(str(self.folder.path.resolve()))
        if not trainer.is_global_zero:
            self.folder = RunFolder(Path(path))
            self._checkpoints.folder = self.folder.checkpoints
            self._table.path = self.folder.metrics
        own = {
            "host": platform.node(),
            "sees the folder": self.folder.checkpoints.is_dir(),
            "batch": self._data.config.batch,
            "config": _values(self._data.config),
            "data": _names(self._data),
        }
        found: list[Any] = [None] * trainer.world_size
        dist.all_gather_object(found, own)
        problems = _problems(path, found)
        if problems:
            raise UserError("\n".join(limited(problems, 8)))
        if self._automatic:
            self._agree_on_batch(trainer, pl_module, found)

    def _agree_on_batch(
        self, trainer: L.Trainer, pl_module: L.LightningModule, found: Sequence[Mapping[str, Any]]
    ) -> None:
        sizes = [each["batch"] for each in found]
        smallest = min(sizes)
        if max(sizes) > smallest:
            where = f"rank {sizes.index(smallest)} on {quoted(found[sizes.index(smallest)]['host'])}"
            self._notify(f"note: batch_size auto: {smallest} on every device, which is what fits on {where}")
        config = self._data.config
        set_batch_size(config, smallest)
        model = pl_module
        assert isinstance(model, SegmentationModel)
        set_batch_size(model.config, smallest)
        model.hparams["config"] = config.plain()
        check_batches(config, self._data, trainer.world_size)
        if trainer.is_global_zero:
            self.folder.write_config(config)


def _problems(path: str, found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return why processes don't fit together, a line each."""
    first = found[0]
    problems = []
    for rank, each in enumerate(found):
        who = f"rank {rank} on {quoted(each['host'])}"
        if not each["sees the folder"]:
            problems.append(
                f"logging.save_dir: {path} of rank 0 on {quoted(first['host'])} does not exist for {who} (write runs "
                "to a file system that all nodes share)"
            )
        other = [
            f"{key} is {shown(each['config'].get(key))}, rank 0 has {shown(first['config'].get(key))}"
            for key in sorted(each["config"].keys() | first["config"].keys())
            if each["config"].get(key) != first["config"].get(key)
        ]
        if other:
            problems.append(
                f"config: that of {who} is another: {'; '.join(limited(other, 3))} (start all processes with the same "
                "config and overrides)"
            )
        if each["data"] != first["data"]:
            problems.append(
                f"data_module.data_dir: {who} finds other files than rank 0 on {quoted(first['host'])} (give all nodes "
                "the same data)"
            )
    return problems


def _values(config: Config) -> dict[str, Any]:
    """Return the values that must be the same in all processes, by their dotted keys."""
    values = dotted_values(config.plain())
    return {k: v for k, v in values.items() if k not in _MAY_DIFFER and not k.endswith("batch_size")}


def _names(data: DataModule) -> str:
    """Return a digest of the images of all splits: names and sizes, which decide which windows a process trains on."""
    digest = hashlib.sha256()
    for split, scenes in sorted(data.scenes.items()):
        for scene in scenes:
            digest.update(repr((split, scene.name, scene.height, scene.width)).encode())
    return digest.hexdigest()
