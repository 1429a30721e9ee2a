"""Template of a card for a model of another tool, filled in from the file as far as it tells."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.card import ModelCard
from inference.model.card_files import embedded_card
from inference.model.choose import check_model_file
from inference.model.signature import RAW_TYPES, Signature, inspection_session, session_signature

FILL_IN = "FILL IN: "
"""Start of a value that the user must replace; a card that still holds one is refused."""
_DEFAULT_TILE = 512
_LARGEST_TRIAL = 1024  # pixels; a larger tile isn't run


def card_template(model: Path | None) -> dict[str, Any]:
    """Return the fields of a card, in order, with `FILL_IN` and the meaning where only the user knows the value.

    Args:
        model: An .onnx or .pt file; its own card, if it has one, is the template. None: nothing is known.

    Raises:
        UserError: The model can't be read, or can't be run as a map.
    """
    if model is not None:
        check_model_file(model)
        if (card := embedded_card(model)) is not None:
            return card.model_dump(mode="json")
    known = _known(model) if model is not None and model.suffix.lower() == ".onnx" else {}
    if model is not None:
        known.setdefault("name", model.stem)
    fields = ModelCard.model_fields
    values: dict[str, Any] = {}
    for name, field in fields.items():
        if name in known:
            values[name] = known[name]
        elif field.is_required():
            values[name] = FILL_IN + (field.description or name)
        elif name in {"threshold", "background_index", "ground_sample_distance", "fill_value", "output", "any_size"}:
            values[name] = field.get_default(call_default_factory=True)
    return values


def _known(model: Path) -> dict[str, Any]:
    """Return the fields that an ONNX file tells by its signature, and its output by a trial."""
    session = inspection_session(model)
    signature = session_signature(model, session)
    known: dict[str, Any] = {"tile_size": signature.tile or _DEFAULT_TILE, "any_size": signature.tile is None}
    if signature.bands is not None:
        known["bands"] = list(range(1, signature.bands + 1))
    trial = _trial(session, signature)
    channels = signature.channels if trial is None or trial.ndim != 4 else int(trial.shape[1])
    if channels is not None and not signature.class_indices:
        known["class_names"] = ["background", *(f"class {number}" for number in range(1, max(2, channels)))]
        known["activation"] = "sigmoid" if channels == 1 else "softmax"
    if signature.dtype in RAW_TYPES and signature.bands is not None:
        known |= {"dtype": signature.dtype, "mean": [0.0] * signature.bands, "std": [1.0] * signature.bands}
        known["max_pixel_value"] = 1.0
    if trial is not None and trial.size:
        inside = bool(np.isfinite(trial).all() and trial.min() >= 0 and trial.max() <= 1)
        known["output"] = "probabilities" if inside else "logits"
    return known


def _trial(session: Any, signature: Signature) -> NDArray[Any] | None:
    """Run the network on noise and return its output; None if it can't be run or returns class indices."""
    tile = signature.tile or 64
    if signature.bands is None or signature.class_indices or tile > _LARGEST_TRIAL:
        return None
    noise = np.random.default_rng(0).normal(0, 20, (signature.batch or 1, signature.bands, tile, tile))
    if signature.dtype in RAW_TYPES:
        noise = np.abs(noise) * 5 % 256
    try:
        output = session.run([signature.output], {signature.input: noise.astype(signature.dtype)})[0]
    except Exception:  # ONNX Runtime's errors have no common base class; the user fills the field in
        return None
    return output if isinstance(output, np.ndarray) else None
