"""The files of a data set appear all at once, or not at all."""

import signal
from pathlib import Path

import pytest

from inference.common.errors import UserError
from inference.common.files import replace
from inference.common.signals import STOP_SIGNALS
from train.preparation.staging import Staging


def fill(staging: Staging, **texts: str) -> None:
    """Write files to a staging folder: `labels_a` is labels/a."""
    for name, text in texts.items():
        path = staging.folder / name.replace("_", "/")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_files_appear_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "a" / "out"
    with Staging(target, "output_dir") as staging:
        fill(staging, dataset="1", labels_x="2")
        assert not (target / "dataset").exists()
        assert staging.commit() == ["labels/x", "dataset"]
    assert names(target) == ["dataset", "labels", "labels/x"]


def test_equal_files_are_left_alone(tmp_path: Path) -> None:
    for text, changed in (("1", ["x", "y"]), ("2", ["x"])):
        with Staging(tmp_path, "output_dir") as staging:
            fill(staging, x=text, y="same")
            assert staging.commit() == changed
    assert (tmp_path / "x").read_text() == "2"


def test_files_that_stay_are_found_in_both_folders(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("old")
    with Staging(tmp_path, "output_dir") as staging:
        staging.keep(tmp_path / "x", "x")
        assert (staging.folder / "x").read_text() == "old"
        assert staging.commit() == []
    assert names(tmp_path) == ["x"]
    assert not (tmp_path / "x").is_symlink()


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_while_files_get_their_names_has_no_effect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    def stopped(temporary: Path, path: Path) -> None:
        signal.raise_signal(number)
        replace(temporary, path)

    monkeypatch.setattr("train.preparation.staging.replace", stopped)
    with Staging(tmp_path, "output_dir") as staging:
        fill(staging, x="1", y="2")
        assert staging.commit() == ["x", "y"]
    assert names(tmp_path) == ["x", "y"]


def fail(target: Path) -> None:
    """Fail after a file was written."""
    with Staging(target, "output_dir") as staging:
        fill(staging, x="1")
        raise ValueError("no")


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no"):
        fail(tmp_path / "a" / "out")
    assert names(tmp_path) == []
    (tmp_path / "out").mkdir()
    with pytest.raises(ValueError, match="no"):
        fail(tmp_path / "out")
    assert names(tmp_path) == ["out"]


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    staging = Staging(tmp_path, "output_dir").__enter__()
    fill(staging, x="1")
    with Staging(tmp_path, "output_dir") as other:  # a folder with our own number was left by an earlier process
        assert names(tmp_path) == [other.folder.name]
        assert names(other.folder) == []


def test_without_a_target_nothing_is_written(tmp_path: Path) -> None:
    with Staging(None, "output_dir") as staging:
        fill(staging, x="1")
        folder = staging.folder
    assert not folder.exists()


def test_a_folder_that_can_not_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="output_dir"), Staging(tmp_path / "file" / "out", "output_dir"):
        pass
    assert (tmp_path / "file").read_text() == "mine"
