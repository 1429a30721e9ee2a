"""The model card: the one thing that travels with a model, and that nobody retypes.

It says what to feed the model, what comes out, what it was trained on and how well it did. Training writes it, the
exporter embeds it, inference and evaluation obey it.
"""

import json
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class TrainingData(BaseModel):
    """Which data a model was trained on."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    source: str
    """Name of the data set: the last part of its folder's path."""
    fingerprint: str
    """SHA-256 over the names, sizes and grids of all files of the train split."""
    images: Annotated[int, Field(ge=0)]
    """Training images."""
    pixels: Annotated[int, Field(ge=0)]
    """Pixels of all training images."""


class ModelCard(BaseModel):
    """What a model needs and gives."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    version: Literal[1] = 1
    """Version of this format."""
    name: str
    """Name of the model."""
    task: str
    """What it maps, such as kelp_presence_rgb."""
    bands: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)]
    """Bands of the image, counted from 1, in the network's order."""
    dtype: str
    """Data type of the images it was trained on, such as uint8."""
    tile_size: Annotated[int, Field(ge=1)]
    """Side of the windows it was trained on, pixels."""
    mean: list[float]
    """Of each band, after division by max_pixel_value."""
    std: list[Annotated[float, Field(gt=0)]]
    """Of each band, after division by max_pixel_value."""
    max_pixel_value: Annotated[float, Field(gt=0)]
    """What pixels are divided by first."""
    fill_value: float = 0.0
    """What the network saw at invalid pixels, in units of the file."""
    class_names: Annotated[list[str], Field(min_length=2)]
    """A name for each value of the map."""
    background_index: Annotated[int, Field(ge=0)] | None = 0
    """The class that is background; null where there is none."""
    activation: Literal["sigmoid", "softmax"]
    """What turns logits into probabilities: sigmoid for one channel (background and target), softmax for several."""
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Probability from which a pixel is target (sigmoid)."""
    ground_sample_distance: Annotated[float, Field(gt=0)] | None = None
    """Side of a pixel on the ground, metres: the median of the training images; null where none is georeferenced."""
    ignore_index: int
    """Label value that counted nowhere."""
    training_data: TrainingData | None = None
    """What it was trained on."""
    scores: dict[str, float] = Field(default_factory=dict)
    """How well it did, by name: val/dice, test/iou and so on."""
    created: str | None = None
    """When training ended: ISO 8601, UTC."""
    software: dict[str, str] = Field(default_factory=dict)
    """Versions of what made it."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if not len(self.bands) == len(self.mean) == len(self.std):
            raise ValueError(
                f"bands, mean and std must be equally long: {len(self.bands)}, {len(self.mean)}, {len(self.std)}"
            )
        if self.activation == "sigmoid" and len(self.class_names) != 2:
            raise ValueError(f"a sigmoid model has two classes, found {len(self.class_names)} names")
        if self.background_index is not None and self.background_index >= len(self.class_names):
            raise ValueError(f"background_index {self.background_index} is none of {len(self.class_names)} classes")
        return self

    @property
    def channels(self) -> int:
        """Channels of the model's output."""
        return 1 if self.activation == "sigmoid" else len(self.class_names)

    def dumps(self) -> str:
        """The card as JSON text."""
        return json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False)

    @classmethod
    def read(cls, path: str | Path) -> "ModelCard":
        """Reads a card from a JSON file; raises `OSError` or Pydantic's `ValidationError` (a `ValueError`)."""
        return cls.model_validate_json(Path(path).read_text(encoding="utf-8"))
