"""The normalisation that a config means: given, ImageNet's, or measured."""

from typing import Any

import numpy as np
import pytest

from inference.common.errors import UserError
from train.configs.config import Config, DataModuleConfig
from train.data.normalization import Normalization, given_normalization, measured_normalization, measured_notice
from train.data.statistics import Statistics


def settings(**values: Any) -> DataModuleConfig:
    return Config.model_validate({"data_module": {"data_dir": "."} | values}).data_module


def measured(mean: list[float], std: list[float], valid: int = 100) -> Statistics:
    numbers = np.array(mean), np.array(std)
    return Statistics(valid, 0, 0, np.zeros(2, np.int64), valid, numbers[0] * valid, numbers[1] ** 2 * valid, *numbers)


def test_default_for_three_bands_of_bytes_is_that_of_imagenet() -> None:
    """As published with torchvision's models."""
    found = given_normalization(settings(), (1, 2, 3), "uint8")
    assert found is not None
    assert (found.mean, found.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert found.max_pixel_value == 255


@pytest.mark.parametrize(
    ("bands", "dtype"), [((1,), "uint8"), ((1, 2, 3, 4), "uint8"), ((1, 2, 3), "uint16"), ((1, 2, 3), "float32")]
)
def test_anything_else_is_measured_unless_it_is_given(bands: tuple[int, ...], dtype: str) -> None:
    assert given_normalization(settings(), bands, dtype) is None
    assert given_normalization(settings(mean="auto", std="auto"), bands, dtype) is None
    found = given_normalization(settings(mean=[0.5] * 3, std=[0.1] * 3), bands, dtype)
    assert found is not None
    assert (found.mean, found.std) == ((0.5,) * 3, (0.1,) * 3)


def test_what_is_measured_unasked_is_shown_as_keys() -> None:
    found = Normalization((0.25, 1 / 3), (0.1, 0.2), 255.0)
    assert measured_notice(settings(), "uint8", found) == (
        "data_module.mean and data_module.std aren't given for 2 bands of uint8, so they are measured on the train "
        "split: 0.25±0.1, 0.3333±0.2 of 255 (to keep these values: data_module.mean: [0.25, 0.333333], "
        "data_module.std: [0.1, 0.2])"
    )
    asked = measured_notice(settings(mean="auto", std="auto"), "uint8", found)
    assert asked == "normalisation measured on the train split: 0.25±0.1, 0.3333±0.2 of 255"


@pytest.mark.parametrize(
    ("dtype", "given", "expected"),
    [
        ("uint8", None, 255),
        ("uint16", None, 65535),
        ("int16", "auto", 32767),
        ("uint16", "auto", 65535),
        ("uint16", 4095, 4095),
        ("float32", None, 1),
        ("float32", 10000.0, 10000),
    ],
)
def test_what_pixels_are_divided_by(dtype: str, given: Any, expected: float) -> None:
    found = given_normalization(settings(mean=[0.5], std=[0.1], max_pixel_value=given), (1,), dtype)
    assert found is not None
    assert found.max_pixel_value == expected


def test_floats_have_no_largest_value() -> None:
    with pytest.raises(UserError, match="max_pixel_value: auto needs an integer type, the images are float32"):
        given_normalization(settings(mean=[0.5], std=[0.1], max_pixel_value="auto"), (1,), "float32")


def test_measured_values_are_shares_of_the_largest() -> None:
    found = measured_normalization(
        settings(mean="auto", std="auto"), (1, 2), "uint16", measured([100, 6553.5], [5, 10])
    )
    assert found.mean == pytest.approx((100 / 65535, 0.1))
    assert found.std == pytest.approx((5 / 65535, 10 / 65535))


def test_what_cannot_be_measured() -> None:
    auto = settings(mean="auto", std="auto")
    with pytest.raises(UserError, match="the train split has no valid pixel"):
        measured_normalization(auto, (1,), "uint8", measured([0], [0], valid=0))
    with pytest.raises(UserError, match=r"the train split has a single value in band 5 \(9\)"):
        measured_normalization(auto, (2, 5), "uint8", measured([3, 9], [1, 0]))
