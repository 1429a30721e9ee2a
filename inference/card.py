"""The model card: the one thing that travels with a model, and that nobody retypes.

It says what to feed the model, what comes out, what it was trained on and how well it did. Training writes it, the
exporter embeds it, inference and evaluation obey it.
"""

import json
import sys
from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

VERSION: Literal[1] = 1
METADATA_KEY = "model_card"
"""Where an ONNX file's metadata holds the card, as JSON."""
EXTRA_FILE = "model_card.json"
"""The file within a TorchScript archive that holds the card."""

_LARGEST = {f"{sign}int{bits}": 2 ** (bits - (not sign)) - 1 for sign in ("u", "") for bits in (8, 16, 32)}


class CardError(ValueError):
    """A card that can't be read, or that has nothing to say on what was asked; one line a problem."""


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

    version: Literal[1] = VERSION
    """Version of this format."""
    name: str
    """Name of the model."""
    task: str
    """What it maps, such as kelp_presence_rgb."""
    revision: Annotated[str, Field(pattern=r"^\d{8}(-\S+)?$")] | None = None
    """Which of all models of that name: YYYYMMDD or YYYYMMDD-variant; given when a model is converted."""
    licence: str | None = None
    """On what terms it may be used: an SPDX identifier such as MIT or CC-BY-4.0; null where nothing was said."""
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
    max_pixel_value: Annotated[float, Field(gt=0)] | Literal["auto"]
    """What pixels are divided by first; auto: the largest value of the image's own integer type, whatever that is."""
    fill_value: float = 0.0
    """What the network saw at invalid pixels, in units of the file."""
    class_names: Annotated[list[str], Field(min_length=2)]
    """A name for each value of the map."""
    background_index: Annotated[int, Field(ge=0)] | None = 0
    """The class that is background; null where there is none."""
    activation: Literal["sigmoid", "softmax"]
    """What turns logits into probabilities: sigmoid for one channel (background and target), softmax for several."""
    output: Literal["logits", "probabilities"] = "logits"
    """What comes out of the model: logits, which want the activation yet, or probabilities."""
    any_size: bool = False
    """Whether it takes other heights and widths than tile_size, and is right at them."""
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Probability above which a pixel is target (sigmoid)."""
    ground_sample_distance: Annotated[float, Field(gt=0)] | None = None
    """Side of a pixel on the ground, metres: the median of the training images; null where none is georeferenced."""
    ignore_index: int = 255
    """Label value that counted nowhere."""
    label_map: dict[int, int] = Field(default_factory=dict)
    """Value in a label file to class (or to ignore_index), where they differ; other values stay."""
    label_nodata: int | Literal["none"] | None = None
    """Value in a label file that means "no label"; none: no value does; null: the file's own nodata, unless a class."""
    nodata: float | None = None
    """Value of an image's pixels that means "nothing here" where the file itself doesn't say; null where none does."""
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

    def divisor(self, dtype: str) -> float:
        """What pixels of an image of this type, such as uint16, are divided by first.

        Raises:
            CardError: The card leaves it to the type, and the type has no largest value.
        """
        if self.max_pixel_value != "auto":
            return self.max_pixel_value
        if dtype not in _LARGEST:
            raise CardError(f"max_pixel_value: auto needs an integer type of at most 32 bits, the image is {dtype}")
        return float(_LARGEST[dtype])

    def dumps(self) -> str:
        """The card as JSON text."""
        return json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False)

    @classmethod
    def loads(cls, text: str | bytes, source: str) -> "ModelCard":
        """A card from its JSON text.

        Args:
            text: The JSON.
            source: Where it comes from; errors begin with it.

        Raises:
            CardError: It is no JSON, no card, or one of a later version of this tool.
        """
        try:
            data = json.loads(text)
        except ValueError as error:
            raise CardError(f"{source}: is no JSON ({error})") from None
        if not isinstance(data, dict):
            raise CardError(f"{source}: is no model card: found a {type(data).__name__} where an object should be")
        if isinstance(found := data.get("version"), int) and found > VERSION:
            raise CardError(
                f"{source}: is a model card of version {found}, this tool knows versions up to {VERSION} (update it)"
            )
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            lines = []
            for one in error.errors():
                at = ".".join(map(str, one["loc"]))
                lines.append(f"{source}: {at + ': ' if at else ''}{one['msg'].removeprefix('Value error, ')}")
            raise CardError("\n".join(lines)) from None


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m inference.card FILE`: prints the card of a model."""
    import argparse

    arguments = argparse.ArgumentParser(
        prog="python -m inference.card",
        description="Print the model card that a file carries, as JSON.",
        epilog="exit codes: 0 done, 2 no card there, or none that can be read",
    )
    arguments.add_argument(
        "file", metavar="FILE", help="an exported .onnx or .pt, a checkpoint .ckpt, a card .json, or a run folder"
    )
    options = arguments.parse_args(argv)
    # Under its own name, so that the errors it raises are the ones that are caught here.
    from inference import card
    from inference.model import card_files

    try:
        sys.stdout.write(card_files.read_card(options.file).dumps() + "\n")
    except card.CardError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
