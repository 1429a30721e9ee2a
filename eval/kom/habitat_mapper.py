"""Kelp-O-Matic's successor, habitat-mapper: installed in an environment of its own, run through its own command line.

It asks for onnxruntime-gpu, which is hundreds of megabytes and needs NVIDIA's libraries; onnxruntime gives it the same
modules and the same answers, so that takes its place.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from inference.card import ModelCard
from inference.common.errors import CheckFailed, UserError
from inference.model.signature import read_signature
from train.export.consumers import habitat_mapper as configuration

VERSION = "0.16.2"
"""Of habitat-mapper: what is known of its ways is known of this one."""
# A requirement that no Python meets takes a package out of the resolution (uv: "dependency overrides").
_OVERRIDE = "onnxruntime-gpu; python_version < '3'\n"


def default_environment() -> Path:
    """Where the environment is kept from one time to the next: in `HAKAI_CACHE_DIR`, else the user's cache folder."""
    chosen = os.environ.get("HAKAI_CACHE_DIR")
    base = Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("hakai-ml-train", appauthor=False))
    return base / f"habitat-mapper-{VERSION}"


def executable(environment: Path) -> Path:
    """The command `hab` of an environment."""
    return environment / ("Scripts/hab.exe" if os.name == "nt" else "bin/hab")


def install(environment: Path) -> None:
    """Makes an environment with habitat-mapper, unless it is there already.

    Raises:
        UserError: uv isn't there, or can't install it.
    """
    if executable(environment).is_file():
        return
    uv = shutil.which("uv")
    if uv is None:
        raise UserError("uv: not found (it installs habitat-mapper; or give an environment that has it: --environment)")
    _tell(f"installing habitat-mapper {VERSION} into {environment} (once)")
    try:
        environment.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=environment.parent, prefix=f".{environment.name}.") as folder:
            override = Path(folder) / "override.txt"
            override.write_text(_OVERRIDE)
            python = environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
            version = f"{sys.version_info.major}.{sys.version_info.minor}"
            _uv([uv, "venv", "--quiet", "--allow-existing", "--python", version, str(environment)])
            wanted = [f"habitat-mapper=={VERSION}", "onnxruntime>=1.20,<2"]
            options = ["--quiet", "--python", str(python), "--override", str(override)]
            _uv([uv, "pip", "install", *options, *wanted])
    except OSError as error:
        raise UserError(f"{environment}: can't be written to: {error.strerror or error} (--environment)") from None
    if not executable(environment).is_file():
        raise UserError(f"{environment}: has no command hab (remove the folder and try again)")


def installed_version(environment: Path) -> str:
    """The version of habitat-mapper in an environment, as its metadata say."""
    found = sorted(environment.glob("[Ll]ib/**/habitat_mapper-*.dist-info"))
    return (
        found[0].name.removeprefix("habitat_mapper-").removesuffix(".dist-info") if found else "of an unknown version"
    )


def _uv(command: Sequence[str]) -> None:
    # A project's own settings, such as a date that nothing may be newer than, are not this environment's.
    done = subprocess.run(command, capture_output=True, text=True, cwd=tempfile.gettempdir())
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        reason = lines[-1] if lines else f"exit code {done.returncode}"
        raise UserError(f"uv can't install habitat-mapper: {reason} (needed once; is there a network?)")


@dataclass(frozen=True)
class HabitatMapper:
    """An installed habitat-mapper that knows a model.

    Attributes:
        environment: Where it is installed.
        model: The ONNX file.
        card: Its card.
        name: Under which it knows the model.
    """

    environment: Path
    model: Path
    card: ModelCard
    name: str

    def map(self, image: Path, target: Path, blur: int = 0, morph: int = 0) -> None:
        """Maps an image.

        Args:
            image: A GeoTIFF.
            target: Its map.
            blur: Side of the median filter that it puts over the map; 0: none.
            morph: Side of its morphological opening and closing; 0: none.

        Raises:
            CheckFailed: It fails.
        """
        target.unlink(missing_ok=True)  # it may end with 0 and write nothing: an old map must not pass for a new one
        command = [str(executable(self.environment)), "segment", "--model", self.name, "--quiet"]
        command += ["--input", str(image.resolve()), "--output", str(target.resolve())]
        command += ["--blur", str(blur), "--morph", str(morph), "--crop-size", str(self.card.tile_size)]
        # It exits with 0 on an internal error unless DEBUG is set, and finds a model's files from where it runs.
        done = subprocess.run(
            command,
            cwd=self.model.resolve().parent,
            env={**os.environ, "DEBUG": "1", "COLUMNS": "200", "NO_COLOR": "1"},
            capture_output=True,
            text=True,
        )
        if done.returncode or not target.is_file():
            lines = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip(" │╭╮╰╯─\n")]
            raise CheckFailed(f"habitat-mapper can't map {image}: {lines[-1] if lines else 'it says nothing'}")


def refused(model: Path, card: ModelCard) -> str:
    """Why habitat-mapper can't run a model; empty where it can."""
    if model.suffix.lower() != ".onnx":
        return "it runs .onnx files only"
    if card.bands != list(range(1, len(card.bands) + 1)):
        return f"the model takes bands {card.bands}, it feeds the first ones"
    graph = read_signature(model)
    if graph.channels is None and card.channels > 1 and graph.class_indices:
        return "the model gives class numbers, it blends channels"
    return ""


@contextmanager
def registered(
    environment: Path, model: Path, card: ModelCard, card_file: Path | None = None
) -> Iterator[HabitatMapper]:
    """Makes a model known to habitat-mapper, which reads configurations from its own package folder only.

    Args:
        environment: Where habitat-mapper is installed.
        model: The ONNX file.
        card: Its card.
        card_file: JSON in place of the card that the file carries; habitat-mapper's own configuration is used as it is.

    Raises:
        UserError: The environment has no habitat-mapper.
    """
    found = sorted(environment.glob("[Ll]ib/**/habitat_mapper/configs"))
    if not found or not executable(environment).is_file():
        raise UserError(f"{environment}: has no habitat-mapper (leave --environment out to have it installed)")
    # A name of its own: another run may be comparing another file of the same model at the same time.
    name = f"judged-{uuid.uuid4().hex[:12]}"
    content = _configuration(model, card, card_file)
    # A model without a revision gets one: it is a required key. Its file is the one judged, not one to download.
    content |= {"name": name, "revision": content.get("revision") or "20000101"}
    content |= {"model_filename": model.name, "dependencies": [model.name]}
    path = found[0] / f"{name}.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    try:
        yield HabitatMapper(environment, model, card, name)
    finally:
        path.unlink(missing_ok=True)


def _configuration(model: Path, card: ModelCard, card_file: Path | None) -> dict[str, Any]:
    """habitat-mapper's configuration of a model: its own where there is one, else what the card says."""
    for path in (card_file, model.with_suffix(".json")):
        if path is not None and path.is_file():
            try:
                content: Any = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise UserError(f"{path}: can't be read as JSON ({error})") from None
            if isinstance(content, dict) and "model_filename" in content:
                return content
    made: dict[str, Any] = json.loads(configuration(card, model.name))
    return made


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
