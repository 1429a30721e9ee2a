"""Which arithmetic a machine has natively."""

import torch


def device_kind(accelerator: str) -> str:
    """The device that an accelerator setting leads to: cpu, cuda or mps."""
    if accelerator in {"cpu", "mps"}:
        return accelerator
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if accelerator == "auto" and torch.backends.mps.is_available() else "cpu"


def native_precision(wanted: str, accelerator: str) -> tuple[str, str | None]:
    """The precision to train with: what is wanted, where the machine computes with it natively.

    Emulated 16-bit arithmetic is slower than 32 bits and no more exact.

    Returns:
        Lightning's name of the precision, and a notice where it isn't the one that was asked for.
    """
    if wanted not in {"16-mixed", "bf16-mixed"}:
        return "32-true", None
    device = device_kind(accelerator)
    if device == "cpu":
        # No CPU trains in float16; some have bfloat16.
        if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported():
            return (
                "bf16-mixed",
                None if wanted == "bf16-mixed" else "precision: this CPU has no float16; bf16-mixed is used",
            )
        return "32-true", f"precision: {wanted} is not native on this CPU; 32 bits are used"
    if device == "cuda" and wanted == "bf16-mixed" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return "32-true", "precision: bf16-mixed is not native on this GPU; 32 bits are used (16-mixed would be native)"
    if device == "mps" and wanted == "bf16-mixed":
        return "32-true", "precision: bf16-mixed is not native on this device; 32 bits are used"
    return wanted, None
