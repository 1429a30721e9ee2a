"""Tables of sites: columns, numbers and quotes of a CSV, and the columns of a report card."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import shapely

from inference.common.csv_text import column_stems
from inference.common.errors import UserError
from inference.vector.options import TABLE_FORMATS
from inference.vector.site_tables import FORMATS, check_table, site_table
from inference.vector.site_totals import SiteRow
from tests.inference.vector.site_files import sites_of

NAN = float("nan")
SQUARE = shapely.box(0, 0, 1, 1)
CARD = "Site,Dom_sp,Date,Year,Month,Tide_height_m,Site_m2,Canopy_macro_m2,Canopy_nereo_m2\n"


@dataclass
class Map:
    names: Sequence[str]
    background: int | None = 0


KELP = Map(["background", "kelp"])
SPECIES = Map(["background", "Macrocystis", "nereo (bull kelp)"])


def row(classes: Sequence[float], **values: Any) -> SiteRow:
    known: dict[str, Any] = {
        "name": "North",
        "date": "2026-07-31",
        "tide": "0.45",
        "species": "",
        "area": 2000.0,
        "invalid": 0.0,
        "outside": 0.0,
        "probability": NAN,
        "pixels": 0.0,
    }
    return SiteRow(classes=tuple(classes), **(known | values))


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_formats_are_those_of_the_option() -> None:
    assert tuple(FORMATS) == TABLE_FORMATS


def test_plain() -> None:
    text = site_table(
        [
            row([1234.5678901234, 2 / 3], invalid=500.0, outside=100.0, probability=0.875, pixels=123456.25),
            row([0.0, 0.0], date="", area=0.0),
        ],
        KELP,
        "plain",
    )
    assert text == (
        "site,date,site_m2,background_m2,background_ha,kelp_m2,kelp_ha,invalid_m2,outside_m2,unmapped_share,"
        "mean_probability,pixels\n"
        "North,2026-07-31,2000,1234.56789,0.123456789,0.6666666667,6.666666667e-05,500,100,0.3,0.875,123456.25\n"
        "North,,0,0,0,0,0,0,0,,,0\n"
    )


@pytest.mark.parametrize("name", ['Bay, "outer"', "two\nlines", "Ärger 海藻", "=1+1", "-5 m", " x "])
@pytest.mark.parametrize("table_format", FORMATS)
def test_names_come_back_as_they_are(name: str, table_format: str) -> None:
    text = site_table([row([1.0, 2.0, 3.0], name=name)], SPECIES, table_format)
    (found,) = read(text)
    assert name in {found.get("site"), found.get("Site")}
    assert "\r" not in text


def test_names_that_are_formulas_are_noticed() -> None:
    sites = sites_of(*[SQUARE] * 4, names=["=HYPERLINK(1)", "@x", "@x", "A-1"], dates=["2026-07-31"] * 4)
    assert check_table(sites, SPECIES, "plain") == (
        'sites.gpkg: names of sites that a spreadsheet takes for formulas are written as they are: "=HYPERLINK(1)", '
        '"@x" (import their column as text)',
    )
    assert len(check_table(sites, SPECIES, "kelp-report-card")) == 1


@pytest.mark.parametrize(
    ("names", "stems"),
    [
        (["background", "giant kelp", "bull-kelp"], ["background", "giant_kelp", "bull_kelp"]),
        (["kelp", "Kelp", "kelp "], ["kelp", "Kelp_1", "kelp_2"]),
        (["site", "invalid", "Outside"], ["site_0", "invalid_1", "Outside_2"]),
        (["", "%%", "=a,b\n"], ["class_0", "class_1", "a_b"]),
        (["a_1", "a", "A"], ["a_1", "a", "A_2"]),
        (["a_2", "a", "A"], ["a_2", "a", "A_2_"]),
        (["algue brûlée", "海藻"], ["algue_brûlée", "海藻"]),
        (["x" * 1000], ["x" * 60]),
    ],
)
def test_names_of_columns(names: list[str], stems: list[str]) -> None:
    assert column_stems(names) == stems


@pytest.mark.parametrize(
    ("own", "areas", "written"),
    [
        ("", [100.0, 300.5, 12.25], "North,macro,2026-07-31,2026,7,0.45,2000,300.5,12.25\n"),
        ("", [100.0, 3.0, 12.25], "North,nereo,2026-07-31,2026,7,0.45,2000,3,12.25\n"),
        ("Macrocystis", [100.0, 3.0, 12.25], "North,macro,2026-07-31,2026,7,0.45,2000,3,12.25\n"),
        ("", [100.0, 0.0, 0.0], "North,,2026-07-31,2026,7,0.45,2000,0,0\n"),
    ],
)
def test_a_report_card_of_two_species(own: str, areas: list[float], written: str) -> None:
    assert site_table([row(areas, species=own)], SPECIES, "kelp-report-card") == CARD + written


@pytest.mark.parametrize("names", [["background", "kelp"], ["water", "Kelp", "mussels"], ["water", "presence"]])
def test_a_report_card_of_one_class_of_kelp(names: list[str]) -> None:
    areas = [100.0, 70.0, 9.0][: len(names)]
    rows = [row(areas, species=species, date="", tide="") for species in ("NEREO", "macro")]
    assert site_table(rows, Map(names), "kelp-report-card") == (
        CARD + "North,nereo,,,,,2000,0,70\n" + "North,macro,,,,,2000,70,0\n"
    )


def test_two_classes_of_one_species_and_other_algae() -> None:
    classes = Map(["macro dense", "Macro-algae", "macro sparse", "background"], 3)
    (found,) = read(site_table([row([1.0, 10.0, 2.0, 50.0])], classes, "kelp-report-card"))
    assert (found["Dom_sp"], found["Canopy_macro_m2"], found["Canopy_nereo_m2"]) == ("macro", "3", "0")


def test_the_background_is_no_canopy() -> None:
    (found,) = read(site_table([row([9.0, 1.0])], Map(["neither macro nor fish", "Nereo"]), "kelp-report-card"))
    assert (found["Dom_sp"], found["Canopy_macro_m2"], found["Canopy_nereo_m2"]) == ("nereo", "0", "1")


def refusal(classes: Map, **columns: Any) -> str:
    with pytest.raises(UserError) as caught:
        check_table(sites_of(SQUARE, SQUARE, **columns), classes, "kelp-report-card")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_a_report_card_needs() -> None:
    days = ["2026-07-31"] * 2
    assert refusal(KELP, species=["macro", ""], dates=days) == (
        'sites.gpkg: no species of "1": the map has the class "kelp" for all kelp (give the sites a column Dom_sp with '
        "macro or nereo, or choose --table-format plain)"
    )
    assert refusal(Map(["background", "mussels", "eelgrass"]), dates=days) == (
        '--table-format kelp-report-card: the map has no class of a kelp (it has "background", "mussels", "eelgrass"; '
        "allowed: classes with macro or nereo in their names, or a single class of kelp; use a map with these, or "
        "choose --table-format plain)"
    )
    assert refusal(SPECIES, species=["mixed", ""], dates=days) == (
        'sites.gpkg: site "0": Dom_sp is "mixed" (allowed: macro, nereo, or nothing)'
    )
    assert refusal(SPECIES, dates=["31/07/2026", ""]) == (
        'sites.gpkg: site "0": its date is "31/07/2026" (allowed: YYYY-MM-DD, such as 2026-07-31)'
    )
    assert refusal(SPECIES, dates=days, tides=["", "low"]) == (
        'sites.gpkg: site "1": its tide is "low" (allowed: a number of metres, or nothing)'
    )


def test_sound_sites_are_accepted() -> None:
    days = ["2026-07-31", ""]
    assert check_table(sites_of(SQUARE, SQUARE, dates=days, tides=["low", ""]), KELP, "plain") == ()
    (line,) = check_table(
        sites_of(SQUARE, SQUARE, species=["Macro", "nereocystis"], dates=days), KELP, "kelp-report-card"
    )
    assert line == (
        'sites.gpkg: Date, Year and Month are empty for "1", which have no date (give the sites a column date, or the '
        "map its date with --date)"
    )
    whole = sites_of(SQUARE, dates=["2026-07-31"], tides=["-0.1"])
    assert check_table(whole, SPECIES, "kelp-report-card") == ()
