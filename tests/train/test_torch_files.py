"""Reading of files of `torch.save`: what is a plain container, what is refused, and damage of every kind."""

import argparse
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from inference.card import CardError
from inference.common.errors import UserError
from inference.common.torch_files import read_torch_file
from inference.model.card_files import read_card
from train.models.weights_file import read_tensors
from train.run.checkpoints import read_checkpoint

CASES = 300
"""Mutations of one file; the seed is that of NumPy's generator, 13."""
READERS: list[Callable[[Path], Any]] = [read_checkpoint, read_card, read_tensors]


def written(path: Path, program: bytes) -> Path:
    """Write a file as `torch.save` does, with a pickle of one's own."""
    torch.save({"state_dict": {}}, path)
    with zipfile.ZipFile(path) as source:
        entries = {entry.filename: source.read(entry) for entry in source.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as target:
        for name, content in entries.items():
            target.writestr(name, program if name.endswith("data.pkl") else content)
    return path


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float64(0.25), 0.25),
        (np.float32(0.25), 0.25),
        (np.int64(-3), -3),
        (np.bool_(True), True),
        (np.array(0.25, ">f8")[()], 0.25),
        (Path("a") / "b", "a/b"),
    ],
)
def test_plain_values_of_older_checkpoints(value: Any, expected: object, tmp_path: Path) -> None:
    torch.save({"value": value}, tmp_path / "a.ckpt")
    assert read_torch_file(tmp_path / "a.ckpt", torch)["value"] == expected


def test_a_namespace_keeps_its_attributes(tmp_path: Path) -> None:
    torch.save({"value": argparse.Namespace(lr=0.5)}, tmp_path / "a.ckpt")
    assert read_torch_file(tmp_path / "a.ckpt", torch)["value"].lr == 0.5


def test_names_of_lightning_1_need_no_such_package(tmp_path: Path) -> None:
    # What pickles of protocol 2 hold: an AttributeDict with one item, and a class as a key.
    container = b"\x80\x02cpytorch_lightning.utilities.parsing\nAttributeDict\n)\x81X\x02\x00\x00\x00lrK\x07s."
    assert read_torch_file(written(tmp_path / "a.ckpt", container), torch) == {"lr": 7}
    callback = b"\x80\x02}cpytorch_lightning.callbacks.model_checkpoint\nModelCheckpoint\nK\x07s."
    assert list(read_torch_file(written(tmp_path / "b.ckpt", callback), torch).values()) == [7]


@pytest.mark.parametrize(
    "name", ["posix\nsystem", "os\nsystem", "builtins\neval", "numpy\nload", "numpy.core.multiarray\n_reconstruct"]
)
@pytest.mark.parametrize("reader", READERS)
def test_code_is_refused_by_name(reader: Callable[[Path], Any], name: str, tmp_path: Path) -> None:
    target = tmp_path / "ran"
    argument = f"touch {target}".encode()
    program = b"\x80\x02c" + name.encode() + b"\nX" + len(argument).to_bytes(4, "little") + argument + b"\x85R."
    with pytest.raises((UserError, CardError)) as error:
        reader(written(tmp_path / "a.ckpt", program))
    assert not target.exists()
    assert "refused: it holds" in str(error.value)
    assert name.partition("\n")[2] in str(error.value)
    assert "weights_only" not in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("code", ["O8", "V8", "S3", "M8", "f8,f8", "O", 5])
def test_a_numpy_type_that_is_none_of_a_number_is_refused(code: object, tmp_path: Path) -> None:
    argument = pickle.dumps((code,), 2)[2:-1]
    with pytest.raises(UserError, match=r"refused: it holds .numpy\.dtype"):
        read_torch_file(written(tmp_path / "a.ckpt", b"\x80\x02cnumpy\ndtype\n" + argument + b"R."), torch)


def test_a_path_of_anything_but_texts_is_damage(tmp_path: Path) -> None:
    """The text of lists that hold each other would have no end."""
    program = b"\x80\x02cpathlib\nPosixPath\n]\x85R."
    with pytest.raises(UserError, match="damaged or truncated: its structure is broken"):
        read_torch_file(written(tmp_path / "a.ckpt", program), torch)


