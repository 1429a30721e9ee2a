"""Data sets that don't fit the config: refused before PyTorch is loaded, with all problems at once."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from tests.conftest import write_dataset, write_raster
from train.__main__ import main
from train.configs.config import Config
from train.data import statistics
from train.data.pairs import Scene, find_pairs, read_scenes
from train.data.reader import Reader
from train.data.statistics import label_problems

from .scenes import RULE

WITHOUT_TORCH = "import sys; sys.modules['torch'] = None; from train.__main__ import main; sys.exit(main(sys.argv[1:]))"


def set_pixel(path: Path, row: int, col: int, value: int) -> None:
    with rasterio.open(path, "r+") as file:
        pixels = file.read()
        pixels[..., row, col] = value
        file.write(pixels)


@pytest.mark.parametrize("mode", [[], ["--check"], ["--lr-find"]], ids=["train", "check", "lr-find"])
def test_data_are_refused_without_torch(write_config: Callable[..., Path], tmp_path: Path, mode: list[str]) -> None:
    """In a process of its own, in which importing torch fails: a missing label, another size, values, bands."""
    data = write_dataset(tmp_path / "data")
    (data / "train/y/s0_label.tif").unlink()
    write_raster(data / "train/y/s1_label.tif", np.zeros((64, 60), np.uint8))
    set_pixel(data / "train/y/s2_label.tif", 3, 5, 7)
    set_pixel(data / "val/y/s1_label.tif", 49, 69, 9)
    write_raster(data / "test/x/s0.tif", np.zeros((4, 70, 64), np.uint8), photometric="MINISBLACK")
    config = write_config(data_module={"data_dir": str(data), "num_workers": 0})
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH, str(config), *mode], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    expected = [
        "train/x/s0.tif: has no label",
        "train/y/s1_label.tif: is 60x64 pixels, its image is 64x64",
        "test/x/s0.tif: has 4 bands, num_bands is 3",
        "train/y/s2_label.tif: label value 7 at row 3, column 5 is no class (allowed: 0, 1, 2; translate",
        "val/y/s1_label.tif: label value 9 at row 49, column 69 is no class",
    ]
    lines = done.stderr.splitlines()
    assert len(lines) == len(expected), lines
    for line, text in zip(lines, expected, strict=True):
        assert line.startswith(f"{data}/{text}")


@pytest.mark.parametrize("mode", [[], ["--check"], ["--lr-find"]], ids=["train", "check", "lr-find"])
@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        (
            {"data_module": {"foreground_share": 0.5}},
            "data_module.foreground_share: the train split has no pixel of any class but the background (leave",
        ),
        (
            {"num_classes": 2, "segmentation_config": {"loss": {"name": "CE", "opts": {"class_weights": "auto"}}}},
            "class_weights: auto found no pixel of class_1 in the train split (give numbers, or leave",
        ),
        (
            {"data_module": {"bands": [1, 2, 4]}},
            "data_module.std: can't be measured: the train split has a single value in band 4 (0) (leave the band out",
        ),
    ],
    ids=["foreground", "class weights", "normalisation"],
)
def test_what_the_train_split_lacks(
    write_config: Callable[..., Path],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    mode: list[str],
    sections: dict[str, Any],
    expected: str,
) -> None:
    def change(image: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        image[3] = 0
        return image.astype(np.uint16), label * 0

    def load() -> None:
        raise AssertionError("PyTorch is imported")

    monkeypatch.setattr("train.__main__._import_slow_libraries", load)
    data = write_dataset(tmp_path / "data", bands=4, change=change)
    sections = sections | {"data_module": {"bands": [1, 2, 3], "data_dir": str(data)} | sections.get("data_module", {})}
    assert main([str(write_config(**sections)), *mode]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(expected)


def test_many_problems_are_forty_lines(
    write_config: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = write_dataset(tmp_path / "data", {"train": [(8, 8)] * 60, "val": [(8, 8)]})
    for path in (data / "train/y").iterdir():
        set_pixel(path, 0, 0, 3)
    assert main([str(write_config(data_module={"data_dir": str(data), "num_workers": 0}))]) == 2
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 40
    assert lines[-1] == "... and 21 more"


def found(folder: Path) -> list[Scene]:
    return read_scenes(find_pairs(folder, "train").pairs)[0]


def test_of_many_pixels_every_second_block_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_dataset(tmp_path, {"train": [(40, 40)] * 4})
    for number in range(4):
        set_pixel(data / f"train/y/s{number}_label.tif", 39, 39, 100 + number)
    reader = Reader(RULE)

    def values(most: int) -> list[str]:
        monkeypatch.setattr(statistics, "MOST_LABEL_PIXELS", most)
        return [line.split("label value ")[1][:3] for line in label_problems(found(data), reader)]

    assert values(4 * 1600) == ["100", "101", "102", "103"]
    assert values(4 * 1600 - 1) == ["100", "102"]
    assert values(1600) == ["100"]
    assert values(1) == ["100"]
    assert label_problems([], reader) == []
    reader.close()


def test_what_is_found_before_torch_is_loaded_is_not_read_again(
    write_config: Callable[..., Path], dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import train.run.fit

    read: list[str] = []
    seen: list[Any] = []
    label = Reader.label
    monkeypatch.setattr(
        Reader, "label", lambda self, scene, part: [read.append(scene.pair.label.name), label(self, scene, part)][1]
    )
    monkeypatch.setattr("train.data.labelled_images.find_scenes", _counted(seen))

    class Enough(Exception):
        pass

    def resolve(config: Any, data: Any, notify: Any) -> Any:
        seen.append(data.images.normalization)
        raise Enough

    monkeypatch.setattr(train.run.fit, "resolve_auto_values", resolve)
    with pytest.raises(Enough):
        main(
            [str(write_config(data_module={"data_dir": str(dataset), "num_workers": 0, "mean": "auto", "std": "auto"}))]
        )
    assert len(seen) == 2
    assert seen[1] is not None
    # Each label once, and a label of val until one with a labelled pixel is found.
    assert len(read) == 5 + 2 + 1 + 1


def _counted(seen: list[Any]) -> Callable[[Path, Config], Any]:
    from train.data.find_scenes import find_scenes

    def counted(folder: Path, config: Config) -> Any:
        seen.append(folder)
        return find_scenes(folder, config)

    return counted
