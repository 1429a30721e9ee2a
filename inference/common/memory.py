"""Memory of the machine: what is free, and a check before much of it is taken."""

import os
from pathlib import Path

from inference.common.errors import UserError

_LISTING = Path("/proc/meminfo")
# Limit, use and reclaimable cache of a container: control groups of version 2, then of version 1.
_GROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        "/sys/fs/cgroup/memory/memory.stat",
    ),
)


def free_memory() -> int:
    """Return the memory that is free, bytes: the machine's, or what a container may still take.

    Where the system doesn't report what is free, it is the memory of the whole machine.
    """
    free = [_free_in_group(*(Path(name) for name in names)) for names in _GROUPS]
    return min([_free_in_machine(), *(amount for amount in free if amount is not None)])


def check_memory(needed: float, what: str, fix: str) -> None:
    """Check that so much memory is free.

    Args:
        needed: Bytes.
        what: What needs it; begins the error message.
        fix: What the user can do; ends the error message.

    Raises:
        UserError: Less is free.
    """
    free = free_memory()
    if needed > free:
        raise UserError(
            f"{what} needs at least {needed / 2**30:,.1f} GiB of memory, {free / 2**30:,.1f} GiB are free ({fix})"
        )


def _free_in_machine() -> int:
    if _LISTING.is_file():
        for line in _LISTING.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 8 * 2**30  # Windows


def _free_in_group(limit: Path, used: Path, details: Path) -> int | None:
    """Return the memory that a control group may still take, bytes; None where there is no limit."""
    try:
        most, taken = int(limit.read_text()), int(used.read_text())
        entries = dict(line.split()[:2] for line in details.read_text().splitlines())
    except (OSError, ValueError):  # no such group, or "max"
        return None
    cache = int(entries.get("inactive_file", entries.get("total_inactive_file", 0)))
    return max(0, most - taken + cache)
