"""Random flips, quarter turns, scales, rotations and distortions of a window, applied by one resampling.

Interpolation once instead of after each change keeps the image sharper and costs less. Ranges and probabilities are
those of the Albumentations transforms that draw the parameters.
"""

import math
import random
from statistics import NormalDist
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.common.validity import fill
from train.augmentation import A
from train.augmentation.turns import Turn
from train.augmentation.warp import Maps, Matrix, Warp, grid_maps

# A displacement that is smooth over _SIGMA pixels is drawn at every _STEP pixels and interpolated in between.
_STEP = 4
_SIGMA, _ALPHA = 8, 60


class Geometry:
    """Geometric augmentation of a window; picklable.

    Args:
        affine: Share of windows that are scaled by 0.8 to 1.25, rotated by up to 30 and sheared by up to 5 degrees.
        distortion: Share of windows with an elastic, grid or perspective distortion, a third each.
        ignore_index: Label of pixels from outside the window.
        fill_value: Image value of invalid pixels and pixels from outside the window, in units of the file.
    """

    def __init__(self, affine: float, distortion: float, ignore_index: int, fill_value: float) -> None:
        self.ignore_index, self.fill_value, self.distortion = ignore_index, fill_value, distortion
        # A drone's height above ground, and with it the ground sample distance, varies by a quarter within a flight.
        self._affine = A.Affine(scale=(0.8, 1.25), rotate=(-30, 30), shear=(-5, 5), p=affine)
        self._grid = A.GridDistortion(distort_limit=0.2)
        self._perspective = A.Perspective(scale=(0.02, 0.08))

    def __call__(
        self,
        image: NDArray[Any],
        label: NDArray[np.uint8],
        invalid: NDArray[np.bool_] | None,
        state: tuple[np.random.Generator, random.Random],
    ) -> tuple[NDArray[Any], NDArray[np.uint8]]:
        """Move one window.

        Args:
            image: Image (H, W, bands), uint8 or float32, with `fill_value` at invalid pixels.
            label: Label (H, W) uint8.
            invalid: Mask (H, W) bool, True at invalid pixels; None if all pixels are valid.
            state: Generators of the random numbers.

        Returns:
            Image and label of the same shapes and dtypes.
        """
        height, width = label.shape
        turn = Turn.of(state[1].randrange(8))
        warp = self._draw(height, width, turn.matrix(height, width), state)
        if warp is None:
            return turn(image), turn(label)
        image, label, outside = warp(image, label, invalid, self.ignore_index, self.fill_value)
        if outside.any():
            # Interpolation leaves mixed pixels around invalid ones.
            fill(image.transpose(2, 0, 1), outside, self.fill_value)
        return image, label

    def _draw(
        self,
        height: int,
        width: int,
        matrix: Matrix,
        state: tuple[np.random.Generator, random.Random],
    ) -> Warp | None:
        """Draw what follows a turn of this matrix; None if only the turn is left."""
        shape = {"shape": (height, width)}
        for transform in (self._affine, self._grid, self._perspective):
            transform.set_random_state(*state)
        affine = self._affine.should_apply()
        if affine:
            matrix = self._affine.get_params_dependent_on_data(shape, {})["matrix"] @ matrix
        if state[1].random() >= self.distortion:
            return Warp(matrix) if affine else None
        kind = state[1].randrange(3)
        if kind == 0:
            drawn = self._perspective.get_params_dependent_on_data(shape, {})
            return Warp(perspective_matrix(drawn, height, width) @ matrix)
        back = np.linalg.inv(matrix)
        if kind == 1:
            drawn = self._grid.get_params_dependent_on_data(shape, {})
            return Warp(matrix, grid_maps(drawn["map_x"][0], drawn["map_y"][:, 0], back))
        return Warp(matrix, elastic_maps(height, width, back, state[0]))


def perspective_matrix(drawn: dict[str, Any], height: int, width: int) -> Matrix:
    """Return the (3, 3) matrix of the parameters that `A.Perspective` draws: it resizes a quadrangle to the window."""
    resize = np.diag([width / drawn["max_width"], height / drawn["max_height"], 1.0])
    return np.asarray(resize @ drawn["matrix"])


def elastic_maps(height: int, width: int, matrix: Matrix, generator: np.random.Generator) -> Maps:
    """Return the maps of an elastic distortion (Simard et al. 2003, doi:10.1109/ICDAR.2003.1227801).

    The displacement is white noise under a Gaussian of 8 px, as `A.ElasticTransform(alpha=60, sigma=8)` draws it: it
    divides the noise by its largest value. Smooth over 8 px, it has no detail that a value every 4 px misses.

    Args:
        height: Height of the window, pixels.
        width: Width of the window, pixels.
        matrix: (3, 3) affine matrix that is applied to the displaced places (x, y, 1).
        generator: Generator of the random numbers.

    Returns:
        Columns and rows, one (H, W, 2) float32 array; and None.
    """
    # One node more on each side, where cv2.resize extrapolates, and a margin for the Gaussian.
    rows, cols = (-(-side // _STEP) + 2 for side in (height, width))
    sigma = _SIGMA / _STEP
    margin = math.ceil(4 * sigma)
    noise = generator.standard_normal((rows + 2 * margin, cols + 2 * margin, 2), dtype=np.float32)
    inside = np.s_[margin : margin + rows, margin : margin + cols]
    # White noise at every fourth pixel under a Gaussian of as many pixels has four times the standard deviation.
    field = cv2.GaussianBlur(noise, (0, 0), sigma)[inside] * np.float32(
        _ALPHA / _STEP / _largest(height, width, generator)
    )
    # cv2.resize puts a node into the middle of its _STEP pixels; the first node lies outside the window.
    first = (_STEP - 1) / 2 - _STEP
    field[..., 0] += (first + _STEP * np.arange(cols, dtype=np.float32))[None]
    field[..., 1] += (first + _STEP * np.arange(rows, dtype=np.float32))[:, None]
    nodes = cv2.transform(field, matrix[:2])
    full = cv2.resize(nodes, (cols * _STEP, rows * _STEP), interpolation=cv2.INTER_LINEAR)
    return full[_STEP : _STEP + height, _STEP : _STEP + width], None


def _largest(height: int, width: int, generator: np.random.Generator) -> float:
    """Draw the largest absolute value of 2 * height * width standard normal numbers, from its distribution."""
    tail = -math.expm1(math.log1p(-generator.random()) / (2 * height * width)) / 2
    return -NormalDist().inv_cdf(max(tail, 1e-30))  # 0 at a random number of exactly 0
