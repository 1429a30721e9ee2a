"""What is slow to import, imported with less."""

import sys
from typing import Any, cast


def import_timm() -> None:
    """Imports timm without W&B, which it would import for a helper that nobody here uses, at the cost of seconds."""
    if "wandb" not in sys.modules:
        sys.modules["wandb"] = cast(Any, None)
        try:
            import timm  # noqa: F401
        finally:
            del sys.modules["wandb"]
