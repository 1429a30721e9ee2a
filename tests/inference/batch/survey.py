"""Small surveys, and the command that maps them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference.inference import main
from tests.conftest import write_raster
from tests.inference.networks import card, write_onnx

SIDE = 40


def pixels(seed: int, bands: int = 3, side: int = SIDE) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 256, (bands, side, side)).astype(np.uint8)


def write_survey(folder: Path, number: int = 4, side: int = SIDE) -> Path:
    """Write mosaics side by side in the folders `cove0` and `cove1` of a folder, and a model beside it; return it."""
    for at in range(number):
        path = folder / f"cove{at % 2}" / f"m{at}.tif"
        write_raster(path, pixels(at, side=side), origin=(5e5 + side / 10 * at, 5.8e6), nodata=0)
    write_onnx(folder.parent / "m.onnx", card())
    return folder


def write_failing(folder: Path, damaged: int = 1, plain: int = 1, narrow: int = 1) -> None:
    """Add mosaics that are damaged, without a CRS, and with too few bands."""
    for at in range(damaged):
        path = write_raster(folder / f"damaged{at}.tif", pixels(at), compress="deflate")
        path.write_bytes(path.read_bytes()[: (8, 900)[at % 2]])
    for at in range(plain):
        write_raster(folder / f"plain{at}.tif", pixels(at), crs=None, transform=None)
    for at in range(narrow):
        write_raster(folder / f"narrow{at}.tif", pixels(at, bands=2))


def run(*arguments: Any) -> int:
    """Run the command and return its exit code."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as end:
        return int(end.code or 0)


def refused(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    """Run a command that must exit with 2, and return its only line."""
    capsys.readouterr()
    code = run(*arguments)
    said = capsys.readouterr().err.strip()
    assert code == 2, said
    assert len(said.splitlines()) == 1, said
    return said


def journal(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of the journal in a folder."""
    return [json.loads(line) for line in (folder / "batch.jsonl").read_text().splitlines()]


def contents(folder: Path) -> dict[str, bytes]:
    """Return the content of each file below a folder but the journal."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "batch.jsonl"
    }
