"""Cache of compiled OpenVINO models."""

import multiprocessing
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import platformdirs
import pytest

from inference.common.cpu import has_tile_units
from inference.model import compiled
from inference.model.backends import Request, open_backend
from inference.model.compiled import cache_folder
from tests.inference.networks import card, weights, write_onnx

openvino = pytest.importorskip("openvino", reason="OpenVINO isn't installed")
TILES = np.random.default_rng(0).normal(size=(1, 3, 32, 32)).astype(np.float32)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Turn the cache on, in a folder of its own; return the folder."""
    monkeypatch.delenv("HAKAI_MODEL_CACHE", raising=False)
    monkeypatch.setenv("HAKAI_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "openvino"


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the models that are compiled."""
    found: list[str] = []
    compile_model = openvino.Core.compile_model

    def recorded(core: Any, *arguments: Any, **options: Any) -> Any:
        found.append("compiled")
        return compile_model(core, *arguments, **options)

    monkeypatch.setattr(openvino.Core, "compile_model", recorded)
    return found


def run(path: Path, **changes: Any) -> np.ndarray:
    values: dict[str, Any] = {"path": path, "bands": 3, "tile": 32, "any_size": True, "own_tile": 32}
    found: np.ndarray = open_backend("openvino", Request(**(values | changes)))(TILES)
    return found


def test_a_model_is_compiled_once(tmp_path: Path, cache: Path, compilations: list[str]) -> None:
    first = run(write_onnx(tmp_path / "m.onnx", card(), kernel=3))
    again = run(write_onnx(tmp_path / "elsewhere.onnx", card(), kernel=3))  # the content counts, not the name
    assert compilations == ["compiled"]
    np.testing.assert_array_equal(first, again)
    (file,) = cache.iterdir()
    if os.name == "posix":
        assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    assert file.suffix == ".blob"


@pytest.mark.skipif(has_tile_units() is not True, reason="this CPU has no AMX")
def test_bf16_from_the_cache_has_the_same_bits(tmp_path: Path, compilations: list[str]) -> None:
    path = write_onnx(tmp_path / "m.onnx", card(), kernel=3)
    full, half, again = (run(path, precision=precision) for precision in ("fp32", "bf16", "bf16"))
    assert len(compilations) == 2
    assert not np.array_equal(full, half)
    np.testing.assert_array_equal(half, again)


def test_another_model_or_setting_is_compiled_anew(tmp_path: Path, compilations: list[str]) -> None:
    path = write_onnx(tmp_path / "m.onnx", card(), kernel=3)
    first = run(path)
    for changes in ({"threads": 2}, {"batch": 2}):
        np.testing.assert_array_equal(first, run(path, **changes))
    other = run(write_onnx(path, card(), kernel=3, seed=1))
    assert len(compilations) == 4
    assert not np.array_equal(first, other)


def _with_other_weight(content: bytes) -> bytes:
    """Return a file in which one bit of a weight is another; OpenVINO itself doesn't notice."""
    place = content.index(weights(3, 1, 3)[0].tobytes())
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "cut short": lambda content: content[: len(content) // 2],
    "one bit": _with_other_weight,
    "other bytes of the right checksum": lambda _: compiled._checksum(b"nothing") + b"nothing",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_replaced(tmp_path: Path, cache: Path, compilations: list[str], damage: str) -> None:
    path = write_onnx(tmp_path / "m.onnx", card(), kernel=3)
    first = run(path)
    (file,) = cache.iterdir()
    sound = file.read_bytes()
    file.write_bytes(DAMAGE[damage](sound))
    for _ in range(2):
        np.testing.assert_array_equal(first, run(path))
    assert compilations == ["compiled", "compiled"]
    assert [each.name for each in cache.iterdir()] == [file.name]


def _map_in_process(path: Path, barrier: Any, results: Any) -> None:
    barrier.wait()
    results.put(run(path))


def test_two_processes_at_once(tmp_path: Path, cache: Path) -> None:
    path = write_onnx(tmp_path / "m.onnx", card(), kernel=3)
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(2), context.Queue()
    processes = [context.Process(target=_map_in_process, args=(path, barrier, results)) for _ in range(2)]
    for process in processes:
        process.start()
    first, second = results.get(timeout=60), results.get(timeout=60)
    for process in processes:
        process.join()
    np.testing.assert_array_equal(first, second)
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize("place", ["a file", "read-only"])
def test_a_folder_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compilations: list[str], place: str
) -> None:
    path = write_onnx(tmp_path / "m.onnx", card(), kernel=3)
    folder = tmp_path / "place"
    if place == "a file":
        folder.write_text("")
    else:
        folder.mkdir(mode=0o500)
        monkeypatch.setattr(Path, "mkdir", _refused)  # the superuser may write anywhere
    monkeypatch.setenv("HAKAI_CACHE_DIR", str(folder))
    np.testing.assert_array_equal(run(path), run(path))
    assert len(compilations) == 2


def _refused(*_: object, **__: object) -> None:
    raise PermissionError(13, "Permission denied")


def test_a_user_without_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compilations: list[str]) -> None:
    for name in ("HAKAI_CACHE_DIR", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)

    def none() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", none)
    assert cache_folder() is None
    run(write_onnx(tmp_path / "m.onnx", card(), kernel=3))
    assert compilations == ["compiled"]


def test_the_cache_is_turned_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setenv("HAKAI_MODEL_CACHE", "off")
    run(write_onnx(tmp_path / "m.onnx", card(), kernel=3))
    assert not cache.exists()


def test_it_lies_where_other_data_is_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HAKAI_CACHE_DIR")
    expected = platformdirs.user_cache_path("hakai-ml-train", appauthor=False) / "openvino"
    assert cache_folder() == expected


@pytest.mark.skipif(sys.platform != "linux", reason="XDG_CACHE_HOME is for Linux")
def test_it_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HAKAI_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "hakai-ml-train" / "openvino"


def test_the_least_recently_used_files_are_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    paths = [write_onnx(tmp_path / f"{seed}.onnx", card(), kernel=3, seed=seed) for seed in range(3)]
    names = []
    for age, path in zip((200, 100), paths, strict=False):
        run(path)
        (name,) = {each.name for each in cache.iterdir()} - set(names)
        names.append(name)
        os.utime(cache / name, (1e9 - age, 1e9 - age))
    run(paths[0])  # used now, so that the other one is the oldest
    size = (cache / names[0]).stat().st_size
    monkeypatch.setattr(compiled, "_MOST_BYTES", 2 * size + size // 2)
    run(paths[2])
    left = {each.name for each in cache.iterdir()}
    assert len(left) == 2
    assert names[0] in left
    assert names[1] not in left


def test_weights_in_files_of_their_own_are_not_cached(tmp_path: Path, cache: Path, compilations: list[str]) -> None:
    model = onnx.load(write_onnx(tmp_path / "m.onnx", card(), kernel=3))
    path = tmp_path / "outside.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    first = run(path)
    file = tmp_path / "weights.bin"
    file.write_bytes(bytes(file.stat().st_size))  # another model, though outside.onnx is the same to the last bit
    assert not np.array_equal(first, run(path))
    assert len(compilations) == 2
    assert not cache.exists()
