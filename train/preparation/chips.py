"""Chips of a prepared data set: a copy of its selected blocks as folders of images and labels."""

from pathlib import Path

from inference.common.errors import UserError
from inference.common.progress import progress
from inference.common.raster import GDAL_ERRORS, open_raster
from inference.common.targets import make_folder
from train.configs.data import SPLITS
from train.data.chip import CHIP, write_chip
from train.data.pairs import Scene
from train.data.prepared import PreparedSet
from train.data.prepared_scenes import prepared_scenes
from train.data.read_prepared import prepared_splits


def write_chips(prepared: PreparedSet, folder: Path, overwrite: bool = False) -> int:
    """Write the selected blocks as `FOLDER/{train,val,test}/{x,y}/`, for other tools and for moving.

    Training on them is the same as on the prepared data set. A chip whose block isn't selected any more is removed.

    Args:
        prepared: The data set.
        folder: Where to write; made if it doesn't exist.
        overwrite: True to replace files of the same names that are no chips.

    Returns:
        Number of chips.

    Raises:
        UserError: An image is missing or has changed, or the folder has other files; nothing is written then.
    """
    splits, problems = prepared_scenes(prepared, prepared_splits(prepared, None))
    if problems:
        raise UserError("\n".join(problems))
    every = [(split, scene) for split, found in splits.items() for scene in found]
    wanted = {path for split, scene in every for path in _paths(folder, split, scene)}
    found = [path for split in SPLITS for kind in "xy" for path in sorted((folder / split / kind).glob("*"))]
    foreign = [path for path in found if not _is_chip(path) and not (overwrite and path in wanted)]
    if foreign:
        more = f" and {len(foreign) - 1} more files" if len(foreign) > 1 else ""
        raise UserError(
            f"--chips: {foreign[0]}{more}: no chip of a prepared data set (choose another folder, or take it out)"
        )
    for split in splits:
        for kind in "xy":
            make_folder(folder / split / kind, "--chips")
    for path in found:
        if path not in wanted:
            path.unlink()
    for split, scene in progress(every, len(every), "writing chips"):
        write_chip(scene, *_paths(folder, split, scene))
    return len(every)


def _is_chip(path: Path) -> bool:
    """Return True for a chip that was written from a prepared data set."""
    try:
        with open_raster(path) as file:
            return CHIP in file.tags()
    except GDAL_ERRORS:
        return False


def _paths(folder: Path, split: str, scene: Scene) -> tuple[Path, Path]:
    """Return the image and the label of a chip."""
    return folder / split / "x" / f"{scene.name}.tif", folder / split / "y" / f"{scene.name}_label.tif"
