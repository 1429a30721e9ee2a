"""Colours and descriptions of the bands of training images, and images that contradict the others."""

from collections import Counter
from collections.abc import Callable, Sequence

from rasterio.windows import Window

from inference.common.bands import AlphaSurvey, colours_text, contradictions
from inference.common.errors import UserError
from inference.common.raster import Header
from inference.common.validity import alpha_bands
from train.data.pairs import Scene, join_some
from train.data.reader import Reader

_MIDDLE = 512  # pixels
_SAMPLE = 32  # scenes that are looked at


def most_stated(
    headers: Sequence[Header], bands: Sequence[int], stated: Callable[[Header], Sequence[str | None]]
) -> list[str | None] | None:
    """Return what most headers that state anything state of each band; None if no header states anything."""
    found: list[str | None] = []
    for band in bands:
        texts = Counter(text for header in headers if (text := (stated(header) or [None] * band)[band - 1]) is not None)
        found.append(texts.most_common(1)[0][0] if texts else None)
    return found if any(text is not None for text in found) else None


def contradiction_lines(
    headers: Sequence[Header], bands: Sequence[int], colours: Sequence[str | None] | None, chosen: bool
) -> list[str]:
    """Return a line for each image whose bands state other colours than most images; one for all if `chosen`.

    Args:
        headers: Headers of the images.
        bands: Bands to read, counted from 1.
        colours: Colours that most images state.
        chosen: True if the user chose the bands, and so says that they are right.
    """
    off = [header for header in headers if contradictions(header, bands, colours)]
    expected, shown = colours_text(colours or ()), ", ".join(map(str, bands))
    if off and chosen:
        return [
            f"data_module.bands is given, so images are used whose bands aren't {expected}: "
            + join_some(header.path for header in off)
        ]
    return [
        f"{header.path}: bands {shown} are {colours_text([header.colours[band - 1] for band in bands])}, in most "
        f"images they are {expected} (write them in that order; to use them as they lie: data_module.bands: [{shown}])"
        for header in off
    ]


def alpha_lines(found: Sequence[tuple[Scene, int]], bands: Sequence[int]) -> list[str]:
    """Return a notice about alpha bands that hold data, see `data_in_alpha`; none if there are none."""
    if not found:
        return []
    band, every = found[0][1], [*bands, found[0][1]]
    return [
        f"{join_some(f'band {band} of {scene.pair.image}' for scene, band in found)}: marked as alpha (transparency), "
        "but with many values, as a band of data has; its zeros make pixels invalid (to train on it: "
        f"data_module.bands: {every} and num_bands: {len(every)}; to drop the mark: gdal_edit.py -colorinterp_{band} "
        "undefined)"
    ]


def data_in_alpha(images: Sequence[Scene], bands: Sequence[int], reader: Reader) -> list[tuple[Scene, int]]:
    """Return the alpha bands that decide on validity but hold data, by a window in the middle of a sample of images."""
    scenes = [scene for scene in images if alpha_bands(scene.image, bands)]
    found = []
    for scene in scenes[:: -(-len(scenes) // _SAMPLE) or 1]:
        alpha = alpha_bands(scene.image, bands)
        (row, high), (col, wide) = _middle(scene.height), _middle(scene.width)
        try:
            values, _ = reader.image(scene, alpha, Window(col, row, wide, high))
        except UserError:
            continue
        for place, band in enumerate(alpha):
            survey = AlphaSurvey()
            survey.add(values[..., place])
            if survey.holds_data:
                found.append((scene, band))
    return found


def _middle(length: int) -> tuple[int, int]:
    """Return the middle part of an axis, as (first pixel, number of pixels)."""
    part = min(length, _MIDDLE)
    return (length - part) // 2, part
