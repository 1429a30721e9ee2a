"""Scalars of YAML 1.2's core schema."""

import re
from typing import Any

import yaml

MAX_DIGITS = 1000  # of a number; the largest float has 309, and Python converts up to 4300

INT = r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"
FLOAT = r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
"""Patterns of numbers."""
CORE = "tag:yaml.org,2002:"
"""Prefix of the tags of the core schema."""


def scalar(node: yaml.ScalarNode) -> Any:
    """Return the value of a scalar; raise `MarkedYAMLError` where an explicit tag doesn't fit."""
    kind, text = node.tag.removeprefix(CORE), str(node.value)
    if kind in {"str", "merge"}:
        return text
    if kind in {"int", "float"} and len(text) > MAX_DIGITS:
        problem = f"a number of {len(text):,} characters (at most {MAX_DIGITS})"
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
    try:
        if kind == "null":
            return None
        if kind == "bool":
            return {"true": True, "false": False}[text.lower()]
        if kind == "int":
            return int(text, 8 if text.startswith("0o") else 16 if text.startswith("0x") else 10)
        if kind == "float":
            return float(re.sub(r"\.(?=inf|nan)", "", text.lower()))
    except (ValueError, KeyError):
        raise yaml.MarkedYAMLError(problem=f"{text[:40]!r} is no {kind}", problem_mark=node.start_mark) from None
    raise unknown_tag(node)


def unknown_tag(node: yaml.Node) -> yaml.MarkedYAMLError:
    """Return the error of a tag that isn't one of the core schema."""
    tag = node.tag.replace(CORE, "!!")
    return yaml.MarkedYAMLError(problem=f"the tag {tag} means nothing here (drop it)", problem_mark=node.start_mark)
