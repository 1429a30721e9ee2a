"""Measurement of whole processes: wall and CPU seconds and peak memory."""

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_SAMPLING = 0.01  # seconds


@dataclass(frozen=True)
class Usage:
    """What a process used.

    Attributes:
        wall: Wall time, seconds.
        cpu: CPU time of all its threads, and of the processes it waited for, seconds.
        peak: Largest resident set, MiB.
        out: Its standard output.
    """

    wall: float
    cpu: float
    peak: float
    out: str


def run(command: Sequence[str], code: int = 0) -> Usage:
    """Run a process.

    Args:
        command: Program and arguments.
        code: Expected exit code.

    Raises:
        SystemExit: It ended with another code.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=err, text=True, env=_environment())
        peak, ended = 0, 0
        while not ended:
            peak = max(peak, _high_water(process.pid))
            time.sleep(_SAMPLING)
            ended, status, used = os.wait4(process.pid, os.WNOHANG)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        for file in (out, err):
            file.seek(0)
        if process.returncode != code:
            raise SystemExit(f"{' '.join(command)[:300]}\nended with {process.returncode}: {err.read()[-3000:]}")
        return Usage(wall, used.ru_utime + used.ru_stime, peak / 2**10, out.read())


def _environment() -> dict[str, str]:
    """Return the environment of a process that is measured, in which Python keeps the byte code of its libraries.

    Where PYTHONDONTWRITEBYTECODE is set, as in many containers, every start would compile them anew, if the installer
    hasn't; the byte code then lies in the folder for temporary files.
    """
    found = dict(os.environ)
    if found.pop("PYTHONDONTWRITEBYTECODE", None):
        found.setdefault("PYTHONPYCACHEPREFIX", str(Path(tempfile.gettempdir()) / "hakai-benchmarks-bytecode"))
    return found


def _high_water(process: int) -> int:
    """Return the largest resident set so far, KiB; 0 where the kernel doesn't tell.

    The kernel keeps the mark, so sampling loses only the last 10 ms. The one that it returns with the exit code counts
    memory of the parent too, which the child had before it ran another program.
    """
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return max((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), default=0)


def in_turns(
    commands: Mapping[str, Sequence[str]],
    rounds: int,
    codes: Mapping[str, int] | None = None,
    reading: Callable[[str, Usage], Usage] = lambda name, usage: usage,
) -> dict[str, Usage]:
    """Run several processes in turn, so that a change in the machine's speed affects all of them.

    Args:
        commands: Command of each name.
        rounds: How often each is run.
        codes: Expected exit codes that aren't 0.
        reading: Function from the name and what its process used to what counts.

    Returns:
        Median times, largest peak and last output of each.
    """
    found: dict[str, list[Usage]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            found[name].append(reading(name, run(command, (codes or {}).get(name, 0))))
    return {
        name: Usage(
            statistics.median(each.wall for each in all_),
            statistics.median(each.cpu for each in all_),
            max(each.peak for each in all_),
            all_[-1].out,
        )
        for name, all_ in found.items()
    }
