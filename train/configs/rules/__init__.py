"""Rules about several keys together: values that are each valid and don't fit each other.

One module a section. A rule is a function of `Facts` that yields problems; it may ask for any value, and is left out
where a value that it asks for is invalid itself.
"""

from collections.abc import Iterator

from train.configs.problems import Problem
from train.configs.rules import data, losses, network, training
from train.configs.rules.facts import Facts, Invalid

RULES = (*data.RULES, *network.RULES, *losses.RULES, *training.RULES)


def check(facts: Facts) -> Iterator[Problem]:
    """Yield the problems that all rules find."""
    for rule in RULES:
        try:
            yield from rule(facts)
        except Invalid:
            continue  # reported already, where the value stands
