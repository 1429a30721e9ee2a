"""What the processor offers."""

import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from inference.common.cpu import cores, has_tile_units, most_workers
from inference.options import Options
from inference.plan import make_plan
from tests.conftest import write_raster
from tests.inference.networks import card, write_onnx


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("processor\t: 0\nflags\t\t: fpu sse2 avx512_bf16 amx_bf16 amx_tile\n", True),
        ("processor\t: 0\nflags\t\t: fpu sse2 avx512_bf16 amx_tile\n", False),
        ("processor\t: 0\nFeatures\t: fp asimd bf16\n", None),
    ],
)
def test_units_for_matrices_are_read_off_the_flags(tmp_path: Path, text: str, expected: bool | None) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    assert has_tile_units(tmp_path / "cpuinfo") is expected


def test_elsewhere_nothing_is_known(tmp_path: Path) -> None:
    assert has_tile_units(tmp_path / "none") is None


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="only Linux tells which CPUs a process may use")
def test_threads_are_those_the_process_may_use() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert cores() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert cores() == len(before)


@pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO isn't installed")
@pytest.mark.parametrize(("units", "precision", "warned"), [(False, "bf16", 1), (None, "bf16", 0), (False, "fp32", 0)])
def test_half_precision_that_slows_down_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, units: bool | None, precision: str, warned: int
) -> None:
    source = write_raster(tmp_path / "in.tif", np.zeros((3, 8, 8), np.uint8))
    model = write_onnx(tmp_path / "m.onnx", card())
    monkeypatch.setattr("inference.plan.has_tile_units", lambda: units)
    options = Options(model=model, backend="openvino", precision=precision)  # type: ignore[arg-type]
    plan = make_plan(source, tmp_path / "out.tif", options)
    assert sum("no AMX" in notice for notice in plan.notices) == warned


@pytest.mark.parametrize(
    ("soft", "hard", "raised", "workers"),
    [
        (40, 40, None, 0),
        (1024, 1024, None, 60),
        (1024, 4096, 4096, 252),
        (1024, 2**20, 16448, 1024),
        (10**6, 10**6, None, 1024),
    ],
)
def test_workers_fit_under_the_limit_of_open_files(
    soft: int, hard: int, raised: int | None, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource = pytest.importorskip("resource")
    changes: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: changes.append(limits))
    assert most_workers() == workers
    assert changes == ([] if raised is None else [(raised, hard)])
