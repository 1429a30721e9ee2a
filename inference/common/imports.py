"""Import of large libraries."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def large_imports() -> Iterator[None]:
    """Pause the garbage collector while large libraries are imported.

    They make a million objects and hardly any garbage, but the collector walks through all of them time and again,
    which takes an eighth of the time to import PyTorch, Lightning and timm.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
