"""Detection of nodata that a file doesn't declare."""

from collections.abc import Callable

import numpy as np
import pytest

from inference.common.undeclared import NodataDetector, Suspect, _Grid

HEIGHT, WIDTH = 300, 320
ROWS, COLS = np.mgrid[:HEIGHT, :WIDTH]
COLLAR = COLS < 230
CORNERS = (ROWS + COLS < 80) | (ROWS + COLS > 540)
FRAME = (COLS - 160) ** 2 + (ROWS - 150) ** 2 > 130**2
INSIDE = (abs(ROWS - 150) < 50) & (abs(COLS - 150) < 60)
BLOCK = (ROWS // 64 == 1) & (COLS // 64 == 2)
POND = (COLS - 160) ** 2 + (ROWS - 150) ** 2 < 100**2
SPECKLE = np.random.default_rng(1).random((HEIGHT, WIDTH)) < 0.05
EVERYWHERE = ROWS >= 0
EDGE = ROWS < 3


def suspects(
    pixels: np.ndarray, block: tuple[int, int] | None = None, part: tuple[int, int] = (100, 1000)
) -> list[Suspect]:
    _, height, width = pixels.shape
    detector = NodataDetector(height, width, str(pixels.dtype), block)
    for row in range(0, height, part[0]):
        for col in range(0, width, part[1]):
            detector.add(row, pixels[:, row : row + part[0], col : col + part[1]], None, col)
    return detector.suspects()


def noise(dtype: str = "uint8", bands: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 254, (bands, HEIGHT, WIDTH)).astype(dtype)


def clipped(level: float, spread: float) -> np.ndarray:
    """A smooth surface that is too bright or too dark for uint8 in places, some of them at the border."""
    rng = np.random.default_rng(3)
    smooth = sum(
        np.sin(ROWS / rng.uniform(20, 60) + rng.uniform(0, 6)) * np.sin(COLS / rng.uniform(20, 60) + rng.uniform(0, 6))
        for _ in range(6)
    )
    values = level + spread * np.asarray(smooth) + rng.normal(0, 4, (3, HEIGHT, WIDTH))
    return np.clip(values, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("part", [(100, 1000), (37, 41)])
@pytest.mark.parametrize(
    ("dtype", "value", "where"),
    [
        ("uint8", 255, COLLAR),
        ("uint8", 0, CORNERS),
        ("uint8", 255, FRAME),
        ("uint8", 0, EVERYWHERE),
        ("uint8", 255, EDGE),
        ("uint16", 65535, CORNERS),
        ("int16", -9999, INSIDE),
        ("int16", -32768, CORNERS),
        ("float32", -3.4e38, INSIDE),
        ("float32", float(np.finfo(np.float32).min), COLLAR),
        ("float32", -9999, CORNERS),
    ],
)
def test_what_fills_collars_and_gaps_is_found(
    dtype: str, value: float, where: np.ndarray, part: tuple[int, int]
) -> None:
    pixels = noise(dtype)
    pixels[:, where] = value
    (found,) = suspects(pixels, part=part)
    assert found.value == np.array(value, dtype)
    # Parts with very few such pixels are passed over.
    assert found.share == pytest.approx(where.mean(), abs=0.02)


def test_blocks_that_were_never_written_are_found() -> None:
    pixels = noise()
    pixels[:, BLOCK] = 0
    (found,) = suspects(pixels, (64, 64))
    assert (found.value, found.share) == (0, BLOCK.mean())
    assert suspects(pixels, (50, 50)) == []
    assert suspects(pixels) == []


@pytest.mark.parametrize("value", [0, 255])
@pytest.mark.parametrize("where", [INSIDE, POND, SPECKLE])
def test_a_surface_inside_an_image_is_data(value: int, where: np.ndarray) -> None:
    pixels = noise()
    pixels[:, where] = value
    assert suspects(pixels, (16, 16)) == []


@pytest.mark.parametrize(("level", "spread", "value"), [(190, 60, 255), (60, 60, 0)])
def test_what_is_too_bright_or_too_dark_is_data(level: float, spread: float, value: int) -> None:
    pixels = clipped(level, spread)
    clip = (pixels == value).all(axis=0)
    assert clip.mean() > 0.03
    assert clip[0].any() or clip[-1].any() or clip[:, 0].any() or clip[:, -1].any()
    assert suspects(pixels) == []


def test_one_band_with_another_value_makes_a_pixel_data() -> None:
    pixels = noise()
    pixels[:2, COLLAR] = 255
    assert suspects(pixels) == []


def test_known_invalid_pixels_and_few_pixels_do_not_count() -> None:
    pixels = noise()
    pixels[:, COLLAR] = 255
    detector = NodataDetector(HEIGHT, WIDTH, "uint8")
    assert detector.add(0, pixels, COLLAR) is None
    assert detector.suspects() == []
    pixels = noise()
    pixels[:, :5, :10] = 255
    assert suspects(pixels) == []


@pytest.mark.parametrize("fill", [lambda where: where, lambda where: where & ~SPECKLE], ids=["whole", "holes"])
def test_fill_values_are_returned(fill: Callable[[np.ndarray], np.ndarray]) -> None:
    pixels, where = noise(), fill(CORNERS)
    pixels[:, where] = 0
    detector = NodataDetector(HEIGHT, WIDTH, "uint8")
    found = detector.add(0, pixels, None)
    (suspect,) = detector.suspects()
    assert found is not None
    np.testing.assert_array_equal(found == suspect.number, where)


@pytest.mark.parametrize(("cell", "row", "rows"), [((4, 4), 0, 300), ((7, 9), 100, 120), ((280, 64), 13, 287)])
def test_true_pixels_are_counted_in_each_cell(cell: tuple[int, int], row: int, rows: int) -> None:
    height, width = cell
    has = np.random.default_rng(4).random((rows, WIDTH)) < 0.9
    grid = _Grid(HEIGHT, WIDTH, height, width)
    counts = np.zeros(grid.shape, np.int64)
    grid.add(counts, row, 0, has)
    expected = np.zeros_like(counts)
    down, along = np.nonzero(has)
    np.add.at(expected, ((down + row) // height, along // width), 1)
    np.testing.assert_array_equal(counts, expected)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_the_result_does_not_depend_on_the_pieces_in_the_cache(monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    pixels = noise(dtype)
    pixels[:, CORNERS], pixels[:, BLOCK] = 0, 255
    invalid = COLS > 290
    found = []
    for size in (10**9, 7 * WIDTH, 1):
        monkeypatch.setattr("inference.common.undeclared._CHUNK", size)
        detector = NodataDetector(HEIGHT, WIDTH, dtype, (64, 64))
        numbers = detector.add(0, pixels, invalid)
        assert numbers is not None
        cells = [*detector._counts[1], *detector._counts[2], *detector._border.values(), *detector._almost.values()]
        found.append((detector.suspects(), numbers.tolist(), [each.tolist() for each in cells]))
    assert found[0] == found[1] == found[2]
    suspected, numbers, _ = found[0]
    of = {each.value: each.number for each in suspected}
    assert set(of) == {0, 255}
    np.testing.assert_array_equal(np.array(numbers), of[0] * (CORNERS & ~invalid) + of[255] * BLOCK)
