"""Styles of QGIS (QML): categories in colours, and forms for editing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import quoteattr

from inference.common.palette import red_green_blue


@dataclass(frozen=True)
class Category:
    """Category of a layer of polygons.

    Attributes:
        value: Value of the expression.
        label: Text in the legend.
        colour: Colour, #RRGGBB.
        opacity: Opacity of the area, 0 to 1; the outline is opaque.
        hatched: True for a hatching in place of an area of one colour.
    """

    value: str
    label: str
    colour: str
    opacity: float = 0.5
    hatched: bool = False


def polygon_style(
    expression: str, categories: Sequence[Category], choices: Mapping[str, Sequence[str]] | None = None
) -> str:
    """Return the style of a layer of polygons as QML.

    Args:
        expression: Column, or expression of QGIS, that the categories are values of.
        categories: Categories, in the order of the legend.
        choices: Allowed values of columns, from which the form offers a choice; a column without values is a check box.
    """
    rows = [
        f'<category render="true" symbol="{number}" value={quoteattr(each.value)} label={quoteattr(each.label)} '
        'type="string"/>'
        for number, each in enumerate(categories)
    ]
    symbols = [_symbol(number, each) for number, each in enumerate(categories)]
    fields = [_field(name, values) for name, values in (choices or {}).items()]
    return "\n".join(
        [
            "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>",
            '<qgis version="3.22" styleCategories="Symbology|Fields|Forms">',
            f'<renderer-v2 type="categorizedSymbol" attr={quoteattr(expression)} symbollevels="0" forceraster="0">',
            "<categories>",
            *rows,
            "</categories>",
            "<symbols>",
            *symbols,
            "</symbols>",
            "</renderer-v2>",
            "<fieldConfiguration>",
            *fields,
            "</fieldConfiguration>",
            "</qgis>",
        ]
    )


def _symbol(number: int, category: Category) -> str:
    rgb = ",".join(map(str, red_green_blue(category.colour)))
    properties = {
        "color": f"{rgb},{round(255 * category.opacity)}",
        "outline_color": f"{rgb},255",
        "outline_style": "solid",
        "outline_width": "0.3",
        "outline_width_unit": "MM",
        "style": "b_diagonal" if category.hatched else "solid",
    }
    options = "".join(f'<Option type="QString" name="{key}" value="{value}"/>' for key, value in properties.items())
    # QGIS before 3.20 reads the second form.
    older = "".join(f'<prop k="{key}" v="{value}"/>' for key, value in properties.items())
    return (
        f'<symbol type="fill" name="{number}" alpha="1" clip_to_extent="1" force_rhr="0">'
        f'<layer class="SimpleFill" pass="0" locked="0" enabled="1"><Option type="Map">{options}</Option>{older}'
        "</layer></symbol>"
    )


def _field(name: str, values: Sequence[str]) -> str:
    if not values:
        return (
            f'<field name={quoteattr(name)}><editWidget type="CheckBox"><config><Option/></config></editWidget></field>'
        )
    items = "".join(
        f'<Option type="Map"><Option type="QString" name={quoteattr(value)} value={quoteattr(value)}/></Option>'
        for value in values
    )
    return (
        f'<field name={quoteattr(name)}><editWidget type="ValueMap"><config><Option type="Map">'
        f'<Option type="List" name="map">{items}</Option></Option></config></editWidget></field>'
    )
