"""Names and defaults of the schema against the code that they speak of, which the config layer does not import."""

import pytest
import torch

from inference.common.errors import UserError
from train.configs.data import DEMO
from train.configs.network import default_ignore_index
from train.configs.reference import tables
from train.configs.registries.schedules import SCHEDULES
from train.configs.training import METRICS
from train.data.demo import demo_data_dir
from train.export.formats import FORMATS
from train.metrics import scores
from train.optim.schedules import learning_rate


def test_metrics_are_those_that_are_measured():
    measured = scores(torch.tensor([[3, 1], [0, 2]]), ["background", "kelp"], target_only=True)
    assert set(METRICS) == {name for name in measured if "/" not in name} | {"loss"}


def test_the_demo_data_set_is_the_one_that_exists():
    with pytest.raises(UserError, match=f"allowed: '{DEMO}'"):
        demo_data_dir("demo://other")


def test_default_ignore_index_is_no_class():
    assert [default_ignore_index(n) for n in (1, 2, 3, 255)] == [2, 2, 255, 255]


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("warmup", [0.0, 0.25])
def test_a_schedule_rises_to_one_and_never_stops_learning_at_once(name, warmup):
    factor = learning_rate(name, warmup)
    assert factor(warmup) == pytest.approx(1)
    assert factor(0.0) > 0
    assert all(0 <= factor(step / 100) <= 1 for step in range(101))


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_has_a_module_that_writes_and_loads(name):
    from importlib import import_module

    module = import_module(FORMATS[name].module)
    assert callable(module.write)
    assert callable(module.load)
    assert FORMATS[name].name == name


def test_tables_have_a_row_for_each_name():
    made = tables()
    assert set(made) == {"losses", "families", "architectures", "schedules", "formats"}
    for name in ("`onecycle`", "`constant`"):
        assert name in made["schedules"]
    assert "`DiceLoss`" in made["losses"]
    assert "| DiceCombo" not in made["losses"]
    for text in made.values():
        lines = [line for line in text.splitlines() if line.startswith("|")]
        assert all(line.endswith("|") for line in lines)
