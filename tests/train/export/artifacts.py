"""Artifacts that the tests of W&B downloads share."""

from pathlib import Path

import pytest

from inference.common.errors import UserError
from train.export.artifact import fetch

from .wandb_server import Stored

CONTENT = b"PK\x03\x04" + bytes(range(256)) * 1000


NAME = "reef/kelp/model-x"


def refusal(source: str, timeout: float = 15.0) -> str:
    """What a fetch that fails says; one line."""
    with pytest.raises(UserError) as caught:
        fetch(source, timeout=timeout)
    message = str(caught.value)
    assert "\n" not in message
    return message


def kept(cache: Path) -> list[str]:
    """Names of all that is in the cache, whole or not."""
    return sorted(p.name for p in cache.rglob("*") if p.is_file())


def versions() -> tuple[Stored, Stored]:
    """Two versions, the second being the latest."""
    first = Stored("model-x", 0, {"model.ckpt": CONTENT, "card.json": b"{}"}, ("best",), {"score": 0.91})
    return first, Stored("model-x", 1, {"model.ckpt": CONTENT + b"!"}, ("latest",))
