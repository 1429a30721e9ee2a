"""Notices about where images and labels lie, and what label files declare; such files are used nevertheless."""

from collections import Counter
from collections.abc import Iterable, Sequence

from inference.common.areas import FIX_GEOREFERENCE, georeference_problem, is_square, pixel_sides
from inference.common.raster import Header
from train.data.labels import LabelRule
from train.data.pairs import Scene, join_some, misplaced
from train.data.undeclared import likewise


def label_notices(scenes: Sequence[Scene], rule: LabelRule) -> list[str]:
    """Return notices about label files with unusual nodata values or georeferences, which are used nevertheless."""
    notices = []
    if rule.nodata is None:
        kept = Counter(s.label.nodata[0] for s in scenes if _nodata_class(s.label.nodata[0], rule))
        notices = [
            f"{'a label file has' if count == 1 else f'{count} label files have'} nodata {value:g}, which is a "
            f"class: it stays that class (to ignore those pixels: data_module.label_nodata: {value:g})"
            for value, count in kept.items()
        ]
    off = [(name, far) for name, far in ((s.pair.label.name, misplaced(s)) for s in scenes) if far > 0.5]
    if off:
        shown = join_some(f"{name} by {far:.{0 if far >= 10 else 1}f} pixels" for name, far in off)
        notices.append(
            f"{'a label file lies' if len(off) == 1 else f'{len(off)} label files lie'} off the image by the "
            f"georeference ({shown}): pixels are paired by row and column nevertheless"
        )
    return notices


def georeference_notices(headers: Iterable[Header]) -> list[str]:
    """Return a notice about images whose georeference the Earth doesn't have; they are used nevertheless."""
    wrong = []
    for header in headers:
        problem = georeference_problem(header.crs, header.transform, header.height, header.width)
        if problem is not None:
            wrong.append(f"{header.path}: its georeference is wrong: {problem}")
    if not wrong:
        return []
    return [
        f"{wrong[0]}{likewise(len(wrong) - 1)} ({FIX_GEOREFERENCE}); it is used, but areas and the size of its "
        "pixels aren't known"
    ]


def oblong_notices(headers: Iterable[Header]) -> list[str]:
    """Return a notice about images whose pixels aren't square on the ground."""
    oblong = []
    for header in headers:
        sides = pixel_sides(header.crs, header.transform, header.height, header.width)
        if sides is not None and not is_square(sides):
            oblong.append(f"{header.path} ({sides[0]:.4g} m high, {sides[1]:.4g} m wide)")
    if not oblong:
        return []
    return [
        f"pixels that aren't square on the ground: {join_some(oblong)} (the network sees shapes stretched; write "
        "the images in a projection with square pixels, such as UTM: gdalwarp -t_srs EPSG:...)"
    ]


def _nodata_class(nodata: float | None, rule: LabelRule) -> bool:
    """Return True if the nodata value of a label file is a class."""
    return nodata is not None and float(nodata).is_integer() and rule.class_of(int(nodata)) is not None
