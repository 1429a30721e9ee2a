"""Building blocks of the config's sections: strict mappings, and the types of values that several of them use.

The options of a loss are annotated with these types too (`train/configs/registries/losses.py` looks them up by name).
"""

import ast
import inspect
import sys
from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError


class Section(BaseModel):
    """A mapping of the YAML that refuses unknown keys, converts no value silently, and takes finite numbers only."""

    # Built once, as a part of Config: building each section for itself too would cost a tenth of a typo's time.
    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        validate_default=False,
        defer_build=True,
    )

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Take the text below a field as its description.

        Pydantic's `use_attribute_docstrings` does the same, but its search for the source takes a tenth of a check.
        """
        for name, text in _attribute_docstrings(cls.__module__).get(cls.__name__, {}).items():
            cls.model_fields[name].description = text


@cache
def _attribute_docstrings(module: str) -> dict[str, dict[str, str]]:
    """Return the text below each annotated attribute of each class of a module."""
    found: dict[str, dict[str, str]] = {}
    body = ast.parse(Path(str(sys.modules[module].__file__)).read_text("utf-8")).body
    for node in (part for part in body if isinstance(part, ast.ClassDef)):
        for field, text in pairwise(node.body):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
            ):
                found.setdefault(node.name, {})[field.target.id] = inspect.cleandoc(str(text.value.value))
    return found


def mistake(message: str) -> PydanticCustomError:
    """Return a validation error with our own message (Pydantic would format braces in a plain message)."""
    return PydanticCustomError("mistake", "{message}", {"message": message})


def _only_true(value: bool) -> bool:
    if not value:
        raise mistake("our networks end in logits: from_logits can only be true (or be left out)")
    return value


Text = Annotated[str, Field(min_length=1)]

Fraction = Annotated[float, Field(ge=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
NonZeroFraction = Annotated[float, Field(gt=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]
PositiveNumber = Annotated[float, Field(gt=0)]

# Upper bounds, so that a slip of the finger is not a number that no array, seed or file can hold.
Positive = Annotated[int, Field(ge=1, le=1_000_000)]
Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
Index = Annotated[int, Field(ge=0)]
Indices = Annotated[list[Index], Field(min_length=1)]
BatchSize = Positive | Literal["auto"]
TileSize = Annotated[int, Field(ge=16, le=65_536)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
# A float is a share of all batches, a whole number counts them (1.0: all, 1: one), as in Lightning.
Batches = Annotated[int, Field(ge=0, le=1_000_000_000)] | Fraction
SomeBatches = Count | NonZeroFraction

Classes = Annotated[int, Field(ge=1, le=255)]  # labels are bytes, and 255 is kept for what is ignored
Label = Annotated[int, Field(ge=0, le=255)]
Task = Literal["binary", "multiclass"]

# Options of losses. `train/configs/rules/losses.py` holds those about classes against num_classes.
FromLogits = Annotated[bool, AfterValidator(_only_true)]
ClassIndices = Indices
PerClass = Annotated[list[NonNegative], Field(min_length=1)]
ClassWeights = PerClass | Literal["auto"]
# Options of the loss that the option's name begins with: focal_kwargs are those of FocalLoss.
LossOptions = Mapping[str, Any]
