"""How many threads and processes to work with."""

import os


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_workers() -> int:
    """Worker processes where the config doesn't say: a core is left for the training itself."""
    return max(0, min(8, cores() - 1))
