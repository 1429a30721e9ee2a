"""The model card of a training run."""

from collections.abc import Mapping, Sequence
from statistics import median

from inference.card import ModelCard, TrainingData
from inference.common.areas import ground_sample_distance as pixel_side
from inference.common.paths import is_address, user_path
from train.configs.config import Config
from train.data.fingerprint import fingerprint
from train.data.labelled_images import LabelledImages
from train.data.pairs import Scene
from train.run.provenance import versions

_GSD_SCENES = 200


def model_card(
    config: Config,
    data: LabelledImages,
    scores: Mapping[str, float] | None = None,
    created: str | None = None,
    changes: Sequence[str] = (),
) -> ModelCard:
    """Build the model card of a run.

    Args:
        config: Resolved config.
        data: Prepared images.
        scores: Scores by name, such as `val/dice`.
        created: Time at which the run ended, ISO 8601.
        changes: Changes of the data during the run, one line each.
    """
    assert data.normalization is not None
    return ModelCard(
        name=config.logging.name or "model",
        task=config.logging.project,
        bands=list(data.bands),
        band_colours=data.band_colours,
        band_descriptions=data.band_descriptions,
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
        nodata=data.nodata,
        training_data=TrainingData(
            source=data_source(config.data_module.data_dir),
            fingerprint=fingerprint(data.scenes["train"]),
            images=len(data.scenes["train"]),
            pixels=sum(s.height * s.width for s in data.scenes["train"]),
            changes=list(changes),
        ),
        scores=dict(scores or {}),
        created=created,
        software=versions(),
    )


def data_source(data_dir: str) -> str:
    """Return the name of a data set: the name of its folder, however the path is written, or of the demo."""
    if is_address(data_dir):
        return data_dir.rstrip("/").rpartition("/")[2]
    return user_path(data_dir, "data_module.data_dir").resolve().name


def ground_sample_distance(scenes: Sequence[Scene]) -> float | None:
    """Return the median side of a pixel on the ground in metres; None where no scene is georeferenced."""
    chosen = scenes[:: max(1, len(scenes) // _GSD_SCENES)]
    images = [scene.image for scene in chosen]
    found = [pixel_side(each.crs, each.transform, each.height, each.width) for each in images]
    sides = [side for side in found if side is not None]
    return round(median(sides), 6) or None if sides else None
