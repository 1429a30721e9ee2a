"""Geometric changes: those of Albumentations where one comes alone, and one resampling where several meet."""

import math
import pickle
import random
from typing import Any

import cv2
import numpy as np
import pytest

from train.augmentation import A
from train.augmentation.geometry import Geometry, elastic_maps, perspective_matrix
from train.augmentation.turns import Turn
from train.augmentation.warp import Warp, grid_maps

IGNORED, FILL = 255, 37
SIDE = 96


def window(bands: int = 3, dtype: str = "uint8", side: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
    """Return a smooth image of values far from `FILL`, and a label of blocks."""
    rng = np.random.default_rng(bands)
    noise = cv2.GaussianBlur(rng.standard_normal((side, side)).astype(np.float32), (0, 0), 4)
    image = 160 + 60 * noise[..., None] / abs(noise).max() - np.arange(bands) % 7
    label = np.kron(rng.integers(0, 3, (side // 8, side // 8)), np.ones((8, 8))).astype(np.uint8)
    return image.astype(dtype), label


def state(seed: int) -> tuple[np.random.Generator, random.Random]:
    return np.random.default_rng(seed), random.Random(seed)


def drawn(transform: Any, seed: int, side: int = SIDE) -> dict[str, Any]:
    """Return the parameters that an Albumentations transform draws."""
    transform.set_random_state(*state(seed))
    params: dict[str, Any] = transform.get_params_dependent_on_data({"shape": (side, side)}, {})
    return params


def warp_of(transform: Any, params: dict[str, Any]) -> Warp:
    matrix = params.get("matrix", np.eye(3))
    if "max_width" in params:
        matrix = perspective_matrix(params, SIDE, SIDE)
    maps = grid_maps(params["map_x"][0], params["map_y"][:, 0], np.eye(3)) if "map_x" in params else None
    return Warp(matrix, maps)


OUTSIDE: dict[str, Any] = {"border_mode": cv2.BORDER_CONSTANT, "fill": FILL, "fill_mask": IGNORED, "p": 1}


@pytest.mark.parametrize(
    "transform",
    [
        A.Affine(scale=(0.8, 1.25), rotate=(-30, 30), shear=(-5, 5), **OUTSIDE),
        A.Perspective(scale=(0.02, 0.08), **OUTSIDE),
        A.GridDistortion(distort_limit=0.2, **OUTSIDE),
    ],
    ids=lambda transform: type(transform).__name__,
)
@pytest.mark.parametrize(("bands", "dtype"), [(1, "uint8"), (3, "uint8"), (3, "float32"), (8, "uint8"), (5, "float32")])
def test_one_change_is_that_of_albumentations(transform: Any, bands: int, dtype: str) -> None:
    image, label = window(bands, dtype)
    entered = 0
    for seed in range(6):
        params = drawn(transform, seed)
        made, moved, outside = warp_of(transform, params)(image, label, None, IGNORED, FILL)
        transform.set_random_state(*state(seed))
        theirs = transform(image=image, mask=label)
        np.testing.assert_array_equal(moved, theirs["mask"])
        np.testing.assert_array_equal(outside, moved == IGNORED)
        assert (made.shape, made.dtype) == (image.shape, image.dtype)
        assert (made[outside] == theirs["image"].reshape(made.shape)[outside]).all() or bands > 1
        # At the rim Albumentations mixes `fill` into the first band, and 0 into the others.
        inside = cv2.erode((~outside).astype(np.uint8), np.ones((5, 5)), borderValue=0) > 0
        off = abs(made.astype(float) - theirs["image"].reshape(made.shape).astype(float))[inside]
        # OpenCV rounds places to 1/32 px for some types and numbers of bands.
        assert off.max() <= 1.01, seed
        assert off.mean() < 0.1, seed
        entered += int(outside.any())
    assert entered or not isinstance(transform, A.Affine)


def test_several_changes_at_once_are_those_one_after_the_other() -> None:
    """A ramp of places tells for each pixel where it came from; several resamplings only blur it a little."""
    places = np.dstack([*np.mgrid[:SIDE, :SIDE], np.ones((SIDE, SIDE))]).astype(np.float32)
    label = np.ones((SIDE, SIDE), np.uint8)
    affine = A.Affine(scale=(0.8, 1.25), rotate=(-30, 30), shear=(-5, 5), p=1)
    grid, perspective = A.GridDistortion(distort_limit=0.2, p=1), A.Perspective(scale=(0.02, 0.08), p=1)
    for seed in range(6):
        turn = Turn.of(seed)
        matrix = drawn(affine, seed)["matrix"]
        for last in (grid, perspective):
            params = drawn(last, seed)
            step = Warp(matrix)(turn(places), label, None, IGNORED, 0)
            one_by_one = warp_of(last, params)(step[0], step[1], step[2], IGNORED, 0)
            whole = matrix @ turn.matrix(SIDE, SIDE)
            if last is grid:
                maps = grid_maps(params["map_x"][0], params["map_y"][:, 0], np.linalg.inv(whole))
                at_once = Warp(whole, maps)(places, label, None, IGNORED, 0)
            else:
                at_once = Warp(warp_of(last, params).matrix @ whole)(places, label, None, IGNORED, 0)
            inside = one_by_one[0][..., 2] > 0.999
            assert inside.mean() > 0.4
            assert abs(one_by_one[0] - at_once[0])[inside].max() < 0.15
            # One after the other loses the corners that the first change moved out and the second back in.
            assert (at_once[2] & inside).sum() == 0


@pytest.mark.parametrize("ignored", [0, 2, 255])
@pytest.mark.parametrize("bands", [3, 8, 130])
def test_outside_and_invalid(ignored: int, bands: int) -> None:
    image, label = window(bands)
    invalid = np.zeros(label.shape, bool)
    invalid[40:60, 30:50] = True
    matrix = np.array([[1.0, 0, 10], [0, 1, 0], [0, 0, 1]])
    made, moved, outside = Warp(matrix)(image, label, invalid, ignored, FILL)
    np.testing.assert_array_equal(outside[:, 10:], invalid[:, :-10])
    assert outside[:, :10].all()
    assert (moved[:, :10] == ignored).all()
    assert (made[:, :10] == FILL).all()
    np.testing.assert_array_equal(moved[:, 10:], label[:, :-10])
    np.testing.assert_array_equal(made[:, 10:], image[:, :-10])


def test_elastic_displacement_is_that_of_albumentations() -> None:
    """Standard deviation and correlation, far from the border, against the closed form and against Albumentations."""
    side, inside = 256, np.s_[40:-40, 40:-40]
    theirs = A.ElasticTransform(alpha=60, sigma=8, p=1)
    rows, cols = np.mgrid[:side, :side].astype(np.float32)
    fields: dict[str, list[np.ndarray]] = {"ours": [], "theirs": []}
    for seed in range(20):
        maps, none = elastic_maps(side, side, np.eye(3), np.random.default_rng(seed))
        assert none is None
        assert maps.shape == (side, side, 2)
        fields["ours"].append((maps - np.dstack([cols, rows]))[inside])
        params = drawn(theirs, seed, side)
        fields["theirs"].append(np.dstack([params["map_x"] - cols, params["map_y"] - rows])[inside])
    # Gaussian-filtered white noise: std 1 / (2 sqrt(pi) sigma), correlation exp(-r^2 / (4 sigma^2)); the noise is
    # divided by the largest of its numbers, which is 4.6 here.
    for name, drawn_fields in fields.items():
        field = np.stack(drawn_fields)
        assert field.std() == pytest.approx(60 / 4.6 / (2 * math.sqrt(math.pi) * 8), rel=0.06), name
        assert abs(field.mean()) < 0.02
        for lag in (4, 8, 16):
            expected = math.exp(-(lag**2) / (4 * 8**2))
            for one, other in ((field[:, lag:], field[:, :-lag]), (field[:, :, lag:], field[:, :, :-lag])):
                assert (one * other).mean() / field.var() == pytest.approx(expected, abs=0.05), (name, lag)
        assert abs((field[..., 0] * field[..., 1]).mean()) / field.var() < 0.05
    assert np.stack(fields["ours"]).std() == pytest.approx(np.stack(fields["theirs"]).std(), rel=0.05)


@pytest.mark.parametrize(("height", "width"), [(256, 256), (30, 57), (5, 3)])
def test_elastic_displacement_lies_where_it_should(height: int, width: int) -> None:
    """The displaced grid has no offset and goes through the matrix, up to the very border."""
    rows, cols = np.mgrid[:height, :width]
    matrix = np.array([[0.5, 2, 7], [-1, 0.25, 3], [0, 0, 1]])
    total = np.zeros((height, width, 2))
    for seed in range(30):
        plain, _ = elastic_maps(height, width, np.eye(3), np.random.default_rng(seed))
        moved, _ = elastic_maps(height, width, matrix, np.random.default_rng(seed))
        np.testing.assert_allclose(moved, plain @ matrix[:2, :2].T + matrix[:2, 2], atol=2e-3)
        off = plain - np.dstack([cols, rows])
        assert abs(off).max() < 4
        total += off / 30
    assert abs(total).max() < 5 * 0.6 / math.sqrt(30)


def test_shares_of_the_changes() -> None:
    geometry = Geometry(0.7, 0.5, IGNORED, FILL)
    counts = {"turn": 0, "affine": 0, "perspective": 0, "maps": 0}
    scales = []
    for seed in range(600):
        warp = geometry._draw(16, 16, np.eye(3), state(seed))
        if warp is None:
            counts["turn"] += 1
        elif warp.maps is not None:
            counts["maps"] += 1
        else:
            kind = "affine" if np.array_equal(warp.matrix[2], (0, 0, 1)) else "perspective"
            counts[kind] += 1
            if kind == "affine":
                scales.append(math.sqrt(np.linalg.det(warp.matrix)))
    expected = {"turn": 0.15, "affine": 0.35, "perspective": 1 / 6, "maps": 1 / 3}
    for kind, share in expected.items():  # 4 standard deviations
        assert counts[kind] / 600 == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 600)), kind
    assert 0.75 < min(scales) < 0.9
    assert 1.15 < max(scales) < 1.3


@pytest.mark.parametrize("turn", [Turn.of(number) for number in range(8)], ids=str)
def test_the_turn_comes_before_the_other_changes(turn: Turn) -> None:
    geometry, matrix = Geometry(0.7, 1, IGNORED, FILL), turn.matrix(32, 32)
    kinds = set()
    for seed in range(24):
        alone, turned = (geometry._draw(32, 32, before, state(seed)) for before in (np.eye(3), matrix))
        assert alone is not None
        assert turned is not None
        kinds.add((alone.maps is None, len(alone.maps or ()), np.array_equal(alone.matrix, np.eye(3))))
        if alone.maps is None or turned.maps is None:
            np.testing.assert_allclose(turned.matrix, alone.matrix @ matrix, atol=1e-9)
            continue
        # Places in the turned window, turned back.
        x, y = (np.dstack([m for m in warp.maps or () if m is not None]).reshape(-1, 2) for warp in (alone, turned))
        back = np.linalg.inv(matrix)
        np.testing.assert_allclose(y, x @ back[:2, :2].T + back[:2, 2], atol=1e-3)
    assert len(kinds) >= 3


def test_every_turn_is_drawn_equally_often() -> None:
    geometry = Geometry(0, 0, IGNORED, FILL)
    label = np.arange(16, dtype=np.uint8).reshape(4, 4)
    found: dict[bytes, int] = {}
    for seed in range(800):
        image, moved = geometry(label[..., None].copy(), label.copy(), None, state(seed))
        assert np.array_equal(image[..., 0], moved)
        found[moved.tobytes()] = found.get(moved.tobytes(), 0) + 1
    assert len(found) == 8
    assert min(found.values()) > 60
    assert max(found.values()) < 140


def test_more_bands_than_opencv_knows() -> None:
    geometry = pickle.loads(pickle.dumps(Geometry(1, 1, IGNORED, FILL)))
    image, label = window(140, "float32")
    for seed in range(6):
        made, moved = geometry(image.copy(), label.copy(), None, state(seed))
        single, same = geometry(image[..., 133:134].copy(), label.copy(), None, state(seed))
        np.testing.assert_array_equal(moved, same)
        assert abs(made[..., 133:134] - single).max() < 6
        assert (made[moved == IGNORED] == FILL).all()
