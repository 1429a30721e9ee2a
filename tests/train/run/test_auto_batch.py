"""Resolution of `batch_size: auto`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from inference.common.errors import UserError
from train.__main__ import main
from train.configs.loader import load_config
from train.run import auto_batch
from train.run.auto_batch import largest_that_fits
from train.run.checkpoints import read_checkpoint
from train.run.fit import train
from train.run.folder import RunFolder
from train.run.manual_loop import ManualLoop

NETWORK: dict[str, Any] = {
    "architecture": "Unet",
    "backbone": "tu-mobilenetv3_small_050",
    "opts": {"encoder_weights": None},
}
DATA = {"num_workers": 0, "samples_per_epoch": 45}


def config_with(write_config: Callable[..., Path], size: Any, **more: Any) -> Path:
    content = {"max_epoch": 1, "trainer": {"accelerator": "cpu"}, "data_module": DATA} | more
    return write_config(segmentation_config=NETWORK, batch_size=size, **content)


def run(write_config: Callable[..., Path], size: Any, **more: Any) -> RunFolder:
    return train(load_config(config_with(write_config, size, **more)).config).folder


@pytest.mark.parametrize(
    ("limit", "free", "expected"),
    [(64, 64, 64), (64, 1000, 64), (64, 13, 12), (10, 100, 8), (64, 5, 4), (1, 9, 1), (64, 0, 0)],
)
def test_the_largest_that_fits(limit: int, free: int, expected: int) -> None:
    tried: list[int] = []

    def fits(size: int) -> bool:
        tried.append(size)
        return size <= free

    assert largest_that_fits(fits, limit) == expected
    assert tried == sorted(tried)
    assert max(tried) <= limit


def test_a_run_is_the_same_as_with_the_number(
    write_config: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    found = run(write_config, "auto")
    assert "batch_size auto: 4 (the largest size that is tried for this run)" in capsys.readouterr().err
    written = yaml.safe_load(found.config.read_text())
    assert written["batch_size"] == written["data_module"]["batch_size"] == 4
    given = run(write_config, 4)
    one, other = (read_checkpoint(f.checkpoints / "last.ckpt") for f in (found, given))
    assert one["global_step"] == 12
    assert all(torch.equal(one["state_dict"][k], other["state_dict"][k]) for k in one["state_dict"])
    assert one["hyper_parameters"]["config"]["batch_size"] == 4


def test_memory_decides_on_a_cpu(
    write_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(config_with(write_config, "auto", data_module=DATA | {"samples_per_epoch": 1000}))
    assert main([path, "--check"]) == 0
    out, err = capsys.readouterr()
    assert "batch_size auto: 8 (the largest size" in err
    assert "for a batch of 8" in out
    monkeypatch.setattr(auto_batch, "free_memory", lambda: 0)
    assert main([path, "--check"]) == 2
    assert "not even one window of 64 px fits into memory" in capsys.readouterr().err


class Gpu:
    """Fake GPU memory: each window takes `each` bytes, and batches from `full_at` windows on run out of memory."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, each: int, full_at: int) -> None:
        self.peak = 0
        self.each, self.full_at = each, full_at
        self.freed = 0
        self._backward = ManualLoop.backward
        monkeypatch.setattr(auto_batch, "device_kind", lambda _: "cuda")
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (1000, 2000))
        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
        monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: setattr(self, "peak", 0))
        monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda: self.peak)
        monkeypatch.setattr(ManualLoop, "backward", lambda loop, batch: self.backward(loop, batch))

    def backward(self, loop: ManualLoop, batch: dict[str, torch.Tensor]) -> float:
        """Record the memory, then call the real method."""
        self.peak = max(self.peak, self.each * len(batch["image"]))
        if len(batch["image"]) >= self.full_at:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self._backward(loop, batch)


@pytest.mark.parametrize(("each", "full_at", "wanted"), [(10, 7, 6), (150, 100, 6), (1, 100, 64), (900, 100, 1)])
def test_a_gpu_is_tried_out(
    write_config: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    each: int,
    full_at: int,
    wanted: int,
) -> None:
    Gpu(monkeypatch, each, full_at)
    path = config_with(write_config, "auto", data_module=DATA | {"samples_per_epoch": 1000})
    assert main([str(path), "--check"]) == 0
    assert f"batch_size auto: {wanted} (" in capsys.readouterr().err


def test_a_network_that_cannot_take_a_single_window(
    write_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Gpu(monkeypatch, each=10, full_at=4)
    network = {**NETWORK, "architecture": "DeepLabV3Plus"}
    data = DATA | {"samples_per_epoch": 1000}
    path = write_config(
        segmentation_config=network, batch_size="auto", trainer={"accelerator": "cpu"}, data_module=data
    )
    assert main([str(path), "--check"]) == 0
    assert "batch_size auto: 3 (more doesn't fit into GPU memory)" in capsys.readouterr().err


def test_a_gpu_that_is_too_small(write_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    Gpu(monkeypatch, each=950, full_at=100)
    with pytest.raises(UserError, match="not even one window of 64 px fits into GPU memory"):
        run(write_config, "auto")


@pytest.mark.parametrize("trainer", [{"devices": 2}, {"num_nodes": 2}])
def test_several_devices_share_an_epoch(
    write_config: Callable[..., Path], capsys: pytest.CaptureFixture[str], trainer: dict[str, Any]
) -> None:
    """An epoch of 45 windows has ten batches on each device; `tests/train/run/test_nodes.py` has their agreement."""
    path = config_with(write_config, "auto", trainer={"accelerator": "cpu"} | trainer)
    assert main([str(path), "--check"]) == 0
    assert "batch_size auto: 2 (the largest size that is tried for this run)" in capsys.readouterr().err


@pytest.mark.parametrize(("trainer", "expected"), [({"devices": 1}, 8), ({"num_nodes": 2}, 8), ({"devices": 2}, 4)])
def test_the_processes_of_a_machine_share_its_memory(
    write_config: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    trainer: dict[str, Any],
    expected: int,
) -> None:
    monkeypatch.setattr(auto_batch, "free_memory", lambda: 2 * 8)
    monkeypatch.setattr(auto_batch, "estimate_memory", lambda config, model, step, size: size)
    data = DATA | {"samples_per_epoch": 1000}
    path = config_with(write_config, "auto", data_module=data, trainer={"accelerator": "cpu"} | trainer)
    assert main([str(path), "--check"]) == 0
    assert f"batch_size auto: {expected} (" in capsys.readouterr().err


def test_wherever_it_stands(write_config: Callable[..., Path]) -> None:
    path = config_with(write_config, None, data_module=DATA | {"batch_size": "auto"})
    config = load_config(path).config
    assert config.batch_size == config.segmentation_config.batch_size == "auto"
    assert load_config(path, ["batch_size=3"]).config.batch == 3
    with pytest.raises(RuntimeError, match="not been settled"):
        assert config.batch


@pytest.mark.parametrize(
    ("size", "section", "said"),
    [
        ("auto", {"batch_size": 4}, "is 4, but batch_size is 'auto' (they are one value"),
        ("automatic", {}, "batch_size: 'automatic' is not"),
        (0, {}, "batch_size: 0 is out of range"),
    ],
)
def test_what_is_no_batch_size(
    write_config: Callable[..., Path], size: Any, section: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError) as error:
        load_config(config_with(write_config, size, data_module=DATA | section))
    assert said in str(error.value)
