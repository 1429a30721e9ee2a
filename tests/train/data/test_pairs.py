"""Pairs by name, and headers that fit: what is found, and what is said of what can't be used."""

import os
import subprocess
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

from inference.common.errors import UserError
from inference.common.raster import Header, read_header
from tests.conftest import write_raster
from train.data.pairs import Pair, Scene, choose_bands, data_dir, find_pairs, misplaced, read_scenes

IMAGE = np.zeros((3, 8, 9), np.uint8)
LABEL = np.zeros((8, 9), np.uint8)


def touch(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"")


def named(data: Path, split: str = "train") -> dict[str, str]:
    found = find_pairs(data, split)
    assert found.problems == []
    return {pair.image.name: pair.label.name for pair in found.pairs}


def problems(data: Path, split: str = "train") -> str:
    return "\n".join(find_pairs(data, split).problems)


def paired(tmp_path: Path, image: np.ndarray, label: np.ndarray, **profile: object) -> Pair:
    return Pair(
        write_raster(tmp_path / "train/x/a.tif", image, **profile), write_raster(tmp_path / "train/y/a.tif", label)
    )


def scene(**changes: object) -> Scene:
    plain: dict[str, object] = {"path": "x/a.tif", "masked": False, "crs": None, "transform": Affine.identity()}
    plain |= {"height": 8, "width": 9, "block": (8, 9), "count": 3, "dtype": "uint8"}
    plain |= {"nodata": (None,) * 3, "alpha": ()}
    image = Header(**(plain | changes))  # type: ignore[arg-type]
    return Scene(Pair(Path("x/a.tif"), Path("y/a.tif")), image, image)


@pytest.mark.parametrize("ending", ["_label.tif", ".tif", "_label.TIF", ".tiff", "_label.Tiff"])
def test_pairs_go_by_name_and_not_by_order(tmp_path: Path, ending: str) -> None:
    # Sorted with their endings, site_1_label.tif < site_10_label.tif < site_label.tif, but site.tif < site_1.tif.
    names = ["site", "site_1", "site_10", "site_2", "site.v2", "a b", "Île-d'été"]
    touch(tmp_path / "train/x", *(f"{name}.tif" for name in names))
    touch(tmp_path / "train/y", *(f"{name}{ending}" for name in names))
    assert named(tmp_path) == {f"{name}.tif": f"{name}{ending}" for name in names}


def test_one_letter_written_in_two_ways_is_one_letter(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "été") for form in ("NFC", "NFD"))
    assert composed != decomposed
    touch(tmp_path / "train/x", f"{decomposed}.tif")
    touch(tmp_path / "train/y", f"{composed}_label.tif")
    assert named(tmp_path) == {f"{decomposed}.tif": f"{composed}_label.tif"}


def test_what_systems_and_tools_leave_beside_images_is_passed_over(tmp_path: Path) -> None:
    litter = ["._a.tif", ".DS_Store", "a.tif.aux.xml", "a.tif.ovr", "a.tif.msk", "a.tfw", "Thumbs.db"]
    touch(tmp_path / "train/x", "a.tif", *litter)
    touch(tmp_path / "train/y", "a_label.tif", *litter)
    (tmp_path / "train/x/old.tif").mkdir()
    assert named(tmp_path) == {"a.tif": "a_label.tif"}
    assert find_pairs(tmp_path, "train").notices == []


def test_images_that_are_left_out_are_named(tmp_path: Path) -> None:
    touch(tmp_path / "train/x", "a.tif", "a.png", "b.png", "c.JPG")
    touch(tmp_path / "train/y", "a.tif")
    (notice,) = find_pairs(tmp_path, "train").notices
    folder = tmp_path / "train/x"
    assert notice == (
        f"{folder}: images that are no GeoTIFFs are left out: b.png, c.JPG (convert them with: for f in "
        f"{folder}/*.png; "
        'do gdal_translate "$f" "${f%.*}.tif"; done)'
    )


