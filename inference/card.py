"""Model card: the metadata that travels with a model.

It states the input that the model expects, the meaning of its output, its training data and its scores. Training writes
it, the exporter embeds it, and inference and evaluation follow it, so that no value has to be typed again.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from inference.common.documents import parse_json
from inference.common.errors import UserError
from inference.common.text import LONGEST_NAME, clean_json, clean_line, limited, quoted

VERSION: Literal[1] = 1
METADATA_KEY = "model_card"
"""Key of the card, as JSON, in the metadata of an ONNX file."""
EXTRA_FILE = "model_card.json"
"""Name of the card's file in a TorchScript archive."""

Finite = Annotated[float, Field(allow_inf_nan=False)]
_LARGEST = {f"{sign}int{bits}": 2 ** (bits - (not sign)) - 1 for sign in ("u", "") for bits in (8, 16, 32)}


class CardError(UserError, ValueError):
    """A card can't be read or lacks what is needed; the message has one line for each problem."""


class TrainingData(BaseModel):
    """Training data of a model."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    source: str
    """Name of the data set: the last part of its folder's path."""
    fingerprint: str
    """SHA-256 of the names, sizes and grids of all files in the train split."""
    images: Annotated[int, Field(ge=0)]
    """Number of training images."""
    pixels: Annotated[int, Field(ge=0)]
    """Number of pixels in all training images."""
    changes: list[str] = []
    """Changes of the data while the model was trained: a run was resumed on other files with --force."""


