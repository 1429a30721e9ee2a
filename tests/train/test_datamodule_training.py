"""Training batches: windows drawn from seed, epoch and index alone, for any number of workers and processes."""

import warnings
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from inference.common.errors import UserError
from tests.conftest import write_dataset
from train.data.datasets import TrainBatchSampler, collate

from .windows import epochs, keys, module, same


def test_any_number_of_workers_gives_the_same_windows(odd: Path) -> None:
    alone = epochs(module(odd, augmentation="strong").train_dataloader())
    for workers in (1, 2):
        other = epochs(module(odd, augmentation="strong", num_workers=workers).train_dataloader())
        assert all(same(one, two) for one, two in zip(alone, other, strict=True))
    assert keys(alone[0]) != keys(alone[1])
    assert not same(alone[0], epochs(module(odd, augmentation="strong", seed=1).train_dataloader(), 1)[0])


def test_spawned_workers_give_the_same_windows(odd: Path) -> None:
    """As on macOS and Windows: nothing is inherited, everything travels."""
    data = module(odd, augmentation="drone", foreground_share=0.5, persistent_workers=False)
    loader = data.train_dataloader()
    loader.dataset[0, 0]  # files are open by now, and must stay behind
    spawned: Any = DataLoader(
        loader.dataset, batch_sampler=loader.batch_sampler, collate_fn=collate, num_workers=1,
        multiprocessing_context="spawn",
    )  # fmt: skip
    assert same(loader, spawned)


def test_an_epoch_has_each_image_as_often_as_its_area_asks_for(odd: Path) -> None:
    for batches in epochs(module(odd).train_dataloader()):
        counts = np.bincount([scene for scene, _, _ in keys(batches)])
        assert counts.tolist() == [1, 1, 1, 1, 3, 3, 8]  # ceil(area / 256)


def test_another_number_of_samples(odd: Path) -> None:
    loader = module(odd, samples_per_epoch=11).train_dataloader()
    assert [sum(len(batch["at"]) for batch in batches) for batches in epochs(loader)] == [11, 11]


def test_two_ranks_together_see_what_one_sees(odd: Path) -> None:
    dataset: Any = module(odd).train_dataset()
    count = len(dataset.windows)

    def seen(rank: int, world: int, batch_size: int) -> set[tuple[Any, ...]]:
        sampler = TrainBatchSampler(count, batch_size, rank, world)
        sampler.set_epoch(3)
        samples = [dataset[key] for batch in sampler for key in batch]
        return {(at, image.tobytes(), label.tobytes()) for image, label, at in samples}

    alone = seen(0, 1, 4)
    assert len(alone) == count
    assert seen(0, 2, 2) | seen(1, 2, 2) == alone
    assert len(seen(0, 2, 2)) + len(seen(1, 2, 2)) == count


class Recorder(L.LightningModule):
    """Trains one number, and writes down which windows it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: dict[str, list[list[tuple[int, ...]]]] = {"train": [], "val": []}

    def on_train_epoch_start(self) -> None:
        self.seen["train"].append([])

    def on_validation_epoch_start(self) -> None:
        self.seen["val"].append([])

    def training_step(self, batch: dict[str, torch.Tensor], _: int) -> torch.Tensor:
        self.seen["train"][-1] += keys([batch])
        return self.weight * batch["image"].float().mean()

    def validation_step(self, batch: dict[str, torch.Tensor], _: int) -> None:
        self.seen["val"][-1] += keys([batch])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.parametrize("workers", [0, 2])
def test_epochs_of_a_trainer_differ(odd: Path, tmp_path: Path, workers: int) -> None:
    model = Recorder()
    data = module(odd, num_workers=workers, augmentation="none")
    trainer = L.Trainer(
        max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, use_distributed_sampler=False, default_root_dir=tmp_path,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(model, datamodule=data)
    train, val = model.seen["train"], model.seen["val"]
    assert [len(epoch) for epoch in train] == [18, 18, 18]
    assert len({tuple(epoch) for epoch in train}) == 3
    assert train == [keys(batches) for batches in epochs(module(odd).train_dataloader(), 3)]
    assert val[0] == val[1] == val[2] == keys(module(odd).val_dataloader())


def test_training_starts_inside_an_epoch_after_a_resume(odd: Path) -> None:
    loader = module(odd).train_dataloader()
    whole = [keys(batches) for batches in epochs(loader, 3)]
    data = module(odd)
    data.load_state_dict({"epoch": 1, "batches": 2})
    resumed: Any = data.train_dataloader()
    resumed.batch_sampler.set_epoch(1)
    sizes = [len(batch) for batch in loader.batch_sampler]
    assert keys(resumed) == whole[1][sum(sizes[:2]) :]
    resumed.batch_sampler.set_epoch(2)
    assert keys(resumed) == whole[2]


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_foreground_share(tmp_path: Path, share: float) -> None:
    """Of windows that would hardly ever hit a single pixel, as many as asked for do, in the smallest window."""

    def change(image: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        label = np.zeros_like(label)
        label[3 * len(label) // 4, 1] = label[3, -1] = 1
        return image, label

    data = write_dataset(tmp_path, {"train": [(200, 200)], "val": [(20, 20)]}, change=change)
    settings = {"foreground_share": share, "samples_per_epoch": 400, "augmentation": "none"}
    batches = epochs(module(data, **settings).train_dataloader(), 1)[0]
    hits = np.mean([bool((label == 1).any()) for batch in batches for label in batch["label"]])
    assert abs(hits - share) < 0.13  # 5 standard deviations of a binomial
    assert same(batches, epochs(module(data, **settings).train_dataloader(), 1)[0])


def test_foreground_share_without_foreground(tmp_path: Path) -> None:
    data = write_dataset(
        tmp_path, {"train": [(20, 20)], "val": [(20, 20)]}, change=lambda image, label: (image, label * 0)
    )
    with pytest.raises(
        UserError, match="foreground_share: the train split has no pixel of any class but the background"
    ):
        module(data, foreground_share=0.5).train_dataloader()
