"""Resources of the machine that a process may use: cores, workers, open files, and features of the processor."""

import os
import re
from pathlib import Path

_CPU_INFO = Path("/proc/cpuinfo")
EXACT_INT8_SUMS = "session.x64quantprecision", "1"
"""Setting of ONNX Runtime for exact sums in networks in int8 on CPUs without VNNI, whose sums of two products of 8 bits
saturate; no effect elsewhere."""
_MOST_WORKERS = 1024
_FILES_A_WORKER = 16  # 13 were measured with two loaders, of training and validation
_OWN_FILES = 64  # libraries, logs, checkpoints


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_workers() -> int:
    """Return the number of worker processes to use by default: one core is left for the training itself."""
    return max(0, min(8, cores() - 1, most_workers()))


def most_workers() -> int:
    """Return the largest number of worker processes whose pipes and batches fit under the limit of open files.

    Each batch that waits in a queue is an open file, and so is each end of a worker's pipes. The soft limit (`ulimit
    -n`) is raised towards the hard one, which any process may do.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return _MOST_WORKERS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OWN_FILES + _MOST_WORKERS * _FILES_A_WORKER
    limit = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    if soft != resource.RLIM_INFINITY and soft < limit:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        except (OSError, ValueError):  # macOS has a lower limit of its own
            limit = soft
    return max(0, min(_MOST_WORKERS, (limit - _OWN_FILES) // _FILES_A_WORKER))


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