class ModelCard(BaseModel):
    """Metadata of a model: its input, its output, its training data and its scores."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    version: Literal[1] = VERSION
    """Version of this format."""
    name: str
    """Name of the model."""
    task: str
    """Task of the model, such as kelp_presence_rgb."""
    revision: Annotated[str, Field(pattern=r"^\d{8}(-\S+)?$")] | None = None
    """Revision of the model, YYYYMMDD or YYYYMMDD-variant; assigned when the model is converted."""
    licence: str | None = None
    """Licence of the model, an SPDX identifier such as MIT or CC-BY-4.0; null if unspecified."""
    bands: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)]
    """Bands of the image that the network takes, counted from 1, in the network's order."""
    band_colours: list[str | None] | None = None
    """Colour that each of these bands states in the training images, such as red; null where it states none. A mosaic
    that contradicts it is refused."""
    band_descriptions: list[str | None] | None = None
    """Description of each of these bands in the training images; null where there is none."""
    dtype: str
    """Data type of the training images, such as uint8."""
    tile_size: Annotated[int, Field(ge=1)]
    """Side of the training windows, pixels."""
    mean: list[Finite]
    """Mean of each band after division by max_pixel_value."""
    std: list[Annotated[Finite, Field(gt=0)]]
    """Standard deviation of each band after division by max_pixel_value."""
    normalization: Literal["standard", "min_max", "min_max_per_channel"] = "standard"
    """standard: by mean and std. min_max, min_max_per_channel: to 0..1 by the smallest and largest valid pixel of the
    mosaic, over all bands or for each; mean, std and max_pixel_value have no effect. For habitat-mapper's models."""
    max_pixel_value: Annotated[Finite, Field(gt=0)] | Literal["auto"]
    """Divisor of the pixels before normalisation; auto: the largest value of the image's integer type."""
    fill_value: Finite = 0.0
    """Value of invalid pixels in the network's input, in the file's units."""
    class_names: Annotated[list[str], Field(min_length=2)]
    """Class names; their order gives the values of the map, counted from 0."""
    background_index: Annotated[int, Field(ge=0)] | None = 0
    """Index of the background class; null if there is none."""
    activation: Literal["sigmoid", "softmax"]
    """Function from logits to probabilities: sigmoid for one channel (background and target), softmax for several."""
    output: Literal["logits", "probabilities"] = "logits"
    """Output of the model: logits, to which the activation must be applied, or probabilities."""
    presence_channels: Literal[0, 1, 2] = 0
    """Leading output channels that tell background from all other classes (1: by sigmoid, 2: by softmax); the following
    ones, one for each other class, choose among those. 0: one channel for each class. For habitat-mapper's models."""
    output_name: str | None = None
    """Name of the output that is the map, where the model has several with names; null for the first one."""
    precision: Literal["fp32", "int8"] = "fp32"
    """Precision of the weights and layers in the file; int8: 8-bit integers, calibrated on the train split."""
    int8_loss: Annotated[Finite, Field(ge=0, le=1)] | None = None
    """IoU that the masks lose through int8: 1 minus their IoU with the float model's on the val split, of the class
    that loses most; null for a float model."""
    any_size: bool = False
    """Support for heights and widths other than tile_size."""
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Probability above which a pixel is the target class (sigmoid only)."""
    ground_sample_distance: Annotated[Finite, Field(gt=0)] | None = None
    """Side of a pixel on the ground, metres: median of the training images; null if none is georeferenced."""
    ignore_index: int = 255
    """Label value of ignored pixels, which counted neither in the loss nor in a metric."""
    label_map: dict[int, int] = Field(default_factory=dict)
    """Map from values in a label file to classes (or to ignore_index); values that aren't listed stay the same."""
    label_nodata: int | Literal["none"] | None = None
    """Value of unlabelled pixels in a label file; none: no such value; null: the file's own nodata, unless a class."""
    nodata: float | None = None
    """Value of invalid pixels in an image whose file declares no nodata value; null: no such value."""
    training_data: TrainingData | None = None
    """Training data."""
    scores: dict[str, float] = Field(default_factory=dict)
    """Scores by name, such as val/dice or test/iou."""
    notes: list[str] = Field(default_factory=list)
    """Remarks on the training, such as that nothing could be validated."""
    created: str | None = None
    """Time at which training ended, ISO 8601, UTC."""
    software: dict[str, str] = Field(default_factory=dict)
    """Versions of the software that trained the model."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        try:
            self.dumps().encode()
        except UnicodeEncodeError as error:
            half = ascii(error.object[error.start])[1:-1]
            raise ValueError(f"holds {half}, half of a pair of surrogates, which is no character") from None
        if not len(self.bands) == len(self.mean) == len(self.std):
            raise ValueError(
                f"bands, mean and std must be equally long: {len(self.bands)}, {len(self.mean)}, {len(self.std)}"
            )
        for field in ("band_colours", "band_descriptions"):
            if (value := getattr(self, field)) is not None and len(value) != len(self.bands):
                raise ValueError(f"{field} has {len(value)} of {len(self.bands)} (one for each band, or null)")
        if self.activation == "sigmoid" and len(self.class_names) != 2:
            raise ValueError(f"a sigmoid model has two classes, found {len(self.class_names)} names")
        if self.background_index is not None and self.background_index >= len(self.class_names):
            raise ValueError(
                f"background_index is {self.background_index}, but there are {len(self.class_names)} classes (allowed: "
                f"0 to {len(self.class_names) - 1}, or null)"
            )
        if self.presence_channels and (
            self.background_index != 0 or self.activation != "softmax" or self.output != "logits"
        ):
            raise ValueError(
                f"presence_channels is {self.presence_channels} (allowed with background_index: 0, activation: softmax "
                "and output: logits)"
            )
        return self

    @property
    def channels(self) -> int:
        """Channels of the model's output."""
        if self.presence_channels:
            return self.presence_channels + len(self.class_names) - 1
        return 1 if self.activation == "sigmoid" else len(self.class_names)

    def divisor(self, dtype: str) -> float:
        """Return the divisor of an image's pixels.

        Args:
            dtype: Data type of the image, such as uint16.

        Raises:
            CardError: max_pixel_value is auto, and the type isn't an integer type of at most 32 bits.
        """
        if self.max_pixel_value != "auto":
            return self.max_pixel_value
        if dtype not in _LARGEST:
            raise CardError(f"max_pixel_value: auto needs an integer type of at most 32 bits, but the image is {dtype}")
        return float(_LARGEST[dtype])

    def dumps(self) -> str:
        """Return the card as JSON text.

        A float model's card leaves the fields of int8 out, so that earlier versions, which don't know them, read it.
        """
        unneeded = {"precision", "int8_loss"} if self.precision == "fp32" else None
        return json.dumps(self.model_dump(mode="json", exclude=unneeded), indent=2, ensure_ascii=False)

    @classmethod
    def loads(cls, text: str | bytes, source: str) -> "ModelCard":
        """Parse a card.

        Args:
            text: JSON text.
            source: Name of the file or object that it was read from; error messages begin with it.

        Raises:
            CardError: The text isn't valid JSON, isn't a valid card, or is a card of a later format version.
        """
        try:
            data = parse_json(text, source)
        except UserError as error:
            raise CardError(str(error)) from None
        return cls.parse(data, source)

    @classmethod
    def parse(cls, data: object, source: str) -> "ModelCard":
        """Validate the parsed JSON of a card; arguments and exceptions as for `loads`."""
        if not isinstance(data, dict):
            raise CardError(f"{source}: isn't a model card: found a {type(data).__name__} (allowed: a JSON object)")
        if isinstance(found := data.get("version"), int) and found > VERSION:
            shown = clean_line(str(found), 20)
            raise CardError(
                f"{source}: is a model card of version {shown} (allowed: up to {VERSION}; update hakai-ml-train)"
            )
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise CardError("\n".join(limited(validation_lines(error, source)))) from None


