"""Section `data_module`: the data set, and how its pixels reach the network."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from train.configs.fields import (
    BatchSize,
    Classes,
    Count,
    Fraction,
    Index,
    Label,
    Positive,
    PositiveNumber,
    Section,
    Seed,
    Text,
    TileSize,
    mistake,
)
from train.configs.wording import shown

DEMO = "demo://kelp"
SPLITS = ("train", "val", "test")
"""Names of the splits."""
SPECIES_LABEL_TRANSFORM = {0: 2, 1: 0, 2: 1}

_SCHEMES = {"s3", "gs", "az", "oss", "swift", "http", "https"}


class DataModuleConfig(Section):
    """The data set, and how its pixels reach the network."""

    data_dir: Text
    """Folder that train.prepare wrote, or with {train,val,test}/{x,y}/, here or at s3://, https://, /vsi...; or demo://kelp."""
    fold: Positive | None = None
    """Fold of a prepared data set that is the val split, from 1; the others are the train split."""
    num_classes: Classes | None = None
    """Shared key."""
    num_bands: Positive | None = None
    """Shared key."""
    tile_size: TileSize | None = None
    """Shared key."""
    batch_size: BatchSize | None = None
    """Shared key."""
    seed: Seed | None = None
    """Shared key."""
    bands: Annotated[list[Positive], Field(min_length=1)] | None = None
    """Bands to read, counted from 1, in the network's order; default: all but an alpha band."""
    num_workers: Annotated[int, Field(ge=0, le=1024)] | None = None
    """Processes that read and augment; default: cores - 1, at most 8."""
    pin_memory: bool = True
    """Page-locked batches; only with CUDA."""
    persistent_workers: bool = True
    """Keep the workers between epochs; only with workers."""
    mean: Annotated[list[float], Field(min_length=1)] | Literal["auto"] | None = None
    """Mean of each band, after division by max_pixel_value; auto: measured on the train split. Default: ImageNet's for three uint8 bands, else auto."""  # noqa: E501
    std: Annotated[list[PositiveNumber], Field(min_length=1)] | Literal["auto"] | None = None
    """Standard deviation of each band, like mean."""
    max_pixel_value: PositiveNumber | Literal["auto"] | None = None
    """Divisor of the pixels; auto: the data type's largest value. Default: auto for integers, 1 for floats."""
    nodata: float | Literal["none", "auto"] | None = None
    """Value of invalid pixels in all images, in place of their files'; none: no value; auto: found in each file that declares none. Default: the file's."""  # noqa: E501
    fill_value: float = 0
    """Value of invalid pixels before normalisation, in units of the file."""
    fill_mask: int | None = None
    """Key of the earlier tool; accepted, not obeyed: pixels without a label are ignored."""
    label_map: dict[int, Label] | None = None
    """Label value in the file: class index (or ignore_index). Values left out stay."""
    label_nodata: int | Literal["none"] | None = None
    """Label value that means no label; none: no value does. Default: the file's nodata, unless it is a class."""
    class_names: list[Text] | None = None
    """A name for each class, background first where there is one."""
    background_index: Index | Literal["none"] | None = None
    """The class that is background, or none. Default: 0; none under species_label_transform."""
    samples_per_epoch: Count | None = None
    """Training windows in an epoch; default: as many as cover the train split once."""
    foreground_share: Fraction | None = None
    """Share of training windows that are placed on a pixel of a class that isn't background; default: none is."""
    augmentation: Literal["none", "light", "drone", "strong"] | dict[str, Any] = "drone"
    """Strength of the augmentation of training windows; or a pipeline of Albumentations as A.to_dict writes it."""
    preview_augmentations: bool = False
    """Draw training windows as the network sees them, before training begins: previews/augmentations.png."""

    @field_validator("data_dir")
    @classmethod
    def _somewhere(cls, value: str) -> str:
        scheme, separator, _ = value.partition("://")
        if not value.strip() or (separator and value != DEMO and scheme.lower() not in _SCHEMES):
            raise mistake(
                f"{shown(value)} is no folder and no demo data set (allowed: a folder, {DEMO}, or an address that "
                f"begins with s3://, gs://, az://, https:// or /vsi)"
            )
        return value

    @field_validator("class_names")
    @classmethod
    def _readable(cls, value: list[str] | None) -> list[str] | None:
        for name in value or []:
            if not name.strip() or not name.isprintable():
                raise mistake(f"{shown(name)} can't be the name of a class (allowed: text on one line)")
        return value
