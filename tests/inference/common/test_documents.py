"""Damaged and hostile JSON files, archives and special files: one line that says what is wrong, and no file left."""

import json
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from inference.card import main as card_command
from inference.common import documents
from tests.inference.commands import leftovers, refused, run
from tests.inference.networks import card, write_onnx

GOOD = json.loads(card().dumps())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"[" * 200_000, "is JSON that is nested too deeply to be read"),
        (json.dumps(GOOD)[:-1].encode() + b', "x": ' + b'{"a":' * 9**5, "is JSON that is nested too deeply"),
        (json.dumps(GOOD | {"name": "k\ud800"}).encode(), r"holds \ud800, half of a pair of surrogates"),
        (json.dumps(GOOD).encode("utf-16"), "isn't UTF-8 text: byte 0 is 0xff (save it as UTF-8)"),
        (
            json.dumps(GOOD | {"std": [0.2, 0.2, float("inf")]}).encode(),
            'std.2: Input should be a finite number, found "inf"',
        ),
        (json.dumps(GOOD | {"mean": [0.2, 0.2, float("nan")]}).encode(), "mean.2: Input should be a finite number"),
        (json.dumps(GOOD | {"mean": [10**400, 0, 0]}).encode(), "mean.0: Input should be a valid number"),
        (json.dumps(GOOD).encode().replace(b"32", b"9" * 5000), "isn't valid JSON"),
        (b" " * (documents.LARGEST_DOCUMENT + 1), "is larger than 16 MiB"),
        (b"", "isn't valid JSON"),
    ],
)
def test_cards_that_cannot_be_read(
    content: bytes, says: str, tmp_path: Path, mosaic: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.json"
    path.write_bytes(content)
    message = refused(capsys, mosaic, tmp_path / "o.tif", "--model", model, "--card", path)
    assert message.startswith(f"{path}: ")
    assert says in message
    assert "\n" not in message
    assert card_command([str(path)]) == 2
    assert says in capsys.readouterr().err
    assert leftovers(tmp_path) == []


def test_a_byte_order_mark_is_no_error(tmp_path: Path, mosaic: Path, model: Path) -> None:
    (tmp_path / "c.json").write_text(card().dumps(), encoding="utf-8-sig")
    assert run(mosaic, tmp_path / "o.tif", "--model", model, "--card", tmp_path / "c.json") == 0


def headers(data: bytearray) -> list[tuple[int, int]]:
    """Return (offset of the flags, offset of the compression method) of the headers of all entries."""
    found = []
    for magic, flags, method in ((b"PK\x03\x04", 6, 8), (b"PK\x01\x02", 8, 10)):
        at = data.find(magic)
        while at >= 0:
            found.append((at + flags, at + method))
            at = data.find(magic, at + 4)
    return found


def encrypt(data: bytearray) -> None:
    for flags, _ in headers(data):
        data[flags] |= 1


def recompress(method: int) -> Callable[[bytearray], None]:
    def change(data: bytearray) -> None:
        for _, at in headers(data):
            data[at : at + 2] = struct.pack("<H", method)

    return change


def damage_data(data: bytearray) -> None:
    at = data.find(b"model_card.json") + len("model_card.json")
    data[at : at + 40] = b"\xff" * 40


def damage_name(data: bytearray) -> None:
    at = data.rfind(b"PK\x01\x02")
    data[at + 9] |= 8  # names are UTF-8
    data[data.rfind(b"extra")] = 0xFF


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (encrypt, "it is encrypted"),
        (recompress(99), "That compression method is not supported"),
        (recompress(12), "can't be read as a TorchScript archive"),
        (recompress(14), "can't be read as a TorchScript archive"),
        (damage_data, "its compressed data are damaged"),
        (damage_name, "can't be read as a TorchScript archive"),
    ],
)
def test_archives_that_cannot_be_read(
    change: Callable[[bytearray], None],
    says: str,
    tmp_path: Path,
    mosaic: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "m.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/extra/model_card.json", card().dumps())
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)
    message = refused(capsys, mosaic, tmp_path / "o.tif", "--model", path)
    assert message.startswith(f"{path}: ")
    assert says in message
    assert "\n" not in message


def test_a_card_that_unpacks_to_a_gigabyte_is_read_up_to_its_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(documents, "LARGEST_DOCUMENT", 2**20)
    path = tmp_path / "m.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/extra/model_card.json", b" " * 2**24)
    assert card_command([str(path)]) == 2
    assert 'its entry "m/extra/model_card.json" is larger than 1 MiB unpacked' in capsys.readouterr().err


def test_devices_pipes_and_folders_are_not_waited_for(
    tmp_path: Path, mosaic: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, pipe, folder = tmp_path / "o.tif", tmp_path / "pipe.onnx", tmp_path / "folder"
    os.mkfifo(pipe)
    folder.mkdir()
    write_onnx(folder / "inside.onnx", card())
    for special in ("/dev/zero", pipe):
        says = f"{special}: is a device or a pipe (allowed: an ordinary file)"
        assert refused(capsys, mosaic, out, "--model", model, "--card", special) == says
        assert refused(capsys, mosaic, out, "--model", special) == says
        assert refused(capsys, special, out, "--model", model) == says
        assert card_command([str(special)]) == 2
        assert capsys.readouterr().err.strip() == says
    assert refused(capsys, mosaic, out, "--model", folder) == (
        f"{folder}: is a folder (--model takes an .onnx or .pt file; it holds inside.onnx)"
    )
    assert refused(capsys, mosaic, out, "--model", model, "--card", folder) == f"{folder}: is a folder (give a file)"
    assert card_command([str(folder)]) == 2
    assert "is a folder without a card.json" in capsys.readouterr().err
