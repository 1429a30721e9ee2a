"""Networks that no library provides, and the loading of pretrained weights."""

import sys
from typing import Any, cast


def import_timm() -> None:
    """Import timm without W&B, which timm imports for a function that this project doesn't use; it saves seconds.

    Call it before anything that imports timm.
    """
    if "wandb" not in sys.modules:
        sys.modules["wandb"] = cast(Any, None)
        try:
            import timm  # noqa: F401
        finally:
            del sys.modules["wandb"]
