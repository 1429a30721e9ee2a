"""Content of the tables of a data set: settings and images."""

import os
from collections.abc import Sequence
from pathlib import Path

from inference.common.areas import ground_sample_distance
from train.data.image_digest import image_bytes
from train.data.prepared import Settings, Source
from train.preparation.config import PrepareConfig
from train.preparation.sources import SourceFiles
from train.preparation.splits import BlockPlan


def settings_table(config: PrepareConfig, plan: BlockPlan) -> Settings:
    """Return the settings of a data set."""
    return Settings(
        class_names=tuple(config.class_names),
        tile_size=config.tile_size,
        guard=plan.guard,
        guard_pixels=plan.guard_pixels,
        by=config.split.by,
        folds=config.split.folds,
        seed=config.split.seed,
    )


def source_table(sources: Sequence[SourceFiles], digests: Sequence[str], target: Path) -> dict[str, Source]:
    """Return the images of a data set, by name.

    Args:
        sources: Images and their files.
        digests: SHA-256 of each, see `image_digest`.
        target: Folder of the data set.
    """
    found = {}
    for source, digest in zip(sources, digests, strict=True):
        header = source.image
        authority = None if header.crs is None else header.crs.to_authority()
        found[source.name] = Source(
            name=source.name,
            image=_relative(source.image_path, target),
            site=source.site,
            date=source.date,
            width=header.width,
            height=header.height,
            bands=header.count,
            dtype=header.dtype,
            crs=None if header.crs is None else ":".join(authority) if authority else str(header.crs.to_wkt()),
            gsd=ground_sample_distance(header.crs, header.transform, header.height, header.width),
            bytes=image_bytes(source.image_path),
            sha256=digest,
        )
    return found


def _relative(image: Path | str, folder: Path) -> str:
    """Return the path of an image relative to a folder where possible; an address as it is."""
    if isinstance(image, str):
        return image
    try:
        return Path(os.path.relpath(image.resolve(), folder.resolve())).as_posix()
    except ValueError:  # on another drive
        return image.resolve().as_posix()
