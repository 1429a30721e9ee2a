"""Rules about the losses of `segmentation_config`: options that a loss has, and how they fit num_classes."""

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

from pydantic import ConfigDict, ValidationError

from train.configs.document import KeyPath
from train.configs.problems import Problem, value_at
from train.configs.registries import losses
from train.configs.registries.losses import LOSSES, Loss, Option
from train.configs.rules.facts import NETWORK, Facts
from train.configs.schema import in_words
from train.configs.wording import shown

_AT: KeyPath = (NETWORK, "loss")


def _terms(facts: Facts) -> Iterator[tuple[KeyPath, Loss]]:
    """Yield the place and the row of each term whose name is known."""
    loss = value_at(facts.data, _AT)
    for path, term in [((*_AT, i), term) for i, term in enumerate(loss)] if isinstance(loss, list) else [(_AT, loss)]:
        name = term.get("name") if isinstance(term, Mapping) else None
        if isinstance(name, str) and (known := losses.match(name)):
            yield path, LOSSES[known]


def _given(facts: Facts, within: Iterable[tuple[KeyPath, Loss]]) -> Iterator[tuple[KeyPath, Loss, Any]]:
    """Yield the place, the loss and the value of each option, those of losses within a loss included."""
    for at, loss in within:
        for key, value in facts.items(*at):
            inner = losses.nested(key) if key in loss.options else None
            if inner is None:
                yield (*at, key), loss, value
            else:
                yield from _given(facts, [((*at, key), LOSSES[inner])])


def _all(facts: Facts) -> Iterator[tuple[KeyPath, Loss, Any]]:
    return _given(facts, (((*path, "opts"), loss) for path, loss in _terms(facts)))


def of_the_loss_named(problems: Iterable[Problem], data: Mapping[str, Any]) -> list[Problem]:
    """Reword what the schema says of an option: it names the types that the option has in any loss.

    Args:
        problems: Problems that the schema has found.
        data: Content of the file.

    Returns:
        The problems: with the type in the loss that is named, and without options of a loss whose name is wrong.
    """
    found = list(problems)
    wrong_names = {problem.paths[0] for problem in found}
    reworded = []
    for problem in found:
        path = problem.paths[0]
        # A message that is a text is the option's own, such as that networks end in logits.
        its_own = problem.of_key or isinstance(problem.message, str)
        if path[: len(_AT)] != _AT or len(path) < len(_AT) + 2 or path[-2] != "opts" or its_own:
            reworded.append(problem)
            continue
        name = value_at(data, (*path[:-2], "name"))
        known = losses.match(name) if isinstance(name, str) else None
        option = LOSSES[known].options.get(str(path[-1])) if known is not None else None
        if known is not None and option is None:
            reworded.append(Problem(_no_option(LOSSES[known]), (path,), of_key=True))
        elif known is not None and option is not None and losses.nested(option.name) is None:
            reworded.append(Problem(_not_allowed(LOSSES[known], option, value_at(data, path)), (path,)))
        elif (*path[:-2], "name") not in wrong_names:
            reworded.append(problem)
    return reworded


def _no_option(loss: Loss) -> str:
    return f"{loss.name} has no such option (it takes: {', '.join(sorted(loss.options))})"


def _not_allowed(loss: Loss, option: Option, value: Any) -> str:
    return f"{shown(value)} is not allowed with {loss.name} (allowed: {in_words(option.type)})"


def _only(facts: Facts) -> Iterator[Problem]:
    for path, loss in _terms(facts):
        if loss.only not in {None, facts.task}:
            yield Problem(
                f"{loss.name} is {loss.only}, but num_classes is {facts.num_classes} (use {loss.instead})",
                ((*path, "name"), *facts.where("num_classes")),
            )


def _options(facts: Facts) -> Iterator[Problem]:
    for path, loss, value in _all(facts):
        option = loss.options.get(str(path[-1]))
        if option is None:
            yield Problem(_no_option(loss), (path,), of_key=True)
        elif not _fits(option, value):
            yield Problem(_not_allowed(loss, option, value), (path,))


def _classes(facts: Facts) -> Iterator[Problem]:
    for path, loss, value in _all(facts):
        option = loss.options.get(str(path[-1]))
        if option is not None and _fits(option, value):
            for text, clash in _clashes(facts, loss, option, value):
                yield Problem(text, (path, *clash))


@cache
def _adapter(kind: Any) -> Any:
    from pydantic import TypeAdapter  # seldom needed, and not imported by the schema

    return TypeAdapter(kind, config=ConfigDict(strict=True, allow_inf_nan=False))


def _fits(option: Option, value: Any) -> bool:
    """Say whether a value has the type of an option in this loss; the schema has checked it against any loss's."""
    try:
        _adapter(option.type).validate_python(value)
    except ValidationError:
        return False
    return True


def _clashes(facts: Facts, loss: Loss, option: Option, value: Any) -> Iterator[tuple[str, tuple[KeyPath, ...]]]:
    """Yield what is wrong with an option under this number of classes, and the place of what it clashes with."""
    classes, where = facts.num_classes, facts.where("num_classes")
    if option.name == "mode" and value != facts.task:
        yield f"is {value}, but num_classes {classes} is {facts.task}", where
    elif option.name == "ignore_index" and value != facts.ignore_index:
        text = f"is {value}, but {NETWORK}.ignore_index is {facts.ignore_index} (they are one value)"
        yield text, ((NETWORK, "ignore_index"),)
    elif classes == 1 and option.name in loss.of_several_classes and (isinstance(value, list) or value == "auto"):
        yield "is for several classes, but num_classes is 1 (leave it out)", where
    elif not isinstance(value, list):
        return
    elif "ClassIndices" in option.names and max(value) >= facts.labels:
        yield f"names classes {shown(value)}, but classes are 0 to {facts.labels - 1}", where
    elif option.names & {"PerClass", "ClassWeights"} and len(value) != facts.labels:
        yield f"has {len(value)} weights for {facts.labels} classes", where
    elif "ClassWeights" in option.names and not any(value):
        yield "are all 0: nothing would be learnt", ()


RULES = (_only, _options, _classes)
