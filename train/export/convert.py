"""Conversion of a checkpoint to exported files: restore, export, check parity, rename."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

from inference.card import ModelCard
from inference.common.errors import CheckFailed, UserError, first_line
from inference.common.files import replace, temporary_path, write_text
from inference.common.signals import finishing
from inference.common.targets import check_target, make_folder
from inference.common.text import print_line
from train.configs.config import Config
from train.configs.loader import load_config
from train.configs.training import is_file_name
from train.export.config_comparison import UserConfig
from train.export.consumers import habitat_mapper_config
from train.export.export_wrapper import ExportWrapper, Output, fixed_size_reason
from train.export.formats import ALL_FORMATS, FORMATS, INT8
from train.export.int8_check import int8_refusal, write_int8
from train.export.int8_windows import Int8Windows, int8_windows
from train.export.parity import ReferenceOutput, check_parity, failure_messages, other_size, reference_output
from train.export.parity_images import parity_images
from train.export.source import CheckpointSource, find_source
from train.export.trained_model import TrainedModel, load_trained_model, weights_revision
from train.run.provenance import versions


@dataclass(frozen=True)
class ConversionRequest:
    """Settings of a conversion.

    Attributes:
        source: Checkpoint, run folder, or W&B artifact.
        folder: Output folder.
        config: YAML of the training; None to use the config in the checkpoint.
        overrides: KEY=VALUE pairs that override the YAML.
        model_name: Model name in the file names; None for the card's.
        task: Task in the file names; None for the card's.
        score: Dice score in the file names and in the card; None for the score of the artifact or card.
        weights: Set of weights to export, of a checkpoint that holds several.
        revision: YYYYMMDD or YYYYMMDD-variant; None for the day and a hash of the weights.
        licence: SPDX identifier.
        formats: Keys of ALL_FORMATS.
        output: Kind of output.
        dynamic: True for files that accept any height and width.
        device: Device of the parity check.
    """

    source: str
    folder: Path
    config: str | None = None
    overrides: Sequence[str] = ()
    model_name: str | None = None
    task: str | None = None
    score: float | None = None
    weights: str | None = None
    revision: str | None = None
    licence: str | None = None
    formats: Sequence[str] = tuple(FORMATS)
    output: Output = "probabilities"
    dynamic: bool = False
    device: str = "auto"


def convert(request: ConversionRequest) -> list[Path]:
    """Convert a checkpoint; either all files are written or none.

    Returns:
        Paths of the files.

    Raises:
        UserError: Invalid input.
        CheckFailed: The outputs of a file differ from the checkpoint's; nothing is written.
    """
    device = _device(request.device)
    _check_name("--model_name", request.model_name)
    _check_name("--task", request.task)
    given = None
    if request.config is not None:
        given = UserConfig(request.config, load_config(request.config, request.overrides), request.overrides)
    source = find_source(request.source)
    print_line(f"checkpoint {source.checkpoint}")
    trained = load_trained_model(source.checkpoint, given, request.weights)
    for notice in trained.notices:
        print_line(f"notice: {notice}")
    card = _card(request, source, trained)
    score = _score(request, source, card)
    if request.dynamic and (reason := fixed_size_reason(trained.model)):
        raise UserError(f"--dynamic: {reason} (without --dynamic the files accept {_square(card.tile_size)})")
    targets = _targets(request, {"model_name": card.name, "task": card.task, "score": score}, source)

    if INT8.name in targets and (reason := int8_refusal(trained.model, request.dynamic)):
        raise UserError(f"--formats int8: {reason} (leave int8 out)")

    network = ExportWrapper(trained.model, request.output).eval()
    configs = [trained.config] if given is None else [given.loaded.config, trained.config]
    windows: Int8Windows | None = int8_windows(configs[0], trained.model, card) if INT8.name in targets else None
    exact = [key for key in targets if key != INT8.name]
    references = _reference_outputs(network, trained, card, configs, device, request.dynamic) if exact else []
    temporaries: dict[Path, Path] = {}
    cards = dict.fromkeys(targets.values(), card)
    try:
        for key, target in targets.items():
            temporary = temporary_path(target)
            temporaries[target] = temporary
            if windows is not None and key == INT8.name:
                cards[target] = write_int8(network, card, windows, target, temporary, device)
                continue
            _write(key, network, card, references, target, temporary, device)
        with finishing():
            return _publish(temporaries, cards)
    finally:
        for temporary in temporaries.values():
            temporary.unlink(missing_ok=True)


def _publish(temporaries: Mapping[Path, Path], cards: Mapping[Path, ModelCard]) -> list[Path]:
    """Give finished files their names, and write habitat-mapper's configuration beside the ONNX file; return all."""
    for target, temporary in temporaries.items():
        try:
            replace(temporary, target)
        except OSError as error:
            raise UserError(f"{target}: can't be written: {error.strerror or error}") from None
    written = list(temporaries)
    for target in list(written):
        if target.suffix == ".onnx":
            written.append(target.with_suffix(".json"))
            write_text(written[-1], habitat_mapper_config(cards[target], target.name))
    return written


