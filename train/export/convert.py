"""From a checkpoint to exported files: one straight list of steps."""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

from inference.card import ModelCard
from inference.common.errors import CheckFailed, UserError
from inference.common.files import make_folder, replace, temporary_path, write_text
from train.configs.config import Config
from train.configs.loader import load_config
from train.configs.training import is_file_name
from train.export.consumers import habitat_mapper
from train.export.formats import FORMATS
from train.export.network import ExportedNetwork, Output
from train.export.parity import Reference, agreement, failures, reference
from train.export.pixels import real_pixels
from train.export.rebuild import Given, Rebuilt, rebuild, revision
from train.export.sizes import fixed_size_reason, other_size
from train.export.source import Source, find_source
from train.run.provenance import versions


@dataclass(frozen=True)
class Request:
    """What to convert, and how.

    Attributes:
        source: A checkpoint, a run folder, or a W&B artifact.
        config: The YAML that it was trained with; None where the checkpoint says it itself.
        overrides: KEY=VALUE for the YAML.
        model_name: In the files' names; None to take the card's.
        task: In the files' names; None to take the card's.
        score: Dice in the files' names; None to take what came with the checkpoint.
        revision: YYYYMMDD or YYYYMMDD-variant; None to make one of the day and the weights.
        licence: SPDX identifier.
        formats: Keys of FORMATS.
        output: What comes out of the files.
        dynamic: Whether they take any height and width.
        device: On which the files are compared with the checkpoint.
        folder: Where they go.
    """

    source: str
    folder: Path
    config: str | None = None
    overrides: Sequence[str] = ()
    model_name: str | None = None
    task: str | None = None
    score: float | None = None
    revision: str | None = None
    licence: str | None = None
    formats: Sequence[str] = tuple(FORMATS)
    output: Output = "probabilities"
    dynamic: bool = False
    device: str = "auto"


def convert(request: Request) -> list[Path]:
    """Converts; all files get their names, or none does.

    Returns:
        The files that were written.

    Raises:
        UserError: Something to mend.
        CheckFailed: A file would not give the checkpoint's answers.
    """
    device = _device(request.device)
    _check_name("--model_name", request.model_name)
    _check_name("--task", request.task)
    given = None
    if request.config is not None:
        given = Given(request.config, load_config(request.config, request.overrides))
    source = find_source(request.source)
    _tell(f"checkpoint {source.checkpoint}")
    rebuilt = rebuild(source.checkpoint, given)
    for notice in rebuilt.notices:
        _tell(f"notice: {notice}")
    card = _card(request, source, rebuilt)
    score = _score(request, source, card)
    if request.dynamic and (reason := fixed_size_reason(rebuilt.model)):
        raise UserError(f"--dynamic: {reason} (leave --dynamic out: the files then take {_square(card.tile_size)})")
    make_folder(request.folder, "--output_dir")

    network = ExportedNetwork(rebuilt.model, request.output).eval()
    configs = [rebuilt.config] if given is None else [given.loaded.config, rebuilt.config]
    references = _references(network, rebuilt, card, configs, device, request.dynamic)
    names = {"model_name": card.name, "task": card.task, "score": score}
    temporaries: dict[Path, Path] = {}
    try:
        for key in request.formats:
            target = request.folder / (FORMATS[key].stem.format(**names) + FORMATS[key].suffix)
            temporary = temporary_path(target)
            temporaries[target] = temporary
            _write(key, network, card, references, target, temporary, device)
        for target, temporary in temporaries.items():
            replace(temporary, target)
    finally:
        for temporary in temporaries.values():
            temporary.unlink(missing_ok=True)
    written = list(temporaries)
    for target in list(written):
        if target.suffix == ".onnx":
            written.append(target.with_suffix(".json"))
            write_text(written[-1], habitat_mapper(card, target.name))
    return written


def _write(
    key: str,
    network: ExportedNetwork,
    card: ModelCard,
    references: Sequence[Reference],
    target: Path,
    temporary: Path,
    device: torch.device,
) -> None:
    """Writes one file under its temporary name, and holds it against the checkpoint."""
    _tell(f"writing {target.name}")
    chosen = FORMATS[key]
    try:
        chosen.write(network, card, references[0].image, temporary)
    except OSError as error:
        raise UserError(f"{target}: can't be written: {error.strerror or error}") from None
    run = chosen.load(temporary, device)
    found = [agreement(run, wanted, card) for wanted in references]
    if lines := failures(target.name, found):
        if card.any_size and found[0].passed:
            lines.append(f"{target.name}: is right at {_square(card.tile_size)} (leave --dynamic out)")
        raise CheckFailed("\n".join([*lines, f"{target.name}: not written"]))
    for one in found:
        _tell(f"  {one}")


def _references(
    network: ExportedNetwork,
    rebuilt: Rebuilt,
    card: ModelCard,
    configs: Sequence[Config],
    device: torch.device,
    dynamic: bool,
) -> list[Reference]:
    sizes = [(card.tile_size, card.tile_size)] + ([other_size(card.tile_size)] if dynamic else [])
    made: list[Reference] = []
    for size in sizes:
        pixels = real_pixels(configs, card, size)
        if not made:
            _tell(f"comparing on {pixels.source}")
        _tell(f"asking the checkpoint, at {size[0]}x{size[1]}, in float32 and float64")
        made.append(reference(network, rebuilt.model.normalize(pixels.image), device))
    return made


def _card(request: Request, source: Source, rebuilt: Rebuilt) -> ModelCard:
    """The card that goes into the files."""
    card = rebuilt.card
    created = card.created or datetime.now(UTC).isoformat(timespec="seconds")
    changes = {
        "name": request.model_name or card.name,
        "task": request.task or card.task,
        "revision": request.revision or revision(created, rebuilt.model.state_dict()),
        "licence": request.licence or card.licence,
        "output": request.output,
        "any_size": request.dynamic,
        "software": {**versions(), **card.software},
    }
    _check_name("--model_name", changes["name"])
    _check_name("--task", changes["task"])
    return ModelCard.model_validate({**card.model_dump(mode="json"), **changes})


def _score(request: Request, source: Source, card: ModelCard) -> float:
    score = next((s for s in (request.score, source.score, card.scores.get("val/dice")) if s is not None), None)
    if score is None or not score == score:
        raise UserError(
            f"{source.name}: came without a score: neither the artifact's metadata nor the card has one (give the Dice "
            "score with --score)"
        )
    if not 0 <= score <= 1:
        raise UserError(f"--score: {score} is no Dice score (allowed: 0 to 1)")
    return score


def _check_name(option: str, name: object) -> None:
    # What Windows refuses is refused everywhere: the files are made to be passed on.
    if name is not None and not (isinstance(name, str) and is_file_name(name) and not re.search('[<>:"|?*]', name)):
        raise UserError(
            f"{option}: {name!r} can't be in a file's name (allowed: letters, digits, . _ - and the like, no slash)"
        )


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"--device: {name} can't be used here: {reason} (allowed: auto, cpu, cuda, mps)") from None
    return device


def _square(side: int) -> str:
    return f"{side}x{side} pixels"


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
