"""The model card of a training run."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import numpy as np
from pyproj import CRS, Geod, Transformer

from inference.card import ModelCard, TrainingData
from train.configs.config import Config
from train.datamodule import DataModule, background_index, class_names
from train.run_folder import versions
from train.scenes import Header, Scene

_GSD_SCENES = 200


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
        class_names=class_names(config),
        background_index=background_index(config),
        activation="sigmoid" if config.num_classes == 1 else "softmax",
        ground_sample_distance=ground_sample_distance(data.scenes["train"]),
        ignore_index=config.ignore_index,
        training_data=TrainingData(
            source=Path(config.data_module.data_dir.rstrip("/")).name,
            fingerprint=fingerprint(data.scenes["train"]),
            images=len(data.scenes["train"]),
            pixels=sum(s.height * s.width for s in data.scenes["train"]),
        ),
        scores=dict(scores or {}),
        created=created,
        software=versions(),
    )


def fingerprint(scenes: Sequence[Scene]) -> str:
    """SHA-256 over the names, file sizes and grids of these scenes: tells data sets apart without reading pixels."""
    digest = hashlib.sha256()
    for scene in sorted(scenes, key=lambda s: s.pair.image.name):
        for path, header in ((scene.pair.image, scene.image), (scene.pair.label, scene.label)):
            what = (path.name, path.stat().st_size, header.height, header.width, header.count, header.dtype)
            digest.update(repr(what).encode())
            digest.update(repr(tuple(header.transform)).encode())
    return digest.hexdigest()


def ground_sample_distance(scenes: Sequence[Scene]) -> float | None:
    """Median side of a pixel on the ground, metres; None where no scene is georeferenced."""
    chosen = scenes[:: max(1, len(scenes) // _GSD_SCENES)]
    sides = [side for scene in chosen if (side := _pixel_side(scene.image)) is not None]
    return round(median(sides), 6) if sides else None


def _pixel_side(header: Header) -> float | None:
    """Side of the square with the area of the pixel at an image's centre, on the ellipsoid, metres.

    A projection's metres are not the ground's: EPSG:3857 overstates lengths 1.6 times at 52 degrees north.
    """
    if header.crs is None or header.transform.is_identity:
        return None
    row, col = header.height / 2, header.width / 2
    corners = [header.transform @ (c, r) for c, r in ((col, row), (col + 1, row), (col + 1, row + 1), (col, row + 1))]
    try:
        to_degrees = Transformer.from_crs(CRS.from_wkt(header.crs.to_wkt()), CRS.from_epsg(4326), always_xy=True)
        lons, lats = to_degrees.transform(*zip(*corners, strict=True))
    except Exception:  # a CRS that PROJ can't place on the Earth, such as an engineering one
        return None
    if not np.isfinite([*lons, *lats]).all():
        return None
    area, _ = Geod(ellps="WGS84").polygon_area_perimeter(lons, lats)
    return float(np.sqrt(abs(area)))
