"""The model card of a training run."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import numpy as np
from pyproj import Geod

from inference.card import ModelCard, TrainingData
from inference.common.raster import Header
from train.configs.config import Config
from train.data.overlap import transformer
from train.data.pairs import Scene
from train.datamodule import DataModule
from train.run.folder import versions

_GSD_SCENES = 200
_SAMPLE = 2**16  # bytes


def model_card(
    config: Config, data: DataModule, scores: Mapping[str, float] | None = None, created: str | None = None
) -> ModelCard:
    """The card of a model that this config trains on these (prepared) data."""
    assert data.normalization is not None
    return ModelCard(
        name=config.logging.name or "model",
        task=config.logging.project,
        bands=list(data.bands),
        dtype=data.dtype,
        tile_size=config.tile_size,
        mean=list(data.normalization.mean),
        std=list(data.normalization.std),
        max_pixel_value=data.normalization.max_pixel_value,
        fill_value=config.data_module.fill_value,
        class_names=config.class_names,
        background_index=config.background_index,
        activation="sigmoid" if config.num_classes == 1 else "softmax",
        ground_sample_distance=ground_sample_distance(data.scenes["train"]),
        ignore_index=config.ignore_index,
        label_map=config.data_module.label_map or {},
        label_nodata=config.data_module.label_nodata,
        training_data=TrainingData(
            source=_source(config.data_module.data_dir),
            fingerprint=fingerprint(data.scenes["train"]),
            images=len(data.scenes["train"]),
            pixels=sum(s.height * s.width for s in data.scenes["train"]),
        ),
        scores=dict(scores or {}),
        created=created,
        software=versions(),
    )


def _source(data_dir: str) -> str:
    """The name of a data set: of its folder, whatever way leads there (such as . or ~/data/), or of the demo."""
    return data_dir.rpartition("://")[2] if "://" in data_dir else Path(data_dir).expanduser().resolve().name


def fingerprint(scenes: Sequence[Scene]) -> str:
    """SHA-256 that tells data sets apart: over names, sizes, grids, all bytes of the labels and some of the images.

    A label corrected in place is another data set, though neither its name nor its size may tell. Images are corrected
    seldom and are large: of each, the beginning, the middle and the end count.
    """
    digest = hashlib.sha256()
    for scene in sorted(scenes, key=lambda s: s.pair.image.name):
        for path, header in ((scene.pair.image, scene.image), (scene.pair.label, scene.label)):
            size = path.stat().st_size
            crs = None if header.gcps else header.crs
            digest.update(repr((path.name, size, header.height, header.width, header.count, header.dtype)).encode())
            digest.update(repr((crs and crs.to_wkt(), tuple(header.transform))).encode())
            with path.open("rb") as file:
                if path == scene.pair.label:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
                    continue
                for start in (0, (size - _SAMPLE) // 2, size - _SAMPLE):
                    file.seek(max(0, start))
                    digest.update(file.read(_SAMPLE))
    return digest.hexdigest()


def ground_sample_distance(scenes: Sequence[Scene]) -> float | None:
    """Median side of a pixel on the ground, metres; None where no scene is georeferenced."""
    chosen = scenes[:: max(1, len(scenes) // _GSD_SCENES)]
    sides = [side for scene in chosen if (side := _pixel_side(scene.image)) is not None]
    return round(median(sides), 6) or None if sides else None


def _pixel_side(header: Header) -> float | None:
    """Side of the square with the area of a pixel in an image's middle, on the ellipsoid, metres.

    A projection's metres are not the ground's: EPSG:3857 overstates lengths 1.6 times at 52 degrees north.
    """
    if header.crs is None or header.transform.is_identity:
        return None
    # A hundred pixels square: the area of a single one of a centimetre is lost in the rounding.
    row, col, side = header.height / 2, header.width / 2, 100
    square = [(col, row), (col + side, row), (col + side, row + side), (col, row + side)]
    try:
        corners = transformer(header.crs, None).transform(*zip(*(header.transform @ c for c in square), strict=True))
    except Exception:  # a CRS that PROJ can't place on the Earth, such as an engineering one
        return None
    if not np.isfinite(corners).all():
        return None
    area, _ = Geod(ellps="WGS84").polygon_area_perimeter(*corners)
    return float(np.sqrt(abs(area))) / side
