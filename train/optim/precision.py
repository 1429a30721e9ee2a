"""Numerical precision of training: what the device computes natively."""

import torch


def device_kind(accelerator: str) -> str:
    """Return the type of device that an accelerator setting selects: cpu, cuda or mps."""
    if accelerator in {"cpu", "mps"}:
        return accelerator
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if accelerator == "auto" and torch.backends.mps.is_available() else "cpu"


def native_precision(requested: str, accelerator: str) -> tuple[str, str | None]:
    """Choose the precision to train with: the requested one where the device computes it natively, else 32 bits.

    Emulated 16-bit arithmetic is slower than 32 bits and no more accurate.

    Args:
        requested: `trainer.precision` of the config.
        accelerator: `trainer.accelerator` of the config.

    Returns:
        Lightning's name of the precision, and a notice for the user where it isn't the requested one.
    """
    if requested not in {"16-mixed", "bf16-mixed"}:
        return "32-true", None
    device = device_kind(accelerator)
    if device == "cpu":
        # No CPU trains in float16; some have bfloat16.
        if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported():
            return (
                "bf16-mixed",
                None if requested == "bf16-mixed" else "precision: this CPU can't compute in float16; using bf16-mixed",
            )
        return "32-true", f"precision: {requested} is not native on this CPU; using 32 bits"
    if device == "cuda" and requested == "bf16-mixed" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return "32-true", "precision: bf16-mixed is not native on this GPU; using 32 bits (16-mixed would be native)"
    if device == "mps" and requested == "bf16-mixed":
        return "32-true", "precision: bf16-mixed is not native on this device; using 32 bits"
    return requested, None
