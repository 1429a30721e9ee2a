"""Parts that the tests of the inference command share."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference.inference import main

ROOT = Path(__file__).parents[2]


COMMAND = [sys.executable, str(ROOT / "inference" / "inference.py")]


def texture(height: int, width: int, bands: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 256, (bands, height, width)).astype(np.uint8)


def run(*arguments: Any) -> int:
    return main([str(a) for a in arguments])


def leftovers(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if "writing" in p.name)


def refused(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    """Run a command that must exit with 2 and return its error message."""
    try:
        code = run(*arguments)
    except SystemExit as exit_:
        code = int(exit_.code or 0)
    err = capsys.readouterr().err
    assert code == 2, err
    assert "Traceback" not in err
    return err.strip()
