"""What the sections of a config are made of: strict mappings, and the kinds of values that several of them use."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError


class Section(BaseModel):
    """A mapping of the YAML: no key it doesn't know, no value silently converted, no number that isn't one."""

    # Built as a part of Config, and not once more for itself: that is a tenth of the time that a typo costs.
    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        validate_default=False,
        use_attribute_docstrings=True,
        defer_build=True,
    )


def mistake(message: str) -> PydanticCustomError:
    """A problem with a value, in words of our own (Pydantic would take braces in a message for its own)."""
    return PydanticCustomError("mistake", "{message}", {"message": message})


Text = Annotated[str, Field(min_length=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
# Bounds above, so that a slip of the finger is not a number that no array, seed or file can hold.
Positive = Annotated[int, Field(ge=1, le=1_000_000)]
BatchSize = Positive | Literal["auto"]
Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
Classes = Annotated[int, Field(ge=1, le=255)]  # labels are bytes, and 255 is kept for what is ignored
TileSize = Annotated[int, Field(ge=16, le=65_536)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Label = Annotated[int, Field(ge=0, le=255)]
# 1.0 is all batches, 1 is one batch: the type carries the meaning, as in Lightning.
Batches = Annotated[int, Field(ge=0, le=1_000_000_000)] | Fraction
SomeBatches = Count | Annotated[float, Field(gt=0, le=1)]
