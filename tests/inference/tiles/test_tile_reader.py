"""Reading of tiles from strips of any height."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.tiles.strips import Strip
from inference.tiles.tile_reader import TileReader
from inference.tiles.tiling import tile_axis


@settings(deadline=None, max_examples=80)
@given(
    st.integers(1, 60),
    st.integers(1, 60),
    st.integers(1, 20),
    st.sampled_from([0.0, 0.5, 0.75]),
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.integers(0, 5),
)
def test_tiles_are_windows_of_the_image(
    height: int, width: int, tile: int, overlap: float, steps: list[int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (2, height, width)).astype(np.uint8)
    invalid = np.kron(rng.random((height // 6 + 1, width // 6 + 1)) < 0.6, np.ones((6, 6)))[:height, :width] > 0
    mean, std = np.array([100.0, 50.0]), np.array([20.0, 7.0])
    rows, cols = tile_axis(height, tile, overlap), tile_axis(width, tile, overlap)
    reader, top, number = TileReader(rows, cols, mean, std), 0, 0
    beyond = ((0, 0), (0, max(0, tile - height)), (0, max(0, tile - width)))
    scaled = np.pad((image - mean[:, None, None]) / std[:, None, None], beyond, mode="reflect")
    for row, first in enumerate(rows.starts):
        reader.discard_above(row)
        while not reader.has_row(row):
            part = np.s_[top : top + steps[number % len(steps)]]
            gone = invalid[part]
            reader.push(Strip(top, image[:, part], gone if gone.any() else None))
            top, number = top + len(gone), number + 1
        for col, left in enumerate(cols.starts):
            out = np.empty((2, tile, tile), np.float32)
            reader.read(row, col, out)
            np.testing.assert_allclose(out, scaled[:, first : first + tile, left : left + tile], rtol=1e-6, atol=1e-6)
            empty = invalid[first : first + tile, left : left + tile].all()
            assert reader.is_empty(row, col) == empty
