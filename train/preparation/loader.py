"""Loader of a PREPARE.yml with overrides: returns a `PrepareConfig`, or all problems with file, line and column.

Nothing slow is imported, so that a typo is reported in well under a second.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from train.configs import document
from train.configs.data import SPLITS
from train.configs.document import Document, KeyPath
from train.configs.explanation import check_problems, explain, problem_line
from train.configs.overrides import Overrides, override
from train.configs.problems import Problem
from train.configs.schema import json_schema
from train.configs.wording import nearest, shown
from train.data.prepared import IGNORED
from train.preparation.config import IGNORE, PrepareConfig, PriorityConfig, distance

SHARES_TOLERANCE = 1e-6
"""Difference from 1 that the sum of the shares may have."""


@dataclass(frozen=True)
class Loaded:
    """Valid config of a preparation.

    Attributes:
        config: The config.
        source: Its file.
        overrides: Overrides of the command line.
    """

    config: PrepareConfig
    source: Document
    overrides: Overrides = field(default_factory=Overrides)

    @property
    def notices(self) -> list[str]:
        """Notices about how the file was read."""
        return self.overrides.notices

    def line(self, path: KeyPath, text: str) -> str:
        """Return a problem with the value at a path as a line, with its place in the file."""
        return problem_line(Problem(text, (path,)), self.source, self.overrides)


def load_prepare_config(path: str | Path, overrides: Sequence[str] = ()) -> Loaded:
    """Read a PREPARE.yml, apply the overrides, and validate the result.

    Args:
        path: The YAML file.
        overrides: `KEY=VALUE`, the key dotted, the value in YAML: `split.seed=3`.

    Raises:
        UserError: One line for every mistake, all of them at once.
    """
    source = document.read(path)
    data = source.data
    said = override(data, overrides, PrepareConfig, "split.seed=3")
    for section in ("split", "select"):
        if data.get(section) is None:
            data.pop(section, None)
    problems: list[Problem] = []
    config = None
    try:
        config = PrepareConfig.model_validate(data)
    except ValidationError as error:
        problems = explain(error, data, PrepareConfig)
    if config is not None:
        problems = _check(config)
    check_problems(source, said, problems)
    assert config is not None
    return Loaded(config, source, said)


def schema() -> str:
    """Return the JSON Schema of a PREPARE.yml."""
    return json_schema(PrepareConfig)


def _check(config: PrepareConfig) -> list[Problem]:
    """Check keys against each other."""
    return [*_check_classes(config), *_check_overlap(config), *_check_split(config), *_check_sources(config)]


def _check_classes(config: PrepareConfig) -> list[Problem]:
    classes, problems = config.classes, []
    names = config.class_names
    given = [key for key in ("name", "map", "names") if getattr(classes, key) is not None]
    if not given and classes.column is None:
        text = "says nothing about the classes (give name: kelp for one class, or column and map, or names)"
        problems.append(Problem(text, (("classes",),)))
    if classes.name is not None and len(given) > 1:
        text = f"is the name of the only class, so {given[1]} can't be given too (remove one)"
        problems.append(Problem(text, (("classes", "name"), ("classes", given[1]))))
    if classes.column is not None and classes.map is None:
        text = f"needs a class for each value of column {shown(classes.column)} (give map: {{Macrocystis: 1}})"
        problems.append(Problem(text, (("classes", "column"),)))
    used = set(config.values.values()) - {IGNORED}
    if classes.map is not None and not used:
        problems.append(Problem("ignores all values (give at least one a class index)", (("classes", "map"),)))
    if classes.names is not None:
        problems += [
            Problem(
                f"is {index}, but names has {len(names)} classes (allowed: 0 to {len(names) - 1}, ignore)",
                (("classes", "map", key), ("classes", "names")),
            )
            for key, index in (classes.map or {}).items()
            if index != IGNORE and int(index) >= len(names)
        ]
    elif missing := sorted(set(range(1, max(used, default=0))) - used):
        text = (
            f"has no value for class {missing[0]}, but one for {max(used)} (number from 1 without gaps, or give names)"
        )
        problems.append(Problem(text, (("classes", "map"),)))
    for index, name in enumerate(names):
        if not name.strip() or not name.isprintable():
            problems.append(Problem(f"{shown(name)} can't be the name of a class", (("classes", "names", index),)))
        elif name in names[:index]:
            problems.append(Problem(f"{shown(name)} stands here twice", (("classes", "names", index),)))
    return problems


def _check_overlap(config: PrepareConfig) -> list[Problem]:
    if not isinstance(config.overlap, PriorityConfig):
        return []
    known = [*config.class_names, *config.values]
    return [
        Problem(
            f"{shown(name)} is no class{nearest(name, known)} (allowed: {', '.join(dict.fromkeys(known))})",
            (("overlap", "priority", index),),
        )
        for index, name in enumerate(config.overlap.priority)
        if name not in known
    ]


def _check_split(config: PrepareConfig) -> list[Problem]:
    split, problems = config.split, []
    shares = split.shares
    total = shares.train + shares.val + shares.test
    if split.by != "given" and split.folds is None and abs(total - 1) > SHARES_TOLERANCE:
        text = (
            f"sum to {total:.6g}: train {shares.train:g}, val {shares.val:g}, test {shares.test:g} (they must sum to 1)"
        )
        problems.append(Problem(text, (("split", "shares"),)))
    elif split.by != "given" and split.folds is None:
        problems += [
            Problem("is 0, but training needs this split (give it a share)", (("split", "shares", name),))
            for name in ("train", "val")
            if not getattr(shares, name)
        ]
    if split.folds is not None and shares.test >= 1:
        problems.append(Problem("is 1, which leaves nothing for the folds", (("split", "shares", "test"),)))
    if split.folds is not None and split.by == "given":
        text = "is given, but split.by is given, which draws nothing (write by: block or by: site, or remove it)"
        problems.append(Problem(text, (("split", "folds"), ("split", "by"))))
    if split.by == "column" and split.column is None:
        problems.append(Problem("is column, but split.column is missing (name the column)", (("split", "by"),)))
    if split.by != "column" and split.column is not None:
        text = f"is given, but split.by is {split.by} (write by: column, or remove it)"
        problems.append(Problem(text, (("split", "column"), ("split", "by"))))
    if split.block_size is not None and not distance(split.block_size).value:
        problems.append(Problem("is 0 (allowed: metres such as 200 m, or pixels)", (("split", "block_size"),)))
    return problems


def _check_sources(config: PrepareConfig) -> list[Problem]:
    problems = []
    for index, source in enumerate(config.sources):
        at: KeyPath = ("sources", index)
        for layer, file in (("layer", "labels"), ("areas_layer", "areas")):
            if getattr(source, layer) is not None and getattr(source, file) is None:
                problems.append(Problem(f"is a layer of {file}, which isn't given", ((*at, layer),)))
        by = config.split.by
        if by == "given" and source.split is None:
            text = "has no split, but split.by is given (give it split: train, val or test)"
            problems.append(Problem(text, (at, ("split", "by"))))
        if by != "given" and source.split is not None:
            text = f"is given, but split.by is {by}, which draws the splits (write split: {{by: given}}, or remove it)"
            problems.append(Problem(text, ((*at, "split"), ("split", "by"))))
        if by == "date" and source.date is None:
            text = "has no date, but split.by is date (give it date: YYYY-MM-DD)"
            problems.append(Problem(text, (at, ("split", "by"))))
        if source.split is not None and "{" not in source.split and source.split not in SPLITS:
            text = f"{shown(source.split)} is no split{nearest(source.split, SPLITS)} (allowed: {', '.join(SPLITS)})"
            problems.append(Problem(text, ((*at, "split"),)))
    return problems
