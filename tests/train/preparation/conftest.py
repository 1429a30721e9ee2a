"""A small survey, and the command on it."""

from pathlib import Path

import numpy as np
import pytest

from tests.train.preparation.surveys import CONFIG, Run, ground, write_mosaic, write_polygons
from train.prepare import main


@pytest.fixture
def survey(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with two mosaics, far apart, and polygons on them."""
    monkeypatch.chdir(tmp_path)
    write_mosaic(tmp_path / "m" / "north.tif", nodata=0)
    write_mosaic(tmp_path / "m" / "south.tif", at=(0, 900))
    rng = np.random.default_rng(0)
    shapes, labels = [], []
    for row in range(5, 115, 20):
        for col in range(5, 155, 20):
            for at in ((0.0, 0.0), (0.0, 900.0)):
                shapes.append(ground(row, col, 10 + int(rng.integers(5)), 10 + int(rng.integers(5)), at))
                labels.append(str(rng.choice(["kelp", "eelgrass", "unsure"], p=[0.6, 0.3, 0.1])))
    write_polygons(tmp_path / "kelp.gpkg", shapes, {"label": labels}, "EPSG:4326")
    (tmp_path / "p.yml").write_text(CONFIG)
    return tmp_path


@pytest.fixture
def run(survey: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs the command, and returns its exit code, stdout and stderr."""

    def run(*arguments: str, config: str | None = None) -> tuple[int, str, str]:
        if config is not None:
            (survey / "p.yml").write_text(config)
        capsys.readouterr()
        code = main(["p.yml", *arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run
