"""Sums of 8-bit products in OpenVINO, exact or saturated, on this CPU and on one that is said to have no VNNI."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch

from inference.common.cpu import EXACT_INT8_SUMS
from inference.common.errors import UserError
from inference.model import backends
from inference.model.backends import Request, open_backend
from inference.model.int8_sums import openvino_saturates
from tests.inference.networks import card, write_onnx
from train.export import onnx_file

openvino = pytest.importorskip("openvino", reason="OpenVINO isn't installed")
ROOT = Path(__file__).parents[3]
ASK = "import openvino; from inference.model.int8_sums import openvino_saturates as s; print(s(openvino.Core()))"


def flags() -> set[str]:
    try:
        return set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return set()


@pytest.mark.skipif(not flags() & {"avx512_vnni", "avx_vnni"}, reason="no VNNI was found on this CPU")
def test_with_vnni_sums_are_exact() -> None:
    assert not openvino_saturates(openvino.Core())


@pytest.mark.skipif("avx2" not in flags(), reason="no AVX2 was found on this CPU")
def test_without_vnni_sums_saturate() -> None:
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2", "PYTHONPATH": str(ROOT)}
    found = subprocess.run([sys.executable, "-c", ASK], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "True"


def test_a_file_in_int8_is_refused_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_onnx(tmp_path / "k_int8.onnx", card(tile_size=32))
    monkeypatch.setattr(backends, "openvino_saturates", lambda core: True)
    assert "float" not in open_backend("openvino", Request(path, bands=3, tile=32)).title
    with pytest.raises(UserError, match=r"sums overflow in OpenVINO.*use --backend onnxruntime"):
        open_backend("openvino", Request(path, bands=3, tile=32, int8=True))
    assert "int8" in open_backend("onnxruntime", Request(path, bands=3, tile=32, int8=True)).title


def test_onnxruntime_is_told_to_be_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, opened = write_onnx(tmp_path / "k.onnx", card(tile_size=32)), []
    session = onnxruntime.InferenceSession

    def recorded(*arguments: Any, **options: Any) -> Any:
        opened.append(session(*arguments, **options))
        return opened[-1]

    monkeypatch.setattr(onnxruntime, "InferenceSession", recorded)
    open_backend("onnxruntime", Request(path, bands=3, tile=32, int8=True))
    onnx_file.load(path, torch.device("cpu"))
    name, value = EXACT_INT8_SUMS
    assert [each.get_session_options().get_session_config_entry(name) for each in opened] == [value, value]
