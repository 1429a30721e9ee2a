"""The model card of a training run."""

import hashlib
from collections.abc import Mapping, Sequence
from statistics import median

from inference.card import ModelCard, TrainingData
from inference.common.areas import ground_sample_distance as pixel_side
from inference.common.paths import user_path
from train.configs.config import Config
from train.data.pairs import Scene
from train.datamodule import DataModule
from train.run.provenance import versions

_GSD_SCENES = 200
_SAMPLE = 2**16  # of each of three places in an image file, bytes


def model_card(
    config: Config, data: DataModule, scores: Mapping[str, float] | None = None, created: str | None = None
) -> ModelCard:
    """Build the model card of a run.

    Args:
        config: Resolved config.
        data: Prepared data module.
        scores: Scores by name, such as `val/dice`.
        created: Time at which the run ended, ISO 8601.
    """
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
    """Return the name of a data set: the name of its folder, however the path is written, or of the demo."""
    return (
        data_dir.rpartition("://")[2]
        if "://" in data_dir
        else user_path(data_dir, "data_module.data_dir").resolve().name
    )


def fingerprint(scenes: Sequence[Scene]) -> str:
    """Return a SHA-256 that identifies a data set: names, sizes, grids, label files, and parts of the image files.

    Label files are hashed completely, because a label that is corrected in place keeps its name and often its size.
    Images are large and seldom corrected: 64 KiB at the beginning, the middle and the end of each file are hashed.
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
    """Return the median side of a pixel on the ground in metres; None where no scene is georeferenced."""
    chosen = scenes[:: max(1, len(scenes) // _GSD_SCENES)]
    images = [scene.image for scene in chosen]
    found = [pixel_side(each.crs, each.transform, each.height, each.width) for each in images]
    sides = [side for side in found if side is not None]
    return round(median(sides), 6) or None if sides else None