def _targets(request: ConversionRequest, names: Mapping[str, object], source: CheckpointSource) -> dict[str, Path]:
    """Return the path of each format's file, checked, in an output folder that exists."""
    folder = make_folder(request.folder, "--output_dir")
    inputs: dict[str | Path, str] = {source.checkpoint: "the checkpoint itself"}
    if request.config is not None:
        inputs[request.config] = "the config"
    targets = {}
    for key in request.formats:
        target = folder / (ALL_FORMATS[key].stem.format(**names) + ALL_FORMATS[key].suffix)
        targets[key] = target
        for file in (target, *([target.with_suffix(".json")] if target.suffix == ".onnx" else [])):
            check_target(file, "--output_dir", overwrite=True, inputs=inputs)
    return targets


def _write(
    key: str,
    network: ExportWrapper,
    card: ModelCard,
    references: Sequence[ReferenceOutput],
    target: Path,
    temporary: Path,
    device: torch.device,
) -> None:
    """Write one file under its temporary name and check its parity with the checkpoint."""
    print_line(f"writing {target.name}")
    chosen = FORMATS[key]
    try:
        chosen.write(network, card, references[0].image, temporary)
    except OSError as error:
        raise UserError(f"{target}: can't be written: {error.strerror or error}") from None
    run = chosen.load(temporary, device)
    results = [check_parity(run, reference, card) for reference in references]
    if lines := failure_messages(target.name, results):
        if card.any_size and results[0].passed:
            lines.append(f"{target.name}: correct at {_square(card.tile_size)} only (leave --dynamic out)")
        raise CheckFailed("\n".join([*lines, f"{target.name}: not written"]))
    for result in results:
        print_line(f"  {result}")


def _reference_outputs(
    network: ExportWrapper,
    trained: TrainedModel,
    card: ModelCard,
    configs: Sequence[Config],
    device: torch.device,
    dynamic: bool,
) -> list[ReferenceOutput]:
    sizes = [(card.tile_size, card.tile_size)] + ([other_size(card.tile_size)] if dynamic else [])
    references: list[ReferenceOutput] = []
    for size in sizes:
        images = parity_images(configs, card, size)
        if not references:
            print_line(f"parity check on {images.source}")
        print_line(f"running the checkpoint at {size[0]}x{size[1]} in float32 and float64")
        references.append(reference_output(network, trained.model.normalize(images.image), device))
    return references


def _card(request: ConversionRequest, source: CheckpointSource, trained: TrainedModel) -> ModelCard:
    """Return the card to embed in the files."""
    card = trained.card
    given = {} if request.score is None else {"val/dice": request.score}
    created = card.created or datetime.now(UTC).isoformat(timespec="seconds")
    changes = {
        "name": request.model_name or card.name,
        "task": request.task or card.task,
        "revision": request.revision or weights_revision(created, trained.model.state_dict()),
        "licence": request.licence or card.licence,
        "output": request.output,
        "any_size": request.dynamic,
        "scores": {**card.scores, **source.test_scores, **given},
        "software": {**versions(), **card.software},
    }
    _check_name("--model_name", changes["name"])
    _check_name("--task", changes["task"])
    return ModelCard.model_validate({**card.model_dump(mode="json"), **changes})


def _score(request: ConversionRequest, source: CheckpointSource, card: ModelCard) -> float:
    score = next((s for s in (request.score, source.score, card.scores.get("val/dice")) if s is not None), None)
    if score is None or not score == score:
        raise UserError(
            f"{source.name}: has no score, neither in the artifact's metadata nor in its card (give the Dice score "
            "with --score)"
        )
    if not 0 <= score <= 1:
        raise UserError(f"--score: {score} is not a Dice score (allowed: 0 to 1)")
    return score


def _check_name(option: str, name: object) -> None:
    # Characters that Windows forbids are refused on every system, because the files are shared.
    if name is not None and not (isinstance(name, str) and is_file_name(name) and not re.search('[<>:"|?*]', name)):
        raise UserError(f"{option}: {name!r} can't be part of a file name (allowed: letters, digits, . _ -; no slash)")


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = first_line(error)
        raise UserError(
            f"--device: {name} is not available on this machine: {reason} (allowed: auto, cpu, cuda, mps)"
        ) from None
    return device


def _square(side: int) -> str:
    return f"{side}x{side} pixels"
