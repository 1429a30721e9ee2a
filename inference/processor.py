"""What the processor offers."""

import os
import re
from pathlib import Path

_CPU_INFO = Path("/proc/cpuinfo")


def default_threads() -> int:
    """The CPU threads that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def has_tile_units(info: Path = _CPU_INFO) -> bool | None:
    """Whether the CPU multiplies matrices in 16 bits in units made for it (Intel's AMX).

    Args:
        info: What Linux says of the CPU.

    Returns:
        None where that isn't known (no Linux, no x86).
    """
    try:
        flags = re.search(r"^flags\s*:(.*)$", info.read_text(), re.MULTILINE)
    except OSError:
        return None
    return None if flags is None else "amx_bf16" in flags[1].split()
