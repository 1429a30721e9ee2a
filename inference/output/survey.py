"""Survey of a mosaic while it is read: validity, undeclared nodata and alpha bands that hold data."""

from inference.common.bands import AlphaSurvey
from inference.common.undeclared import NodataDetector
from inference.common.validity import alpha_bands
from inference.output.map import Validity
from inference.output.summary import ClassCounter, alpha_notices, undeclared_notices
from inference.plan import Plan
from inference.tiles.strips import Strip


class Survey:
    """Survey of a mosaic, fed with its strips from top to bottom, each once.

    Args:
        plan: Plan of the run.
    """

    def __init__(self, plan: Plan) -> None:
        self._header, self._bands, self._names = plan.source.header, plan.source.bands, plan.card.class_names
        header = self._header
        self._detector = None
        if plan.options.nodata != "none":  # the user says that every value is data
            self._detector = NodataDetector(header.height, header.width, header.dtype, header.block)
        self._alpha = [AlphaSurvey() for _ in alpha_bands(header, self._bands)]

    def add(self, strip: Strip) -> Validity:
        """Add the next strip and return the validity of its rows."""
        found = None if self._detector is None else self._detector.add(strip.row, strip.pixels, strip.invalid)
        if strip.alpha is not None:
            for survey, values in zip(self._alpha, strip.alpha, strict=True):
                survey.add(values)
        return Validity(strip.row, strip.stop, strip.invalid, found)

    def notices(self, counter: ClassCounter) -> tuple[str, ...]:
        """Return notices about the mosaic, a line each.

        Args:
            counter: Pixels by class of the map.
        """
        notices = alpha_notices(self._header, self._bands, self._alpha)
        if self._detector is not None:
            notices += undeclared_notices(self._header.path, self._detector, counter, self._names)
        return notices
