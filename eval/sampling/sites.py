"""Sites of a sample: their outlines on the grid of the map, pixel by pixel as the table of sites counts them."""

from dataclasses import dataclass

from eval.sampling.design import Floats
from eval.sampling.draw import Domain
from inference.common.raster import Header
from inference.common.text import print_line
from inference.vector.area_intervals import site_keys
from inference.vector.coverage import Outline
from inference.vector.sites import read_sites


@dataclass(frozen=True)
class SiteDomain:
    """Site on the grid of a map.

    Attributes:
        name: Name; with the date where several have the same.
        outline: Outline in pixel coordinates.
    """

    name: str
    outline: Outline

    def shares(self, row: int, col: int, height: int, width: int) -> Floats | None:
        """Return the covered share of each pixel of a window, (height, width); None if none is covered."""
        top, left, bottom, right = self.outline.bounds
        if bottom <= row or right <= col or top >= row + height or left >= col + width:
            return None
        return self.outline.shares(row, col, height, width).array()


def site_domains(path: str, header: Header, column: str | None) -> list[Domain]:
    """Read the sites of a vector file.

    Raises:
        UserError: See `read_sites`.
    """
    sites = read_sites(path, header, column=column)
    for notice in sites.notices:
        print_line(f"notice: {notice}")
    names = site_keys(sites.names, sites.dates)
    return [SiteDomain(name, Outline(shape)) for name, shape in zip(names, sites.geometries, strict=True)]
