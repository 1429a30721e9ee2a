"""Styles of QGIS (QML): categories in colours, of polygons, points and rasters, and forms for editing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from xml.sax.saxutils import quoteattr

from inference.common.palette import red_green_blue

NO_VALUE = "{2839923C-8B7D-419E-B84B-CA2FE9B80EC7}"
"""Value by which a choice of QGIS stands for no value."""


@dataclass(frozen=True)
class Category:
    """Category of a layer of polygons or points, or class of a raster.

    Attributes:
        value: Value of the expression.
        label: Text in the legend.
        colour: Colour, #RRGGBB.
        opacity: Opacity of the area, 0 to 1; the outline is opaque.
        hatched: True for a hatching in place of an area of one colour.
        number: Value of the pixels, in a raster.
    """

    value: str
    label: str
    colour: str
    opacity: float = 0.5
    hatched: bool = False
    number: int = 0


@dataclass(frozen=True)
class Form:
    """Form for editing the features of a layer.

    Attributes:
        choices: Allowed values of columns, from which the form offers a choice; a column without values is a check box.
        read_only: Columns that can't be edited.
        hidden: Columns that the form doesn't show.
        empty: Text of the choice of no value; None to offer none.
    """

    choices: Mapping[str, Sequence[str]] = field(default_factory=dict)
    read_only: Sequence[str] = ()
    hidden: Sequence[str] = ()
    empty: str | None = None


def polygon_style(
    expression: str,
    categories: Sequence[Category],
    choices: Mapping[str, Sequence[str]] | None = None,
    form: Form | None = None,
) -> str:
    """Return the style of a layer of polygons as QML.

    Args:
        expression: Column, or expression of QGIS, that the categories are values of.
        categories: Categories, in the order of the legend.
        choices: Allowed values of columns, see `Form`; a short way to write a form of these alone.
        form: Form for editing.
    """
    return _style(expression, categories, [_fill(each) for each in categories], form or Form(choices or {}))


def point_style(expression: str, categories: Sequence[Category], form: Form | None = None) -> str:
    """Return the style of a layer of points as QML, rings that leave the place itself free; see `polygon_style`."""
    return _style(expression, categories, [_ring(each) for each in categories], form or Form())


def raster_style(categories: Sequence[Category]) -> str:
    """Return the style of a raster of classes as QML; values that are no category are not drawn."""
    entries = [
        f'<paletteEntry value="{each.number}" label={quoteattr(each.label)} color="{each.colour.lower()}" alpha="255"/>'
        for each in categories
    ]
    return "\n".join(
        [
            "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>",
            '<qgis version="3.22" styleCategories="Symbology">',
            "<pipe>",
            '<rasterrenderer type="paletted" band="1" opacity="1" alphaBand="-1" nodataColor="">',
            "<rasterTransparency/>",
            "<colorPalette>",
            *entries,
            "</colorPalette>",
            "</rasterrenderer>",
            "</pipe>",
            "</qgis>",
            "",
        ]
    )


def _style(expression: str, categories: Sequence[Category], layers: Sequence[str], form: Form) -> str:
    rows = [
        f'<category render="true" symbol="{number}" value={quoteattr(each.value)} label={quoteattr(each.label)} '
        'type="string"/>'
        for number, each in enumerate(categories)
    ]
    symbols = [layer.format(number=number) for number, layer in enumerate(layers)]
    fields = [_field(name, values, form.empty) for name, values in form.choices.items()]
    fields += [_widget(name, "Hidden") for name in form.hidden]
    editable = [f'<field editable="0" name={quoteattr(name)}/>' for name in form.read_only]
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
            *(["<editable>", *editable, "</editable>"] if editable else []),
            "</qgis>",
        ]
    )


def _fill(category: Category) -> str:
    rgb = ",".join(map(str, red_green_blue(category.colour)))
    properties = {
        "color": f"{rgb},{round(255 * category.opacity)}",
        "outline_color": f"{rgb},255",
        "outline_style": "solid",
        "outline_width": "0.3",
        "outline_width_unit": "MM",
        "style": "b_diagonal" if category.hatched else "solid",
    }
    return _symbol("fill", "SimpleFill", properties)


def _ring(category: Category) -> str:
    rgb = ",".join(map(str, red_green_blue(category.colour)))
    properties = {
        "name": "circle",
        "color": f"{rgb},0",
        "outline_color": f"{rgb},255",
        "outline_style": "solid",
        "outline_width": "0.6",
        "outline_width_unit": "MM",
        "size": "5",
        "size_unit": "MM",
    }
    return _symbol("marker", "SimpleMarker", properties)


def _symbol(kind: str, layer: str, properties: Mapping[str, str]) -> str:
    """Return a symbol, with a placeholder for its number."""
    options = "".join(f'<Option type="QString" name="{key}" value="{value}"/>' for key, value in properties.items())
    # QGIS before 3.20 reads the second form.
    older = "".join(f'<prop k="{key}" v="{value}"/>' for key, value in properties.items())
    return (
        f'<symbol type="{kind}" name="{{number}}" alpha="1" clip_to_extent="1" force_rhr="0">'
        f'<layer class="{layer}" pass="0" locked="0" enabled="1"><Option type="Map">{options}</Option>{older}'
        "</layer></symbol>"
    )


def _widget(name: str, kind: str, options: str = "<Option/>") -> str:
    return f'<field name={quoteattr(name)}><editWidget type="{kind}"><config>{options}</config></editWidget></field>'


def _field(name: str, values: Sequence[str], empty: str | None) -> str:
    if not values:
        return _widget(name, "CheckBox")
    pairs = [(value, value) for value in values]
    if empty is not None:
        pairs.insert(0, (empty, NO_VALUE))
    items = "".join(
        f'<Option type="Map"><Option type="QString" name={quoteattr(text)} value={quoteattr(value)}/></Option>'
        for text, value in pairs
    )
    return _widget(name, "ValueMap", f'<Option type="Map"><Option type="List" name="map">{items}</Option></Option>')
