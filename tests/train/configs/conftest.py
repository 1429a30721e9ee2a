"""A YAML file in a line, and the answers to one that is wrong."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from inference.common.errors import UserError
from train.configs.loader import Loaded, load_config

DATA = "data_module: {data_dir: d}\n"


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Loaded]:
    """Return a function that loads a YAML text."""

    def load(text: str, *overrides: str) -> Loaded:
        path = tmp_path / "c.yml"
        path.write_text(text, encoding="utf-8")
        return load_config(path, overrides)

    return load


@pytest.fixture
def answers(load: Callable[..., Loaded], tmp_path: Path) -> Callable[..., list[str]]:
    """The lines with which a file is refused, without its folder."""

    def answers(text: str, *overrides: str) -> list[str]:
        with pytest.raises(UserError) as caught:
            load(text, *overrides)
        lines = str(caught.value).replace(f"{tmp_path / 'c.yml'}", "c.yml").split("\n")
        assert all(re.match(r"(c\.yml:\d+:\d+|override): ", line) for line in lines), lines
        return [line.removeprefix("c.yml:") for line in lines]

    return answers


def network(text: str) -> str:
    return f"{DATA}segmentation_config:\n  {text}\n"
