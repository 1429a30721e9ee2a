"""habitat-mapper, the successor of Kelp-O-Matic: installation in a separate environment, and use by its command line.

Its requirement onnxruntime-gpu is replaced with onnxruntime, which has the same modules and gives the same results on a
CPU, without hundreds of megabytes of files and NVIDIA's libraries.
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
from inference.common.documents import read_json
from inference.common.errors import CheckFailed, UserError
from inference.common.paths import user_path
from inference.common.text import print_line
from inference.model.card_files import is_habitat_mapper_config
from inference.model.signature import read_signature
from train.export.consumers import habitat_mapper_config as configuration

VERSION = "0.16.2"
"""Version of habitat-mapper whose differences from inference.py are known."""
# A marker that no Python meets removes a package from the resolution (uv: "dependency overrides").
_OVERRIDE = "onnxruntime-gpu; python_version < '3'\n"


def default_environment() -> Path:
    """Return the folder of the environment: in `HAKAI_CACHE_DIR`, else in the user's cache folder."""
    chosen = os.environ.get("HAKAI_CACHE_DIR")
    base = (
        user_path(chosen, "HAKAI_CACHE_DIR")
        if chosen
        else Path(platformdirs.user_cache_dir("hakai-ml-train", appauthor=False))
    )
    return base / f"habitat-mapper-{VERSION}"


def executable(environment: Path) -> Path:
    """Return the path of the command `hab` of an environment."""
    return environment / ("Scripts/hab.exe" if os.name == "nt" else "bin/hab")


def install(environment: Path) -> None:
    """Create an environment with habitat-mapper, unless it exists.

    Raises:
        UserError: uv is missing, or the installation fails.
    """
    if executable(environment).is_file():
        return
    uv = shutil.which("uv")
    if uv is None:
        raise UserError(
            "uv: not found (install uv, or give an environment that contains habitat-mapper: --environment DIR)"
        )
    print_line(f"installing habitat-mapper {VERSION} into {environment} (once)")
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
        raise UserError(
            f"{environment}: can't be written to: {error.strerror or error} (choose another with --environment)"
        ) from None
    if not executable(environment).is_file():
        raise UserError(f"{environment}: no command hab after the installation (remove the folder and try again)")


def installed_version(environment: Path) -> str:
    """Return the version of habitat-mapper in an environment, from its package metadata."""
    found = sorted(environment.glob("[Ll]ib/**/habitat_mapper-*.dist-info"))
    return (
        found[0].name.removeprefix("habitat_mapper-").removesuffix(".dist-info") if found else "of an unknown version"
    )


def _uv(command: Sequence[str]) -> None:
    # Run outside the project, whose uv settings (such as `exclude-newer`) must not apply to this environment.
    done = subprocess.run(command, capture_output=True, text=True, cwd=tempfile.gettempdir())
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        reason = lines[-1] if lines else f"exit code {done.returncode}"
        raise UserError(
            f"uv can't install habitat-mapper: {reason} (the installation needs a network connection, once)"
        )


@dataclass(frozen=True)
class HabitatMapper:
    """Installed habitat-mapper with a registered model.

    Attributes:
        environment: Folder of the environment.
        model: ONNX file.
        card: Card of the model.
        name: Name under which the model is registered.
    """

    environment: Path
    model: Path
    card: ModelCard
    name: str

    def map(self, image: Path, target: Path, blur: int = 0, morph: int = 0) -> None:
        """Map an image.

        Args:
            image: GeoTIFF.
            target: Path for the map.
            blur: Side of the median filter applied to the map, pixels; 0: none.
            morph: Side of the morphological opening and closing, pixels; 0: none.

        Raises:
            CheckFailed: habitat-mapper fails or writes no map.
        """
        target.unlink(missing_ok=True)  # habitat-mapper may exit with 0 and write nothing: remove an old map first
        command = [str(executable(self.environment)), "segment", "--model", self.name, "--quiet"]
        command += ["--input", str(image.resolve()), "--output", str(target.resolve())]
        command += ["--blur", str(blur), "--morph", str(morph), "--crop-size", str(self.card.tile_size)]
        # It exits with 0 on an internal error unless DEBUG is set, and looks for model files in its working directory.
        done = subprocess.run(
            command,
            cwd=self.model.resolve().parent,
            env={**os.environ, "DEBUG": "1", "COLUMNS": "200", "NO_COLOR": "1"},
            capture_output=True,
            text=True,
        )
        if done.returncode or not target.is_file():
            lines = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip(" │╭╮╰╯─\n")]
            raise CheckFailed(
                f"habitat-mapper can't map {image}: {lines[-1] if lines else 'it wrote no map and no message'}"
            )


def refusal(model: Path, card: ModelCard) -> str:
    """Return the reason why habitat-mapper can't run a model; empty if it can."""
    if model.suffix.lower() != ".onnx":
        return "it runs .onnx files only"
    if card.bands != list(range(1, len(card.bands) + 1)):
        return f"the model reads bands {card.bands}, habitat-mapper the first {len(card.bands)}"
    signature = read_signature(model)
    if signature.channels is None and card.channels > 1 and signature.class_indices:
        return "the model returns class indices, habitat-mapper needs one channel per class"
    return ""


@contextmanager
def registered(
    environment: Path, model: Path, card: ModelCard, card_file: Path | None = None
) -> Iterator[HabitatMapper]:
    """Register a model with habitat-mapper for the duration of a `with` block.

    habitat-mapper reads model configurations only from its own package folder, so a file is added there and removed
    afterwards.

    Args:
        environment: Folder of the environment.
        model: ONNX file.
        card: Card of the model.
        card_file: JSON file used in place of the embedded card; a habitat-mapper configuration is used unchanged.

    Raises:
        UserError: The environment does not contain habitat-mapper.
    """
    found = sorted(environment.glob("[Ll]ib/**/habitat_mapper/configs"))
    if not found or not executable(environment).is_file():
        raise UserError(f"{environment}: does not contain habitat-mapper (omit --environment to install it)")
    # A unique name, because another comparison may run at the same time.
    name = f"comparison-{uuid.uuid4().hex[:12]}"
    content = _configuration(model, card, card_file)
    # `revision` is a required key. `dependencies` names the local file, so that nothing is downloaded.
    content |= {"name": name, "revision": content.get("revision") or "20000101"}
    content |= {"model_filename": model.name, "dependencies": [model.name]}
    path = found[0] / f"{name}.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    try:
        yield HabitatMapper(environment, model, card, name)
    finally:
        path.unlink(missing_ok=True)


def _configuration(model: Path, card: ModelCard, card_file: Path | None) -> dict[str, Any]:
    """Return habitat-mapper's configuration of a model: the file beside it if there is one, else made from the card."""
    for path in (card_file, model.with_suffix(".json")):
        if path is not None and path.is_file():
            content: Any = read_json(path)
            if is_habitat_mapper_config(content):
                return dict(content)
    made: dict[str, Any] = json.loads(configuration(card, model.name))
    return made