@pytest.mark.parametrize("name", ["data.pkl", "data/0"])
def test_what_grows_when_it_is_unpacked_is_refused(name: str, tmp_path: Path) -> None:
    """A thousand times the file's size, in its structure or in its tensors."""
    path = tmp_path / "a.ckpt"
    torch.save({"state_dict": {"model.a": torch.zeros(2**22)}}, path)
    with zipfile.ZipFile(path) as source:
        entries = {entry.filename: source.read(entry) for entry in source.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for entry, content in entries.items():
            if entry.endswith("data.pkl") and name == "data.pkl":
                content = b"\x80\x02" + bytes(2**24)
            if not (entry.endswith("data/0") and name == "data.pkl"):
                target.writestr(entry, content)
    for reader in READERS:
        with pytest.raises((UserError, CardError), match=r"unpacked, it has \d+ MiB of structure"):
            reader(path)


def test_a_checkpoint_that_was_zipped_anew_is_read(tmp_path: Path) -> None:
    torch.save({"state_dict": {"a": torch.arange(2000.0)}}, tmp_path / "a.ckpt")
    with zipfile.ZipFile(tmp_path / "a.ckpt") as a, zipfile.ZipFile(tmp_path / "b", "w", zipfile.ZIP_DEFLATED) as b:
        for entry in a.infolist():
            b.writestr(entry.filename, a.read(entry))
    assert read_checkpoint(tmp_path / "b")["state_dict"]["a"][-1] == 1999


def test_a_torchscript_archive_is_called_one(tmp_path: Path) -> None:
    path = tmp_path / "m_jit.pt"
    torch.jit.script(torch.nn.Conv2d(1, 1, 1)).save(path)
    for reader in (read_checkpoint, read_tensors):
        with pytest.raises(UserError, match="is a TorchScript archive, not ") as error:
            reader(path)
        assert str(error.value).startswith(str(path))


def test_an_empty_file_is_called_empty(tmp_path: Path) -> None:
    (tmp_path / "a.ckpt").touch()
    for reader in READERS:
        with pytest.raises((UserError, CardError), match="is empty, not "):
            reader(tmp_path / "a.ckpt")


def test_devices_pipes_and_folders_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (Path("/dev/zero"), tmp_path / "pipe", tmp_path):
        for reader in (read_checkpoint, read_tensors):
            with pytest.raises(UserError):
                reader(path)


def test_damage_of_every_kind_is_one_line(tmp_path: Path) -> None:
    """Bytes flipped, cut and inserted in the archive and in its pickle alone: a result, or one line."""
    rng = np.random.default_rng(13)
    path = tmp_path / "a.ckpt"
    original = {
        "state_dict": {"model.a": torch.zeros(3)},
        "hyper_parameters": argparse.Namespace(best=np.float64(1), at=Path("a"), names=["x", {"y": (1, 2.5, None)}]),
    }
    torch.save(original, path)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        program = archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
    messages = []
    for case in range(CASES):
        inner = case % 3 > 0
        data = bytearray(program if inner else whole)
        for _ in range(int(rng.integers(1, 4))):
            at, length = int(rng.integers(len(data))), int(rng.integers(1, 9))
            kind = int(rng.integers(4))
            if kind == 0:
                data[at] ^= int(rng.integers(1, 256))
            elif kind == 1:
                del data[at : at + length]
            elif kind == 2:
                data[at:at] = rng.integers(0, 256, length).astype(np.uint8).tobytes()
            else:
                data[at:at] = data[at : at + length]
            data = data or bytearray(b".")
        written(path, bytes(data)) if inner else path.write_bytes(data)
        try:
            READERS[case % len(READERS)](path)
        except (UserError, CardError) as error:
            messages.append(str(error))
    assert len(messages) > CASES // 2
    advice = ("weights_only", "miniz", "allowlist")
    assert [text for text in messages if "\n" in text or any(word in text for word in advice)] == []
    assert [text for text in messages if not text.startswith(str(path))] == []
