"""The check of a file in int8: the loss against masks counted by hand, and which file of several is written."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from sklearn.metrics import jaccard_score
from torch import Tensor, nn

from inference.card import ModelCard
from inference.common.errors import CheckFailed
from tests.inference.networks import card
from train.export import int8_check, int8_file
from train.export.int8_check import MaskCheck, write_int8

CPU = torch.device("cpu")
SIDE = 8


class Windows:
    """Windows whose first band holds the class that the float network finds."""

    def __init__(self, classes: int, count: int = 3) -> None:
        rng = np.random.default_rng(classes)
        self.images = torch.from_numpy(rng.integers(0, classes, (count, 1, 1, SIDE, SIDE))).float()
        self.counted = rng.random((count, SIDE, SIDE)) < 0.7
        self.folder = "data"
        self.calibration: Sequence[Tensor] = list(self.images[:, 0])

    def checked(self, what: str) -> Iterator[tuple[Tensor, np.ndarray]]:
        yield from zip(self.images, self.counted, strict=True)


class Float(nn.Module):
    """Network that returns one-hot logits of the class in the first band."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes, self.calls = classes, 0

    def forward(self, image: Tensor) -> Tensor:
        self.calls += 1
        logits: Tensor = nn.functional.one_hot(image[:, 0].long(), self.classes).permute(0, 3, 1, 2).float()
        return logits


def worse(classes: int, share: float) -> Callable[[Tensor], Tensor]:
    """Return a network that finds the next class at a share of the pixels."""

    def run(image: Tensor) -> Tensor:
        wrong = torch.from_numpy(np.random.default_rng(7).random((SIDE, SIDE)) < share)
        return Float(classes).forward((image + wrong) % classes)

    return run


def check(classes: int, windows: Any, network: Any, **changes: Any) -> MaskCheck:
    return MaskCheck(network, card(bands=1, classes=classes, **changes), windows, CPU)


@pytest.mark.parametrize("classes", [3, 20])
def test_losses_are_those_of_sklearn(classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    windows, network, run = Windows(classes), Float(classes), worse(classes, 0.2)
    monkeypatch.setattr(int8_file, "load", lambda path, device: run)
    found = check(classes, windows, network).losses(Path("x.onnx"))
    one = windows.images[:, 0, 0].numpy()[windows.counted].astype(int)
    other = np.stack([run(image).argmax(1)[0].numpy() for image in windows.images])[windows.counted]
    names = card(bands=1, classes=classes).class_names
    labels = list(range(1, classes))
    exact = 1 - jaccard_score(one, other, labels=labels, average=None)
    assert [found[names[label]] for label in labels] == pytest.approx(exact)
    assert found["pooled"] == pytest.approx(1 - jaccard_score(one, other, labels=labels, average="micro"))
    assert 0 < found["pooled"] < 1


def test_the_float_network_runs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    windows, network = Windows(3), Float(3)
    monkeypatch.setattr(int8_file, "load", lambda path, device: worse(3, 0.2))
    checked = check(3, windows, network)
    assert checked.losses(Path("x.onnx")) == checked.losses(Path("x.onnx"))
    assert network.calls == len(windows.images)


@pytest.fixture
def shares(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[int, float]:
    """Share of the pixels that a file gets wrong, by the number of its first layers in float32."""
    found: dict[int, float] = {}

    def write(exact: Path, card: ModelCard, windows: Any, path: Path, float_first: int = 0) -> None:
        value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
        node = onnx.helper.make_node("Identity", ["x"], ["y"])
        end = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
        graph = onnx.helper.make_graph([node], str(float_first), [value], [end])
        onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)]), path)

    class Prepared:
        def __init__(self, *_: Any) -> None: ...
        def __enter__(self) -> Path:
            return tmp_path

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(int8_file, "prepared", Prepared)
    monkeypatch.setattr(int8_file, "products", lambda exact: 20)
    monkeypatch.setattr(int8_file, "write", write)
    monkeypatch.setattr(int8_file, "load", lambda path, device: worse(3, found[int(onnx.load(path).graph.name)]))
    return found


def written(path: Path, windows: Any) -> ModelCard:
    return write_int8(Float(3), card(bands=1, classes=3), windows, path, path, CPU)  # type: ignore[arg-type]


def test_first_layers_stay_float_until_the_masks_are_the_same(shares: dict[int, float], tmp_path: Path) -> None:
    shares.update({0: 0.2, 3: 0.1, 9: 0.0})
    path = tmp_path / "m.onnx"
    found = written(path, Windows(3))
    assert onnx.load(path).graph.name == "9"
    assert (found.precision, found.int8_loss) == ("int8", 0)


def test_a_loss_at_the_limit_passes_and_above_it_not(
    shares: dict[int, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares.update({0: 0.1, 3: 0.1, 9: 0.1})
    windows = Windows(3)
    limit = max(check(3, windows, Float(3)).losses(_named(tmp_path / "0.onnx", 0)).values())
    monkeypatch.setattr(int8_check, "MAX_LOSS", limit)
    assert written(tmp_path / "m.onnx", windows).int8_loss == pytest.approx(limit, abs=1e-6)
    monkeypatch.setattr(int8_check, "MAX_LOSS", limit - 1e-9)
    with pytest.raises(CheckFailed, match=rf"{limit:.3%}.* at best \(allowed: "):
        written(tmp_path / "m.onnx", windows)


def test_masks_of_background_alone_pass_nothing(shares: dict[int, float], tmp_path: Path) -> None:
    shares.update({0: 0.0})
    windows = Windows(3)
    windows.images *= 0
    with pytest.raises(CheckFailed, match="can't be compared"):
        written(tmp_path / "m.onnx", windows)


def _named(path: Path, number: int) -> Path:
    int8_file.write(path, card(), [], path, number)
    return path
