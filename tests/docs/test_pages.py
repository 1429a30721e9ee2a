"""README and docs: their links, paths, configs and generated parts."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from docs.generate import GENERATED, INCLUDED, MARKER, fill, relink
from tests.docs.pages import PAGES, ROOT, Block, blocks, prose
from train.configs.loader import load_config
from train.preparation.loader import load_prepare_config

README_LINES = 200
PACKAGES = ("train", "inference", "eval")
VALUES = r"\b(?:maps kelp|the test split|demo|differ near|Unet on|num_bands)\b"
"""What outputs on the pages have in the places of values."""
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
# In `code`: what begins like a path of this repository. Not the names of scores, nor the folders of a data set.
_PATH = re.compile(
    r"^(?:train|inference|eval|tests|docs|benchmarks|\.ci)/[\w./-]*$|^[\w-]+\.(?:toml|md)$|^mkdocs\.yml$"
)
_NO_PATH = re.compile(r"^(?:train|val|test)/(?:loss|accuracy|iou|dice|f1|precision|recall|[xy]/?)$")


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and MkDocs make them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= README_LINES


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    page = ROOT / name
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        if anchor:
            assert anchor in anchors(found), target


@pytest.mark.parametrize("name", NAMES)
def test_paths_exist(name: str) -> None:
    for code in re.findall(r"`([^`\n]+)`", prose(ROOT / name)):
        if _PATH.match(code) and not _NO_PATH.match(code):
            assert (ROOT / code).exists(), code


@pytest.mark.parametrize("name", NAMES)
def test_modules_exist(name: str) -> None:
    for module in re.findall(r"python -m ([\w.]+)", (ROOT / name).read_text("utf-8")):
        assert importlib.util.find_spec(module) is not None, module


def test_the_navigation_has_every_page() -> None:
    def pages(entry: object) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        children = entry.values() if isinstance(entry, dict) else entry
        return [page for child in children for page in pages(child)]  # type: ignore[attr-defined]

    listed = pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    assert sorted(listed) == sorted(str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md"))


def test_the_readme_leads_to_every_page() -> None:
    linked = set(re.findall(r"\]\(([^)#\s]+)", (ROOT / "README.md").read_text()))
    of_files = {f"docs/{name}.md" for name in INCLUDED}
    assert {name for name in NAMES if name.startswith("docs/")} - of_files <= linked


@pytest.mark.parametrize("block", blocks("yaml"), ids=lambda block: block.page)
def test_configs_are_valid(block: Block, tmp_path: Path) -> None:
    (tmp_path / "c.yml").write_text(block.text)
    if block.text.startswith("output_dir:"):
        load_prepare_config(tmp_path / "c.yml")
        return
    classes = ["num_classes=2"] if "CELoss" in block.text else []
    load_config(tmp_path / "c.yml", ["data_module.data_dir=d", *classes])


def test_shown_output_is_in_the_code() -> None:
    """Outputs on the pages are copies of real ones: their phrases must still be in some message of the code."""
    code = "".join(path.read_text("utf-8") for name in PACKAGES for path in sorted((ROOT / name).rglob("*.py")))
    code = re.sub(r'"\s*\n\s*f?"', "", code)  # a message in several literals
    pages = ("docs/tutorials/", "docs/how-to/", "docs/explanation/")
    phrases = [
        f"{block.page}: {phrase}"
        for block in blocks("text")
        if block.page.startswith(pages)
        for phrase in re.findall(r"[a-z][a-z'-]*(?: [a-z][a-z'-]*){2,}", re.sub(VALUES, "|", block.text))
    ]
    assert len(phrases) > 20
    assert [phrase for phrase in phrases if phrase.partition(": ")[2] not in code] == []


def test_every_marker_is_known_and_used() -> None:
    used = {name for page in PAGES for name in MARKER.findall(page.read_text("utf-8"))}
    assert used == set(GENERATED)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("config", ["### `segmentation_config.loss.opts`", "`data_dir`", "**required**"]),
        ("prepare", ["### `split.shares`", "| `block_size` |", "**required**", "number, text"]),
        (
            "commands",
            [
                "usage: python -m train.prepare",
                "usage: python -m train ",
                "--probabilities OUT2.tif",
                "--baseline MODEL2",
                "--production-card",
                "--plot-size N",
            ],
        ),
        ("card", ["| `max_pixel_value` |  | number or `auto` |", "| `label_map` | `{}` |", "### `training_data`"]),
        ("losses", ["FocalTversky", "`label_smoothing`", "BCE"]),
        ("networks", ["## Families", "`DINOv2Segmentation`", "DeepLabV3Plus"]),
        ("schedules", ["onecycle", "`poly`"]),
        ("formats", ["onnx", "torchscript", "openvino"]),
        ("benchmarks", ["# Measurements"]),
        ("contributing", ["# Contributing"]),
        ("changelog", ["# Changelog"]),
    ],
)
def test_generated_parts_hold(name: str, words: list[str]) -> None:
    text = GENERATED[name]()
    assert [word for word in words if word not in text] == []


def test_pages_are_filled_without_pytorch() -> None:
    code = (
        "import sys; from docs.generate import GENERATED, fill\n"
        "for name in GENERATED: assert len(fill(f'<!-- generated: {name} -->', 'x.md')) > 100, name\n"
        "assert not {'torch', 'lightning', 'timm', 'albumentations'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_an_unknown_marker_is_an_error() -> None:
    with pytest.raises(KeyError, match="nothing"):
        fill("<!-- generated: nothing -->", "index.md")


def test_links_of_included_files_are_those_of_the_page() -> None:
    text = "[a](../docs/models.md#x) [b](../train/model.py) [c](https://d.e) `[f](g)` [h](#i)"
    site = "[a](../models.md#x) [b](https://github.com/HakaiInstitute/hakai-ml-train/blob/HEAD/train/model.py) "
    assert relink(text, "benchmarks/README.md", "reference/b.md") == f"{site}[c](https://d.e) `[f](g)` [h](#i)"
    assert relink("[x](../CONTRIBUTING.md)", "docs/index.md", "index.md") == "[x](contributing.md)"
