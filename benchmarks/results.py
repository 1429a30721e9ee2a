"""Results of benchmarks: rows with the machine and the revision that they were measured with, and their table."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from inference.common.cpu import cores, has_tile_units

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).with_name("results.json")
README = Path(__file__).with_name("README.md")
_BEGIN, _END = "<!-- table: written by python -m benchmarks -->", "<!-- end of the table -->"
_PACKAGES = ("torch", "lightning", "onnxruntime", "openvino", "rasterio", "numpy", "opencv-python-headless")


@dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
        what: What was measured.
        cpu: CPU seconds; None where only wall time was measured.
        wall: Wall seconds; None where only CPU time was measured.
        to: Row of the same part that the ratios are to.
    """

    what: str
    cpu: float | None
    wall: float | None
    to: str


@dataclass(frozen=True)
class Result:
    """Measurements of one part.

    Attributes:
        title: What the part measures.
        rows: Measurements.
        paths: Files and folders whose code was measured, from the root of the repository.
        revision: Revision of the code; ends with "+" where files were modified.
        day: Day of the measurement.
        machine: Processor and its number of cores.
        load: Load of the machine before the measurement: processes that ran or waited, mean of a minute.
        versions: Versions of the libraries.
    """

    title: str
    rows: Sequence[Row]
    paths: Sequence[str]
    revision: str
    day: str
    machine: str
    load: float
    versions: Mapping[str, str]


def new_result(title: str, rows: Sequence[Row], paths: Sequence[str], load: float) -> Result:
    """Return the measurements of a part with this machine, its load before them, and the revision of the code."""
    return Result(title, rows, paths, revision(), date.today().isoformat(), machine(), round(load, 1), versions())


def revision() -> str:
    """Return the short revision of the code, with "+" where tracked files were modified; "unknown" without git."""
    head = _git("rev-parse", "--short", "HEAD")
    ours = [f":!{path.relative_to(ROOT)}" for path in (RESULTS, README)]  # written after each part
    if head is None:
        return "unknown"
    return head + ("+" if _git("status", "--porcelain", "-uno", "--", ".", *ours) else "")


def is_older(result: Result) -> bool:
    """Return True if the code has changed since it was measured, or if that can't be told."""
    if result.revision.endswith("+"):
        return True
    changed = _git("diff", "--name-only", result.revision, "HEAD", "--", *result.paths)
    return changed is None or bool(changed)


def machine() -> str:
    """Return the name of the processor, whether it has AMX, and the number of its cores for this process."""
    name = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.is_file():
        names = [
            line.partition(":")[2] for line in information.read_text().splitlines() if line.startswith("model name")
        ]
        name = names[0].strip() if names else name
    return f"{name}{' with AMX' if has_tile_units() else ''}, {cores()} cores"


def load() -> float:
    """Return the load of the machine, mean of a minute; NaN where the system doesn't count it."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that matter for speed, as far as they are installed."""
    found = {"Python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def read() -> dict[str, Result]:
    """Return the results by part; none where there is no file of results."""
    if not RESULTS.is_file():
        return {}
    content = json.loads(RESULTS.read_text())
    return {part: Result(**{**each, "rows": [Row(**row) for row in each["rows"]]}) for part, each in content.items()}


def write(results: Mapping[str, Result]) -> None:
    """Write the results, and their table in README.md."""
    RESULTS.write_text(json.dumps({part: asdict(each) for part, each in results.items()}, indent=1) + "\n")
    before, _, rest = README.read_text().partition(_BEGIN)
    _, _, after = rest.partition(_END)
    README.write_text(f"{before}{_BEGIN}\n\n{table(results)}\n\n{_END}{after}")


def table(results: Mapping[str, Result]) -> str:
    """Return the Markdown table of all results, and a line about each machine that they were measured on."""
    lines = [
        "| part | measured | CPU s | | wall s | | revision | load |",
        "| --- | --- | --: | --: | --: | --: | --- | --: |",
    ]
    for part, result in results.items():
        references = {row.what: row for row in result.rows}
        old = " (code has changed since)" if is_older(result) else ""
        for number, row in enumerate(result.rows):
            to = references[row.to]
            cells = [f"{part}: {result.title}" if number == 0 else "", row.what]
            for value, reference in ((row.cpu, to.cpu), (row.wall, to.wall)):
                cells += ["" if value is None else f"{value:.4g}"]
                cells += ["" if value is None or not reference else f"{value / reference:.2f}x"]
            cells += [f"{result.revision}{old}", f"{result.load:g}"] if number == 0 else ["", ""]
            lines.append(f"| {' | '.join(cells)} |")
    places: dict[str, list[str]] = {}
    for part, result in results.items():
        used = ", ".join(f"{name} {number}" for name, number in result.versions.items())
        places.setdefault(f"{result.day}, {result.machine}; {used}", []).append(part)
    notes = [f"- {', '.join(parts)}: {place}" for place, parts in places.items()]
    return "\n".join([*lines, "", *notes])


def _git(*arguments: str) -> str | None:
    """Return the output of a git command; None where it fails."""
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
