"""Rules about how long and what is trained, and which checkpoints are kept."""

from collections.abc import Iterator
from itertools import pairwise
from string import Formatter

from train.configs.document import KeyPath
from train.configs.network import default_swa_start
from train.configs.problems import Problem
from train.configs.rules.facts import NETWORK, Facts
from train.configs.training import default_mode, score_name

_FINETUNE = (NETWORK, "finetune")
_SWA = (NETWORK, "swa")


def _trained_part(facts: Facts) -> Iterator[Problem]:
    at = (NETWORK, "freeze_encoder")
    if facts.given(*_FINETUNE) and facts.get(*at) is True:
        yield Problem("and freeze_encoder both say what is trained (keep one of them)", (_FINETUNE, at))


def _steps(facts: Facts) -> Iterator[Problem]:
    for at in (_FINETUNE, _SWA):
        if facts.given(*at) and facts.get("trainer", "max_steps") > 0:
            text = "counts epochs, but max_steps counts steps (leave it out)"
            yield Problem(text, (at, ("trainer", "max_steps")))


def _stages(facts: Facts) -> Iterator[Problem]:
    epochs = [stage["epoch"] for stage in facts.get(*_FINETUNE) or []]
    if not epochs:
        return
    if epochs[0] != 0:
        yield Problem(f"the first stage begins with epoch 0, found {epochs[0]}", ((*_FINETUNE, 0, "epoch"),))
    for number, (before, epoch) in enumerate(pairwise(epochs), 1):
        if epoch <= before:
            yield Problem(
                f"is {epoch}, but the stage before begins with {before} (epochs must rise)",
                ((*_FINETUNE, number, "epoch"),),
            )
    if epochs[-1] >= facts.epochs:
        yield Problem(
            f"is {epochs[-1]}, but training ends after {facts.epochs} epochs, numbered from 0",
            ((*_FINETUNE, len(epochs) - 1, "epoch"), *facts.where("max_epoch")),
        )


def _averages(facts: Facts) -> Iterator[Problem]:
    if facts.given(*_SWA) and facts.given(NETWORK, "ema"):
        yield Problem("and ema are two averages of the weights (keep one of them)", (_SWA, (NETWORK, "ema")))


def _swa_start(facts: Facts) -> Iterator[Problem]:
    if not facts.given(*_SWA):
        return
    last, stages = facts.epochs, facts.get(*_FINETUNE)
    stage = stages[-1]["epoch"] if stages else 0
    if stage >= last:
        return  # reported already
    said = facts.get(*_SWA, "start_epoch")
    start = default_swa_start(stage, last) if said is None else said
    at: tuple[KeyPath, ...] = (_SWA if said is None else (*_SWA, "start_epoch"), *facts.where("max_epoch"))
    if start >= last:
        yield Problem(f"is {start}, but training ends after {last} epochs, numbered from 0", at)
    elif start <= stage or start - stage < facts.get(NETWORK, "warmup_period") * (last - stage):
        since = f"the stage that begins with {stage}" if stage else f"{last} epochs of training"
        yield Problem(
            f"would average from epoch {start} on, where the learning rate of {since} still rises (begin later)", at
        )


def _mode(facts: Facts) -> Iterator[Problem]:
    at, monitor = ("checkpoint", "monitor"), _monitor(facts)
    mode, right = facts.get("checkpoint", "mode"), default_mode(monitor)
    if mode not in {None, right}:
        yield Problem(
            f"is {mode}, but the best {monitor} is the {'lowest' if right == 'min' else 'highest'} "
            f"(write {right}, or leave it out)",
            (("checkpoint", "mode"), at),
        )


def _monitor(facts: Facts) -> str:
    monitor = score_name(facts.get("checkpoint", "monitor"))
    assert monitor is not None
    return monitor


def _filename(facts: Facts) -> Iterator[Problem]:
    monitor, template = _monitor(facts), facts.get("checkpoint", "filename")
    phase = monitor.partition("/")[0]
    fields = [field for _, field, _, _ in Formatter().parse(template) if field and score_name(field)]
    for other in sorted({field.partition("/")[0] for field in fields} - {phase}):
        yield Problem(
            f"names a score of {other}/, but a checkpoint is taken when {monitor} is known, and its name can "
            f"hold scores of {phase}/ only",
            (("checkpoint", "filename"), ("checkpoint", "monitor")),
        )


def _none_kept(facts: Facts) -> Iterator[Problem]:
    if facts.get("checkpoint", "save_top_k") == 0 and not facts.get("checkpoint", "save_last"):
        yield Problem(
            "is 0, and save_last is false: no checkpoint would be kept (change one of them)",
            (("checkpoint", "save_top_k"), ("checkpoint", "save_last")),
        )


def _early_stopping(facts: Facts) -> Iterator[Problem]:
    if not facts.given("early_stopping") or facts.get("trainer", "limit_val_batches") != 0:
        return
    said = facts.get("early_stopping", "monitor")
    watched = _monitor(facts) if said is None else score_name(said)
    if watched is not None and watched.startswith("val/"):
        yield Problem(
            f"waits for {watched}, but limit_val_batches is 0: nothing is validated",
            (("early_stopping",), ("trainer", "limit_val_batches")),
        )


RULES = (
    _trained_part,
    _steps,
    _stages,
    _averages,
    _swa_start,
    _mode,
    _filename,
    _none_kept,
    _early_stopping,
)
