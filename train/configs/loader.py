"""Loader of a YAML file with overrides: returns a `Config`, or all problems with file, line and column.

Imports neither torch nor anything else that is slow, so that a typo is reported in well under a second.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from train.configs import document
from train.configs.config import Config
from train.configs.document import KeyPath
from train.configs.explanation import check_problems, explain
from train.configs.overrides import override
from train.configs.problems import value_at
from train.configs.rules import check
from train.configs.rules.facts import Facts
from train.configs.rules.losses import of_the_loss_named
from train.configs.schema import json_schema as schema
from train.configs.shared import settle
from train.configs.training import is_file_name

__all__ = ["Loaded", "load_config", "schema"]


@dataclass(frozen=True)
class Loaded:
    """Valid config, and notices about how it was read."""

    config: Config
    notices: list[str] = field(default_factory=list)


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Loaded:
    """Read a YAML file, apply the overrides, and validate the result.

    Args:
        path: The YAML file.
        overrides: `KEY=VALUE`, the key dotted, the value in YAML: `trainer.max_epochs=3`.

    Raises:
        UserError: One line for every mistake, all of them at once.
    """
    source = document.read(path)
    data = source.data
    said = override(data, overrides)
    _fill_in(data, Path(path).stem)
    settled = settle(data, said.values)
    problems = list(settled.problems)
    invalid: set[KeyPath] = set()
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        config = None
        reported = {problem.paths[0] for problem in problems}
        explained = explain(error, data, Config, settled.moved)
        worded = of_the_loss_named(explained, data)
        problems += [problem for problem in worded if problem.paths[0] not in reported]
        invalid = {problem.paths[0] for problem in explained}
    problems += check(Facts(data, settled.origin, invalid))
    check_problems(source, said, problems)
    assert config is not None
    return Loaded(config, said.notices + _notices(data, config))


def _fill_in(data: dict[str, Any], name: str) -> None:
    """Fill in empty sections and the name of the run, in place."""
    for section in ("segmentation_config", "data_module", "trainer", "logging", "checkpoint"):
        if data.get(section) is None:
            data[section] = {}
    network = data["segmentation_config"]
    if isinstance(network, dict) and network.get("opts", {}) is None:
        del network["opts"]
    if isinstance(data["logging"], dict) and data["logging"].get("name") is None:
        data["logging"]["name"] = name if is_file_name(name) else "run"


def _notices(data: dict[str, Any], config: Config) -> list[str]:
    """Return the notices: names that were translated, keys that are accepted and not obeyed."""
    notices = []
    backbone = value_at(data, ("segmentation_config", "backbone"))
    if config.segmentation_config.backbone == f"tu-{backbone}":
        notices.append(f"backbone {backbone!r} is timm's: read as 'tu-{backbone}'")
    for path, why in {
        ("data_module", "fill_mask"): "pixels without a label are ignored, whatever it says",
        ("checkpoint", "dirpath"): "checkpoints lie in the run folder",
        ("checkpoint", "save_on_train_epoch_end"): "checkpoints are taken after validation",
        ("segmentation_config", "opts", "head_upsampling"): "the output always has the input's size",
    }.items():
        value = value_at(data, path)
        if value is not None and value is not False:
            notices.append(f"{'.'.join(path)} is accepted, not obeyed: {why}")
    return notices
