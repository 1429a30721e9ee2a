"""Layout of the code: import arrows, import cycles, duplicates between packages, and dependencies."""

import ast
import io
import re
import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from inference.common.vector import INSTALL

ROOT = Path(__file__).parents[1]
PACKAGES = ("train", "inference", "eval")
OURS = {*PACKAGES, "tests", "benchmarks", "docs"}

RUN_LENGTH = 6
"""Equal lines in a row that count as a duplicate."""
ALLOWED_DUPLICATES: dict[frozenset[str], str] = {}
"""Pairs of files of two packages that may share a run of equal lines, with the reason."""


def files(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert found
    return found


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for package in PACKAGES for path in files(package)}


def imported(nodes: Sequence[ast.AST], path: Path) -> Iterator[str]:
    """Yield the names of imported modules; `from package import module` names the module, too."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            submodules = [name for name in names if name in MODULES]
            yield from submodules
            if len(submodules) < len(names):
                yield str(node.module)


def imports(path: Path) -> set[str]:
    """Return the names of the modules that a file imports, in functions too."""
    return set(imported(list(ast.walk(ast.parse(path.read_text()))), path))


def imports_of_ours(path: Path) -> set[str]:
    return {name for name in imports(path) if name.split(".")[0] in OURS}


def at_module_level(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield the nodes that run when a module is imported: not the bodies of functions."""
    stack: list[ast.AST] = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "__name__ == '__main__'"}:
            continue
        yield node
        stack.extend(ast.iter_child_nodes(node))


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the strongly connected components of more than one node, or with an edge to itself (Tarjan, 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph[node]):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            at = stack.index(node)
            component = stack[at:]
            del stack[at:]
            if len(component) > 1 or node in graph[node]:
                found.append(sorted(component))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


@pytest.mark.parametrize("path", files("train"), ids=str)
def test_train_imports_the_card_and_common_of_inference(path: Path) -> None:
    others = {name for name in imports_of_ours(path) if name.split(".")[0] != "train"}
    assert {name for name in others if not name.startswith("inference.common.")} <= {"inference.card"}


@pytest.mark.parametrize("path", files("inference"), ids=str)
def test_inference_imports_nothing_else_of_ours(path: Path) -> None:
    assert {name.split(".")[0] for name in imports_of_ours(path)} <= {"inference"}


@pytest.mark.parametrize("path", files("inference/common"), ids=str)
def test_common_needs_numpy_rasterio_and_tqdm_alone(path: Path) -> None:
    others = {name for name in imports(path) if name.split(".")[0] not in sys.stdlib_module_names}
    allowed = {"numpy", "rasterio", "tqdm"}
    if path.name in {"vector.py", "vector_grid.py", "remote.py"}:  # in a function, to read polygons and list stores
        allowed |= {"pyogrio", "shapely"}
    others = {name for name in others if name.split(".")[0] not in allowed}
    assert {name for name in others if not name.startswith("inference.common.")} == set()


@pytest.mark.parametrize("path", files("eval"), ids=str)
def test_eval_imports_train_and_inference_alone(path: Path) -> None:
    assert {name.split(".")[0] for name in imports_of_ours(path)} <= set(PACKAGES)


@pytest.mark.parametrize("path", [*files("train/data"), *files("train/models"), *files("train/optim")], ids=str)
def test_the_lower_rooms_of_train_do_not_import_runs(path: Path) -> None:
    assert not {name for name in imports(path) if f"{name}.".startswith("train.run.")}


def test_there_is_no_import_cycle() -> None:
    graph = {
        name: {
            other
            for other in imported(list(at_module_level(ast.parse(path.read_text()))), path)
            if other in MODULES and other != name
        }
        for name, path in MODULES.items()
    }
    assert sum(map(len, graph.values())) > 300
    assert cycles(graph) == []


def test_cycles_are_found() -> None:
    graph = {"a": {"b"}, "b": {"c", "d"}, "c": {"a"}, "d": {"e"}, "e": set[str](), "f": {"f"}}
    assert cycles(graph) == [["a", "b", "c"], ["f"]]


def code_lines(text: str) -> list[tuple[int, str]]:
    """Return (number, text) of the lines to compare: no comments, imports, blank lines or lone punctuation."""
    tree = ast.parse(text)
    skipped = {
        number
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    comments = {
        token.start[0]: token.start[1]
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT
    }
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        line = " ".join(line[: comments.get(number, len(line))].split())
        if number not in skipped and re.search(r"\w", line):
            found.append((number, line))
    return found


def duplicates(texts: dict[str, str]) -> dict[frozenset[str], tuple[int, int, str]]:
    """Find runs of equal lines in files of two packages.

    Args:
        texts: Path, which begins with the package, to content.

    Returns:
        For each pair of files with any: number of the line in either file, and text of the first line.
    """
    seen: dict[tuple[str, ...], list[tuple[str, int]]] = {}
    for path, text in texts.items():
        lines = code_lines(text)
        for at in range(len(lines) - RUN_LENGTH + 1):
            run = lines[at : at + RUN_LENGTH]
            seen.setdefault(tuple(line for _, line in run), []).append((path, run[0][0]))
    found: dict[frozenset[str], tuple[int, int, str]] = {}
    for run_text, places in seen.items():
        for one, first in places:
            for other, second in places:
                if one.split("/")[0] < other.split("/")[0]:
                    found.setdefault(frozenset((one, other)), (first, second, run_text[0]))
    return found


def test_no_code_stands_in_two_packages() -> None:
    texts = {str(path.relative_to(ROOT)): path.read_text() for path in MODULES.values()}
    assert sum(len(code_lines(text)) for text in texts.values()) > 10_000
    found = duplicates(texts)
    assert {tuple(sorted(pair)): at for pair, at in found.items() if pair not in ALLOWED_DUPLICATES} == {}
    assert set(ALLOWED_DUPLICATES) <= set(found), "an entry that is no longer needed"
    assert all(ALLOWED_DUPLICATES.values()), "an entry without a reason"


def test_duplicates_are_found() -> None:
    body = [f"x{number} = {number}" for number in range(RUN_LENGTH)]
    one = "import os\n" + "\n".join(body)
    other = "def f():\n    pass\n" + "\n\n    # comment\n".join(f"{line}  # why" for line in body)
    assert list(duplicates({"train/a.py": one, "eval/b.py": other})) == [frozenset({"train/a.py", "eval/b.py"})]
    assert duplicates({"train/a.py": one, "train/b.py": other}) == {}
    assert duplicates({"train/a.py": "\n".join(body[1:]), "eval/b.py": other}) == {}


def test_the_card_needs_no_torch() -> None:
    code = "import sys, inference.card; print({'torch', 'lightning', 'numpy', 'train'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_dev_extra_is_the_dev_group() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert declared["project"]["optional-dependencies"]["dev"] == declared["dependency-groups"]["dev"]


def test_the_vector_extra_is_what_the_message_names() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extra = declared["optional-dependencies"]["vector"]
    assert set(extra) < set(declared["dependencies"])
    assert re.findall(r"'(\S+)'", INSTALL) == [requirement.partition(",")[0] for requirement in extra]


def test_every_dependency_says_why() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    block = text[text.index("\ndependencies = [") : text.index("[project.optional-dependencies]")]
    lines = [line.strip() for line in block.splitlines() if line.strip().startswith('"')]
    assert len(lines) > 10
    assert [line for line in lines if "# " not in line or not any(sign in line.split("#")[0] for sign in "<>=")] == []
