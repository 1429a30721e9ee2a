"""Names from files and cards in the report: HTML, pictures, folders and the terminal."""

import re
import warnings
from pathlib import Path

import pytest
import rasterio

from eval.test_new_model import main
from tests.conftest import write_dataset
from tests.inference.networks import card, write_onnx

NAME = "a $x$ <b>\x1b[31m 😀 $y"


def test_names_are_shown_as_they_are_and_harm_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_dataset(tmp_path / "data", {"test": [(40, 40), (44, 40)]})
    for part, end in (("x", ".tif"), ("y", "_label.tif")):
        (data / "test" / part / f"s1{end}").rename(data / "test" / part / f"{NAME}{end}")
    names = ["background", "_$k$ <i>\x07"]
    model = write_onnx(tmp_path / "m.onnx", card(ignore_index=2, class_names=names))
    out = tmp_path / "out"
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of Matplotlib: a glyph that is missing, a label that is left out
        assert main([str(model), "--data", str(data), "--no-threshold", "--group", "[as]", "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert not re.search(r"[^\n\t -~\u00a0-\uffff]", said.out + said.err)
    text = (out / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", text)
    assert r"a $x$ &lt;b&gt;\x1b[31m 😀 $y" in text
    assert r"_$k$ &lt;i&gt;\x07" in text
    assert not re.search(r"<[bi]>", text)
    with rasterio.open(out / "masks" / f"{NAME}.tif") as file:
        assert file.shape == (44, 40)
    assert r"00-worst-a-$x$-<b>\x1b[31m-😀-$y-dice-1.000.png" in {path.name for path in (out / "panels").iterdir()}
