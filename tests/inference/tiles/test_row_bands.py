"""Row bands of an axis."""

from hypothesis import given
from hypothesis import strategies as st

from inference.tiles.row_bands import LEAST_ROWS, RowBand, cut, row_band, whole
from inference.tiles.tiling import tile_axis

OVERLAPS = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 0.9])


def test_a_band_begins_with_the_first_tiles_that_reach_into_it() -> None:
    axis = tile_axis(32 + 16 * 9, 32, 0.5)  # rows of tiles from 0, 16, 32 and so on
    assert row_band(axis, 4, 7) == RowBand(begin=3, first=4, stop=7)
    assert row_band(axis, 0, 4) == RowBand(0, 0, 4)
    assert row_band(tile_axis(320, 32, 0.0), 4, 7) == RowBand(4, 4, 7)
    assert whole(axis) == RowBand(0, 0, 10)


@given(st.integers(1, 3000), st.integers(1, 40), OVERLAPS, st.integers(1, 12))
def test_bands_are_the_whole_axis_and_take_about_the_same_time(
    length: int, tile: int, overlap: float, number: int
) -> None:
    axis = tile_axis(length, tile, overlap)
    bands = cut(axis, number)
    assert 1 <= len(bands) <= number
    assert [row for band in bands for row in range(band.first, band.stop)] == list(range(len(axis)))
    for band in bands:
        assert axis.stop(band.begin) > axis.starts[band.first]
        assert not band.begin or axis.stop(band.begin - 1) <= axis.starts[band.first]
    if len(bands) > 1:
        repeated = max(band.first - band.begin for band in bands)
        assert min(band.stop - band.first for band in bands) >= max(LEAST_ROWS, 3 * repeated)
        sizes = [band.predicted for band in bands]
        assert max(sizes) - min(sizes) <= 2
    if len(axis) >= 60 * number + 20:
        assert len(bands) == number


def test_thin_bands_are_not_cut() -> None:
    axis = tile_axis(32 + 16 * 20, 32, 0.5)  # a band repeats one row of tiles
    assert [len(cut(axis, number)) for number in (1, 2, 5, 99)] == [1, 2, 5, 5]
    assert len(cut(tile_axis(100, 32, 0.5), 4)) == 1
    assert len(cut(tile_axis(10, 32, 0.5), 4)) == 1
