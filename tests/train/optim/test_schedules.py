"""Learning rate schedules: restarted per stage, and held for weight averaging."""

import pytest

from train.optim.schedules import hold_from_epoch, learning_rate, restart_per_stage
from train.optim.unfreezing import UnfreezingStage, stage_at


def test_the_rate_goes_its_whole_way_in_each_stage() -> None:
    stages = [UnfreezingStage(0, "decoder", 1e-2), UnfreezingStage(2, 3, 1e-3), UnfreezingStage(8, "all", 5e-4)]
    base = learning_rate("onecycle", 0.1)
    factor = restart_per_stage(base, stages, lr=1e-3, epochs=10)
    assert factor(0.0) == pytest.approx(10 / 25)
    assert factor(0.02) == pytest.approx(10)  # a tenth of two epochs of ten
    assert factor(0.2) == pytest.approx(1 / 25)  # the second stage begins anew
    assert factor(0.2 + 0.06) == pytest.approx(1)
    assert factor(0.8 + 0.02) == pytest.approx(0.5)
    assert factor(1.0) == pytest.approx(0.5 / 250_000)
    # The first step of an epoch belongs to that epoch, however the share is rounded.
    for steps in (3, 7, 11, 13, 17, 49):
        assert stage_at(stages, (2 * steps) / (10 * steps) * 10) == 1
        assert stage_at(stages, (2 * steps - 1) / (10 * steps) * 10) == 0


def test_a_stage_that_would_begin_when_training_ends() -> None:
    factor = restart_per_stage(
        learning_rate("onecycle", 0.1),
        [UnfreezingStage(0, "decoder", 1e-2), UnfreezingStage(10, "all", 1e-3)],
        1e-2,
        10,
    )
    assert factor(1.0) == pytest.approx(0.1 / 250_000)


def test_the_rate_is_held() -> None:
    base = learning_rate("onecycle", 0.1)
    factor = hold_from_epoch(base, 6, None, epochs=8)
    assert [factor(x) for x in (0.0, 0.1, 0.5, 0.749)] == [base(x) for x in (0.0, 0.1, 0.5, 0.749)]
    assert {factor(x) for x in (0.75, 0.8, 1.0)} == {base(0.75)}
    up = hold_from_epoch(base, 6, 0.5, epochs=8)
    assert up(0.75) == pytest.approx(base(0.75))
    assert up(0.75 + 1 / 16) == pytest.approx((base(0.75) + 0.5) / 2)  # half a cosine is half way in the middle
    assert up(0.875) == pytest.approx(0.5)
    assert up(1.0) == pytest.approx(0.5)
