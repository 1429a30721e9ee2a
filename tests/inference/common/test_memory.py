"""Memory that is free, and arrays that don't fit."""

from pathlib import Path

import numpy as np
import pytest
from rasterio.transform import from_origin

from inference.common import memory
from inference.common.errors import UserError
from inference.common.memory import check_memory, free_memory
from inference.predict import predict
from tests.conftest import write_raster
from tests.inference.networks import card, write_onnx


def test_a_container_has_less_than_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group = [tmp_path / name for name in ("max", "current", "stat")]
    monkeypatch.setattr(memory, "_GROUPS", ([str(path) for path in group],))
    whole = free_memory()
    assert whole > 0
    for path, text in zip(group, ("2000\n", "1500\n", "anon 1\ninactive_file 300\n"), strict=True):
        path.write_text(text)
    assert free_memory() == 800
    group[0].write_text("max\n")
    assert free_memory() == pytest.approx(whole, rel=0.5)


def test_what_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda: 2**30)
    check_memory(2**30, "in.tif: mapping", "use less")
    with pytest.raises(UserError) as caught:
        check_memory(3 * 2**30, "in.tif: mapping", "use less")
    assert str(caught.value) == "in.tif: mapping needs at least 3.0 GiB of memory, 1.0 GiB are free (use less)"


@pytest.mark.parametrize(
    ("pixel", "options", "changes", "said"),
    [
        (0.1, {"tile_size": 60_000}, {}, "choose a smaller --tile-size; it is 60,000"),
        (0.1, {}, {"tile_size": 100_000}, "choose a smaller --tile-size; it is 100,000"),
        (30, {"resample": True}, {}, "leave --resample out: the model's pixels are 300 times smaller"),
    ],
    ids=["tile size", "tile size of the card", "resampling"],
)
def test_memory_is_estimated_before_it_is_taken(
    pixel: float,
    options: dict[str, object],
    changes: dict[str, object],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda: 8 * 2**30)
    grid = from_origin(5e5, 5.8e6, pixel, pixel)
    source = write_raster(tmp_path / "in.tif", np.ones((3, 300, 300), np.uint8), transform=grid)
    model = write_onnx(tmp_path / "m.onnx", card(ground_sample_distance=0.1, **changes))
    with pytest.raises(UserError, match=r"in.tif: mapping needs at least .* GiB of memory, 8.0 GiB are free") as caught:
        predict(source, tmp_path / "o.tif", model=model, **options)
    assert said in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.tif", "m.onnx"]
