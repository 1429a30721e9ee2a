"""Which normalisation a config means: given, ImageNet's, or measured; never a guess."""

from typing import Any

import numpy as np
import pytest

from inference.common.errors import UserError
from train.configs.config import Config, DataModuleConfig
from train.data.normalization import given_normalization, measured_normalization
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
def test_for_anything_else_it_must_be_said(bands: tuple[int, ...], dtype: str) -> None:
    with pytest.raises(UserError, match=f"must be given for {len(bands)} bands of {dtype} .*or auto to measure"):
        given_normalization(settings(), bands, dtype)
    assert given_normalization(settings(mean="auto", std="auto"), bands, dtype) is None
    found = given_normalization(settings(mean=[0.5] * 3, std=[0.1] * 3), bands, dtype)
    assert found is not None
    assert (found.mean, found.std) == ((0.5,) * 3, (0.1,) * 3)


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
    with pytest.raises(UserError, match="no valid pixel in the train split"):
        measured_normalization(auto, (1,), "uint8", measured([0], [0], valid=0))
    with pytest.raises(UserError, match=r"a single value in band 5 \(9\) of the train split"):
        measured_normalization(auto, (2, 5), "uint8", measured([3, 9], [1, 0]))