def validation_lines(error: ValidationError, source: str) -> list[str]:
    """Return a line for each problem that Pydantic found: source, key, what is wrong.

    Args:
        error: Errors of a card or of a configuration.
        source: Name of the file that it was read from; the lines begin with it.
    """
    lines = []
    for one in error.errors(include_url=False):
        at = clean_line(".".join(map(str, one["loc"])), LONGEST_NAME)
        lines.append(f"{source}: {at + ': ' if at else ''}{_problem(one)}")
    return lines


def _problem(error: Any) -> str:
    """Return what is wrong with one value, from an entry of Pydantic's `errors()`."""
    if error["type"] == "extra_forbidden":
        return "no field of a card (allowed: python -m inference.card --schema lists them)"
    if error["type"] == "missing":
        return "is missing"
    message: str = error["msg"].removeprefix("Value error, ")
    found = error.get("input")
    return message if isinstance(found, dict | list) else f"{message}, found {quoted(found)}"


EXAMPLES = """\
examples:
  python -m inference.card kelp.onnx                            print the card inside a model
  python -m inference.card --template kelp.onnx > kelp.json     card to fill in, for a model of another tool
  python -m inference.card kelp.json                            check it
  python -m inference.card --schema                             JSON Schema of all fields, for editors
"""


def parser() -> argparse.ArgumentParser:
    """Build the argument parser."""
    from inference.common.cli import Parser

    arguments = Parser(
        prog="python -m inference.card",
        description="Print the model card of a file, as JSON; or the schema or a template of model cards.",
        examples=EXAMPLES,
    )
    choice = arguments.add_mutually_exclusive_group(required=True)
    choice.add_argument(
        "file",
        nargs="?",
        metavar="FILE",
        help="an exported .onnx or .pt, a checkpoint .ckpt, a card .json, or a run folder",
    )
    choice.add_argument("--schema", action="store_true", help="print the JSON Schema of a card: fields and meanings")
    choice.add_argument(
        "--template",
        nargs="?",
        const="",
        metavar="MODEL",
        help="print a card to fill in; what the .onnx or .pt file tells is filled in",
    )
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Print a card, the schema of cards, or a template: the command `python -m inference.card`."""
    from inference.common.cli import exit_code

    def run() -> int:
        options = parser().parse_args(argv)
        if options.schema:
            found: dict[str, Any] = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
            found |= ModelCard.model_json_schema()
        elif options.template is not None:
            from inference.model.template import card_template

            found = card_template(Path(options.template) if options.template else None)
        else:
            from inference.model.card_files import read_card

            found = read_card(options.file).model_dump(mode="json")
        sys.stdout.write(clean_json(json.dumps(found, indent=2, ensure_ascii=False)) + "\n")
        return 0

    return exit_code(run)


if __name__ == "__main__":
    from inference.common.cli import run_as_script

    run_as_script(main)
