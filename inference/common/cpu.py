"""Number of cores and features of the processor."""

import os
import re
from pathlib import Path

_CPU_INFO = Path("/proc/cpuinfo")


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_workers() -> int:
    """Return the number of worker processes to use by default: one core is left for the training itself."""
    return max(0, min(8, cores() - 1))


def has_tile_units(info: Path = _CPU_INFO) -> bool | None:
    """Return True if the CPU has 16-bit matrix units (Intel's AMX).

    Args:
        info: File in which Linux describes the CPU.

    Returns:
        None if that is unknown (not Linux, not x86).
    """
    try:
        flags = re.search(r"^flags\s*:(.*)$", info.read_text(), re.MULTILINE)
    except OSError:
        return None
    return None if flags is None else "amx_bf16" in flags[1].split()
