"""Class weights."""

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from train.data.class_weights import balanced


def test_class_weights_are_scikit_learns() -> None:
    labels = np.repeat([0, 1, 2], [700, 250, 50])
    wanted = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    assert balanced([700, 250, 50]) == pytest.approx(wanted)
