"""Colours of classes in maps and figures: the palette of Okabe and Ito.

Its colours can be told apart with every kind of colour vision. Source: Okabe and Ito, Color Universal Design, 2008,
https://jfly.uni-koeln.de/color/.
"""

BLUE, ORANGE, GREEN, VERMILION, SKY, YELLOW, PURPLE = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#F0E442", "#CC79A7",
)  # fmt: skip
MAP_COLOURS = (GREEN, ORANGE, SKY, VERMILION, YELLOW, BLUE, PURPLE)
"""Colours of classes in maps, on black."""
OVERLAY_COLOURS = (YELLOW, SKY, VERMILION, GREEN, PURPLE, ORANGE, BLUE)
"""Colours of classes over images and in figures, those first that stand out from water and kelp."""


def class_colours(classes: int, background: int | None, colours: tuple[str, ...]) -> dict[int, str]:
    """Return the colour of each class but the background, as #RRGGBB; colours repeat after the last one."""
    shown = [index for index in range(classes) if index != background]
    return {index: colours[number % len(colours)] for number, index in enumerate(shown)}


def red_green_blue(colour: str) -> tuple[int, int, int]:
    """Convert #RRGGBB to red, green and blue, 0 to 255."""
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue
