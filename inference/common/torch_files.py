"""Files that `torch.save` wrote: read without running any code in them, and with one line for each kind of damage.

All readers of checkpoints and of weights go through `read_torch_file`. PyTorch's `weights_only` refuses every class
that it doesn't know. Checkpoints of older versions of Lightning hold some that are plain containers; they are replaced
by the stand-ins of this module, whose code is all that runs.
"""

import pickle
import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from inference.common.documents import LARGEST_DOCUMENT, check_regular_file
from inference.common.errors import UserError, first_line
from inference.common.text import quoted

_REFUSED = re.compile(r"GLOBAL (\S+)|module (\S+) is blocked")
# PyTorch stores tensors uncompressed; a file that was zipped anew may be somewhat smaller than what it holds.
_LARGEST_RATIO = 10


class RefusedTypeError(Exception):
    """A type in a file is not among those that are read; the message is its name."""


class Attributes:
    """Stand-in for `argparse.Namespace`; what it holds becomes its attributes."""


class CallbackKey:
    """Stand-in for the classes of callbacks, which checkpoints of Lightning 1.4 and before use as keys."""


class NumpyType:
    """Stand-in for `numpy.dtype`, for types of numbers alone.

    Args:
        code: Code of the type, such as f8.
        options: Flags that NumPy writes and that don't matter here.
    """

    def __init__(self, code: str, *options: object) -> None:
        if not isinstance(code, str) or not re.fullmatch(r"b1|[iu][1248]|f[248]", code):
            raise RefusedTypeError(f"numpy.dtype({code!r})")
        self.dtype = np.dtype(code).newbyteorder("<")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Set the byte order, the second item of NumPy's state."""
        self.dtype = self.dtype.newbyteorder(">" if state[1] == ">" else "<")


def numpy_scalar(kind: NumpyType, content: bytes) -> float | int | bool:
    """Return the number that `numpy.core.multiarray.scalar` makes from its type and bytes."""
    number: float | int | bool = np.frombuffer(content, kind.dtype, 1)[0].item()
    return number


def path_text(*parts: str) -> str:
    """Return the text of a `pathlib` path; it is never used as one."""
    return "/".join(parts)


_STAND_INS: list[tuple[Callable[..., Any], str]] = [
    (Attributes, "argparse.Namespace"),
    (NumpyType, "numpy.dtype"),
    *((numpy_scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *((path_text, f"pathlib{part}.{name}Path") for part in ("", "._local") for name in ("Posix", "Windows", "")),
    *(
        (dict, f"{module}.AttributeDict")
        for module in (
            "pytorch_lightning.utilities.parsing",
            "lightning.pytorch.utilities.parsing",
            "lightning.fabric.utilities.data",
            "lightning_fabric.utilities.data",
        )
    ),
    *(
        (type(name, (CallbackKey,), {}), f"pytorch_lightning.callbacks.{module}.{name}")
        for module, name in (
            ("model_checkpoint", "ModelCheckpoint"),
            ("early_stopping", "EarlyStopping"),
            ("lr_monitor", "LearningRateMonitor"),
            ("gpu_stats_monitor", "GPUStatsMonitor"),
            ("progress", "ProgressBar"),
            ("stochastic_weight_avg", "StochasticWeightAveraging"),
        )
    ),
]
"""Stand-ins, and the full names that files give to what they replace."""


def read_torch_file(path: Path, torch: Any, kind: str = "a checkpoint", lazy: bool = False) -> Any:
    """Read a file that `torch.save` wrote, of tensors and plain containers.

    Args:
        path: Path of the file.
        torch: The module, imported by the caller: this package runs where PyTorch is not installed.
        kind: What the file should be, for messages.
        lazy: True to leave tensors on disk until they are used.

    Raises:
        UserError: The file is missing, damaged, of another kind, or holds more than tensors and plain containers.
    """
    check_regular_file(path)
    try:
        with path.open("rb") as file:
            start = file.read(64)
        if not start:
            raise UserError(f"{path}: is empty, not {kind} (copy it again)")
        start = start.lstrip()
        if start.startswith(b"<"):
            raise UserError(f"{path}: is a web page, not {kind} (download it again; a login may be needed)")
        if start.startswith(b"version https://git-lfs"):
            raise UserError(f"{path}: is a Git LFS pointer, not {kind} (fetch the file itself: git lfs pull)")
        archive = zipfile.is_zipfile(path)
        if archive:
            _check_archive(path, kind)
        with warnings.catch_warnings(), torch.serialization.safe_globals(_STAND_INS):
            warnings.simplefilter("ignore")  # about other pickle protocols; the errors below say what is wrong
            return torch.load(path, map_location="cpu", weights_only=True, mmap=lazy and archive)
    except UserError:
        raise
    except RefusedTypeError as error:
        raise _refused(path, str(error)) from None
    except pickle.UnpicklingError as error:
        if found := _REFUSED.search(str(error)):
            raise _refused(path, found[1] or found[2]) from None
        raise UserError(f"{path}: is not {kind}, or is damaged (give another file, or copy it again)") from None
    # A damaged pickle raises whatever its first wrong instruction meets: TypeError, IndexError, struct.error ...
    except Exception as error:
        raise UserError(
            f"{path}: can't be read as {kind}, it may be damaged or truncated: {_reason(error)} (copy it again)"
        ) from None


def _check_archive(path: Path, kind: str) -> None:
    """Check what a zip file holds, before PyTorch unpacks it into memory."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError):
        return  # PyTorch may read it nevertheless, and says what is wrong otherwise
    names = [entry.filename.rpartition("/")[2] for entry in entries]
    if "constants.pkl" in names:
        raise UserError(
            f"{path}: is a TorchScript archive, not {kind} (allowed: what torch.save writes; give the checkpoint that "
            "it was exported from)"
        )
    sizes = {"data.pkl": 0, "": 0}
    for name, entry in zip(names, entries, strict=True):
        sizes[name if name == "data.pkl" else ""] += entry.file_size
    if sizes["data.pkl"] > LARGEST_DOCUMENT or sizes[""] > _LARGEST_RATIO * path.stat().st_size:
        raise UserError(
            f"{path}: is not {kind}: unpacked, it has {sizes['data.pkl'] / 2**20:,.0f} MiB of structure and "
            f"{sizes[''] / 2**20:,.0f} MiB of data (allowed: {LARGEST_DOCUMENT // 2**20} MiB of structure, and "
            f"{_LARGEST_RATIO} times the file's size of data; give another file)"
        )


def _refused(path: Path, name: str) -> UserError:
    return UserError(
        f"{path}: refused: it holds {quoted(name)}, and reading it could run code (allowed: weights and plain data; "
        "where the file was made, save the weights alone: torch.save(model.state_dict(), FILE))"
    )


def _reason(error: Exception) -> str:
    """Return what is wrong with a file, in the words of its reader where they are of use."""
    if not isinstance(error, RuntimeError | OSError | MemoryError):
        return "its structure is broken"
    # PyTorch's advice follows in further sentences; some of it is to switch its safety off.
    reason = first_line(error).partition(". ")[0]
    return type(error).__name__ if "weights_only" in reason else reason