@pytest.mark.parametrize("split", ["train", "val of '26"])
def test_the_command_that_converts_png_labels(tmp_path: Path, split: str) -> None:
    """Run it with a gdal_translate that copies: file names with spaces and quotes arrive whole."""
    touch(tmp_path / split / "x", "a.tif", "b c.tif")
    touch(tmp_path / split / "y", "a_label.png", "b c.png")
    (problem,) = find_pairs(tmp_path, split).problems
    before, _, command = problem.removesuffix(")").partition("; convert them with: ")
    assert before == f"{tmp_path / split / 'y'}: no GeoTIFF in it (found .png files; expected NAME.tif"
    tool = tmp_path / "bin" / "gdal_translate"
    tool.parent.mkdir()
    tool.write_text('#!/bin/sh\ncp "$1" "$2"\n')
    tool.chmod(0o755)
    subprocess.run(["sh", "-c", command], env={"PATH": f"{tool.parent}:{os.environ['PATH']}"}, check=True)
    assert named(tmp_path, split) == {"a.tif": "a_label.tif", "b c.tif": "b c.tif"}


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (["a.tif"], ["b.tif"], ["x/a.tif: has no label (expected", "y/b.tif: has no image in"]),
        (["a.tif"], ["a.tif", "a_label.tif"], ["x/a.tif: has two labels, a_label.tif and a.tif (keep one)"]),
        (["a.tif"], ["a.tif", "a.tiff"], ["y/a.tiff: the name stands twice, also as a.tif (keep one)"]),
        (["a.tif", "a.TIF"], ["a.tif"], ["the name stands twice"]),
        (
            ["a.tif", "a_label.tif"],
            ["a_label.tif"],
            ["y/a_label.tif: is the label of two images, a.tif and a_label.tif"],
        ),
        (
            ["a.png"],
            ["a.tif"],
            ["x: no GeoTIFF in it (found .png files; expected NAME.tif; convert them with: for f in"],
        ),
        (["a.csv"], ["a.tif"], ["x: no GeoTIFF in it (found .csv files; expected NAME.tif)"]),
        (
            ["a.tif"],
            ["a.jpg"],
            ["found .jpg files; expected NAME.tif; .jpg files don't keep the values of labels: write"],
        ),
        (
            ["a.tif", "b.tif"],
            ["a.tif", "b_label.png"],
            ["b_label.tif or b.tif; found b_label.png; convert them with: for f in "],
        ),
        ([], ["a.tif"], ["x: no GeoTIFF in it (the folder is empty"]),
        (
            ["a.tif", "b.tif", "c.tif", "d.tif"],
            ["a_mask.tif", "b_mask.tif", "c_mask.tif", "d_mask.tif"],
            [
                "y: no label has the name of an image (NAME.tif needs NAME_label.tif: "
                "x/ has a.tif, b.tif, c.tif, 1 more;"
            ],
        ),
    ],
)
def test_what_has_no_partner_is_named(tmp_path: Path, x: list[str], y: list[str], expected: list[str]) -> None:
    touch(tmp_path / "train/x", *x)
    touch(tmp_path / "train/y", *y)
    found = find_pairs(tmp_path, "train").problems
    assert len(found) == len(expected)
    for line, part in zip(found, expected, strict=True):
        assert part in line


def test_a_sound_pair_beside_a_broken_one_is_found(tmp_path: Path) -> None:
    touch(tmp_path / "train/x", "a.tif", "b.tif")
    touch(tmp_path / "train/y", "b_label.tif")
    found = find_pairs(tmp_path, "train")
    assert [pair.name for pair in found.pairs] == ["b"]
    assert len(found.problems) == 1


@pytest.mark.parametrize(
    ("there", "missing", "has"),
    [
        ("train/x/a.tif", "val", "found train"),
        ("val/x/a.tif", "val/y", "found x"),
        ("val/a.tif", "val/x", "no folders"),
    ],
)
def test_a_missing_folder_is_named_with_what_is_there_instead(
    tmp_path: Path, there: str, missing: str, has: str
) -> None:
    touch((tmp_path / there).parent, Path(there).name)
    assert f"{tmp_path / missing}: no such folder" in problems(tmp_path, "val")
    assert has in problems(tmp_path, "val")


def test_a_folder_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "train/x", "a.tif")
    touch(tmp_path / "train/y", "a.tif")

    def refuse(self: Path) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert problems(tmp_path) == f"{tmp_path}/train/x: can't be read: Permission denied (give yourself access to it)"


def test_links_are_followed(tmp_path: Path) -> None:
    pair = paired(tmp_path, IMAGE, LABEL)
    real = pair.image.rename(tmp_path / "elsewhere.tif")
    pair.image.symlink_to(real)
    (scene,), found = read_scenes(find_pairs(tmp_path, "train").pairs)
    assert found == []
    assert (scene.height, scene.width) == (8, 9)


def test_every_file_that_cannot_be_read_is_named_at_once(tmp_path: Path) -> None:
    for number in range(30):
        write_raster(tmp_path / f"train/x/{number}.tif", IMAGE)
        write_raster(tmp_path / f"train/y/{number}.tif", LABEL)
    bad = [tmp_path / f"train/x/{number}.tif" for number in range(25)] + [tmp_path / "train/y/3.tif"]
    for number, path in enumerate(bad):
        path.write_bytes([b"", b"hello world\n", bad[-1].read_bytes()[:100]][number % 3])
    scenes, found = read_scenes(find_pairs(tmp_path, "train").pairs)
    assert len(scenes) == 5
    assert {line.split(": ")[0] for line in found} == {str(path) for path in bad}
    assert all("can't be read as a GeoTIFF: " in line and "\n" not in line for line in found)
    assert all(line.count(str(tmp_path)) == 1 for line in found)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    pair = paired(tmp_path, IMAGE, LABEL)
    pair.image.chmod(0)
    assert "a.tif: can't be read as a GeoTIFF" in read_scenes([pair])[1][0]


def test_numbers_must_be_real(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", np.zeros((3, 8, 9), np.complex64))
    with pytest.raises(UserError, match=r"a\.tif: bands of type complex64 \(all must be of one real type\)"):
        read_header(path)


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        (np.zeros((8, 8), np.uint8), "a.tif: is 8x8 pixels, its image is 9x8"),
        (np.zeros((3, 8, 9), np.uint8), "a.tif: has 3 bands (a label has one"),
    ],
)
def test_a_label_must_fit_its_image(tmp_path: Path, label: np.ndarray, expected: str) -> None:
    scenes, found = read_scenes([paired(tmp_path, IMAGE, label)])
    assert scenes == []
    assert expected in found[0]


def test_what_says_that_pixels_are_valid(tmp_path: Path) -> None:
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        inside = write_raster(tmp_path / "inside.tif", IMAGE)
        with rasterio.open(inside, "r+") as file:
            file.write_mask(np.ones((8, 9), bool))
    beside = write_raster(tmp_path / "beside.tif", IMAGE)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(beside, "r+") as file:
        file.write_mask(np.ones((8, 9), bool))
    assert beside.with_name("beside.tif.msk").exists()
    plain = write_raster(tmp_path / "plain.tif", IMAGE)
    alpha = write_raster(tmp_path / "alpha.tif", np.zeros((4, 8, 9), np.uint8), photometric="rgb", alpha="yes")
    nodata = write_raster(tmp_path / "nodata.tif", IMAGE, nodata=7)
    said = {path.stem: read_header(path) for path in (inside, beside, plain, alpha, nodata)}
    assert {name: (h.masked, h.alpha, h.nodata[0]) for name, h in said.items()} == {
        "inside": (True, (), None),
        "beside": (True, (), None),
        "plain": (False, (), None),
        "alpha": (False, (4,), None),
        "nodata": (False, (), 7.0),
    }


def test_bands_are_all_but_alpha_or_those_asked_for() -> None:
    assert choose_bands(scene(), None, 3) == (1, 2, 3)
    assert choose_bands(scene(count=4, alpha=(4,)), None, 3) == (1, 2, 3)
    assert choose_bands(scene(count=4, alpha=(1,)), None, 3) == (2, 3, 4)
    assert choose_bands(scene(count=8), [5, 3, 2], 3) == (5, 3, 2)
    assert choose_bands(scene(count=4, alpha=(4,)), [1, 2, 3, 4], 4) == (1, 2, 3, 4)


@pytest.mark.parametrize(
    ("changes", "bands", "num_bands", "expected"),
    [
        ({"count": 5}, None, 3, r"a.tif: has 5 bands, num_bands is 3 \(choose with .*bands.* or set num_bands: 5\)"),
        ({"count": 1}, None, 3, r"a.tif: has 1 bands, num_bands is 3 \(set num_bands: 1\)"),
        ({"count": 4, "alpha": (4,)}, None, 5, r"has 3 bands besides alpha, num_bands is 5"),
        ({"count": 4, "alpha": (4,)}, None, 4, r"band 4 is marked as alpha.*data_module.bands: \[1, 2, 3, 4\]"),
        ({"count": 3}, [1, 2, 9], 3, r"has 3 bands, data_module.bands asks for band 9 \(allowed: 1 to 3\)"),
    ],
)
def test_other_bands_than_the_network_has(
    changes: dict[str, object], bands: list[int] | None, num_bands: int, expected: str
) -> None:
    with pytest.raises(UserError, match=expected):
        choose_bands(scene(**changes), bands, num_bands)


@pytest.mark.parametrize("turn", [0, 30])
def test_how_far_a_label_lies_off(tmp_path: Path, turn: float) -> None:
    grid = Affine.translation(5e5, 5.8e6) @ Affine.rotation(turn) @ Affine.scale(0.1, -0.1)
    image = write_raster(tmp_path / "x.tif", IMAGE, transform=grid)

    def off(transform: Affine, **profile: object) -> float:
        label = write_raster(tmp_path / "y.tif", LABEL, transform=transform, **profile)
        (scene,), _ = read_scenes([Pair(image, label)])
        return misplaced(scene)

    assert off(grid) == pytest.approx(0, abs=1e-4)
    assert off(grid @ Affine.translation(3, 4)) == pytest.approx(4, abs=1e-4)
    # Pixels of twice the side: the far corner of 9 columns is 9 columns off.
    assert off(grid @ Affine.scale(2)) == pytest.approx(9, abs=1e-4)


def test_a_label_without_georeference_lies_where_its_image_does(tmp_path: Path) -> None:
    pair = paired(tmp_path, IMAGE, LABEL)
    with rasterio.open(pair.label, "w", driver="GTiff", height=8, width=9, count=1, dtype="uint8") as file:
        file.write(LABEL[None])
    (scene,), _ = read_scenes([pair])
    assert scene.label.transform.is_identity
    assert misplaced(scene) == 0


def test_variables_in_the_path_of_a_data_set_are_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kelp").mkdir()
    monkeypatch.setenv("DATA", str(tmp_path))
    assert data_dir("$DATA/kelp") == tmp_path / "kelp"
    monkeypatch.delenv("DATA")
    with pytest.raises(UserError, match=r"data_module.data_dir: \$DATA/kelp: the environment variable DATA is not set"):
        data_dir("$DATA/kelp")
