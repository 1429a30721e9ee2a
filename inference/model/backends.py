"""Back ends that run a network: ONNX Runtime, TorchScript and OpenVINO, behind one protocol.

A library is imported only when it is used. Results are float32 and the same on all back ends unless another precision
is requested; reduced precision that a library uses by default (TF32 on NVIDIA GPUs, bfloat16 in OpenVINO) is disabled.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from inference.common.cpu import EXACT_INT8_SUMS
from inference.common.errors import UserError, first_line
from inference.common.text import quoted
from inference.model.backend_checks import as_input, as_output, check_signature, failed, wrong_tile_size
from inference.model.compiled import compile_model
from inference.model.int8_sums import openvino_saturates
from inference.model.registry import BACKENDS, SUFFIXES
from inference.model.signature import load_session, read_signature, session_signature
from inference.options import DeviceName, PrecisionName


class Backend(Protocol):
    """A loaded network."""

    title: str
    """Library and version, device and precision, for the summary."""

    def __call__(self, pixels: NDArray[np.float32]) -> NDArray[Any]:
        """Run the network and return its first output.

        Args:
            pixels: (N, bands, tile, tile) float32 normalised tiles, C-contiguous.

        Raises:
            UserError: The network fails on these tiles.
        """
        ...


@dataclass(frozen=True)
class Request:
    """Model file and settings for a back end.

    Attributes:
        path: Path of the model.
        bands: Channels of the network's input.
        tile: Side of the tiles, pixels.
        batch: Largest number of tiles in a batch.
        device: Device to run on.
        precision: Precision to compute in.
        threads: Number of CPU threads.
        any_size: Whether the model's card allows tiles of any size.
        own_tile: Side of the tiles that the model was trained on, pixels.
        output_name: Output of the model that is the map; None for the first one.
        int8: Whether the model's card says that its layers are in 8-bit integers.
        raw: Type of the mosaic, if the tiles hold its own pixel values, as an integer input needs them; else None.
    """

    path: Path
    bands: int
    tile: int
    batch: int = 1
    device: DeviceName = "auto"
    precision: PrecisionName = "fp32"
    threads: int = 1
    any_size: bool = False
    own_tile: int | None = None
    output_name: str | None = None
    raw: str | None = None
    int8: bool = False

    @property
    def computes_in(self) -> str:
        """Precision for the title: that of a quantised model's other layers is the requested one."""
        return f"int8 (the model's own), the rest {self.precision}" if self.int8 else self.precision


def choose_backend(path: Path, name: str, precision: PrecisionName) -> str:
    """Choose the back end for a model file.

    Args:
        path: Model file.
        name: Key of `BACKENDS`, or auto.
        precision: Precision to compute in.

    Raises:
        UserError: The file and the back end, or the back end and the precision, don't fit each other.
    """
    suffix = path.suffix.lower()
    fitting = [row for row in BACKENDS.values() if suffix in row.suffixes]
    if not fitting:
        raise UserError(f"{path}: can't be run as a model (allowed: {', '.join(SUFFIXES)})")
    if name == "auto":
        row = next((row for row in fitting if precision in row.precisions), fitting[0])
    else:
        row = BACKENDS[name]
    if row not in fitting:
        allowed = ", ".join(row.name for row in fitting)
        raise UserError(f"--backend {row.name}: can't run {path.name} (allowed for {suffix}: {allowed})")
    if precision not in row.precisions:
        raise UserError(f"--precision {precision}: {row.otherwise}")
    if find_spec(row.library) is None:
        raise UserError(f"--backend {row.name}: needs {row.library}, which isn't installed ({row.install})")
    return row.name


def open_backend(name: str, request: Request) -> Backend:
    """Load a model.

    Raises:
        UserError: The model can't be read, takes other tiles, or the device or precision isn't available.
    """
    return cast(Backend, BACKENDS[name].load()(request))


class _OnnxRuntime:
    """ONNX Runtime back end."""

    def __init__(self, request: Request) -> None:
        import onnxruntime

        self._path = request.path
        device, providers = self._providers(request.device, onnxruntime.get_available_providers())
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = request.threads
        options.log_severity_level = 4  # errors are reported by the caller
        # Spinning threads are faster within a run; between runs they must not take the cores from the threads that
        # read, blend and write.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        options.add_session_config_entry(*EXACT_INT8_SUMS)
        self._session = load_session(request.path, options, providers)
        if device == "cuda" and "CUDAExecutionProvider" not in self._session.get_providers():
            if request.device == "cuda":
                raise UserError(
                    "--device cuda: ONNX Runtime can't use it (its CUDA and cuDNN libraries must be installed)"
                )
            device = "cpu"
        self._signature = session_signature(request.path, self._session, request.output_name)
        check_signature(self._signature, request)
        self._name, self._output = self._signature.input, self._signature.output
        self._bound = device == "cuda"
        precision = "fp16 (the model's own)" if self._signature.dtype == "float16" else request.computes_in
        self.title = f"onnxruntime {onnxruntime.__version__} on {device}, {precision}"

    @staticmethod
    def _providers(device: DeviceName, available: list[str]) -> tuple[str, list[Any]]:
        cpu: list[Any] = ["CPUExecutionProvider"]
        if device == "cuda" and "CUDAExecutionProvider" not in available:
            raise UserError(
                "--device cuda: this build of ONNX Runtime has no CUDA (pip install onnxruntime-gpu instead)"
            )
        if device == "mps" and "CoreMLExecutionProvider" not in available:
            raise UserError("--device mps: this build of ONNX Runtime has no CoreML (use --device cpu)")
        if device == "mps":
            return "mps", [
                ("CoreMLExecutionProvider", {"ModelFormat": "MLProgram", "MLComputeUnits": "CPUAndGPU"}),
                *cpu,
            ]
        if device != "cpu" and "CUDAExecutionProvider" in available:
            return "cuda", [("CUDAExecutionProvider", {"use_tf32": "0"}), *cpu]
        return "cpu", cpu

    def __call__(self, pixels: NDArray[np.float32]) -> NDArray[Any]:
        count = len(pixels)
        batch: NDArray[Any] = pixels
        if self._signature.batch is not None and count < self._signature.batch:
            batch = np.concatenate([pixels, np.repeat(pixels[-1:], self._signature.batch - count, axis=0)])
        batch = as_input(batch, self._signature.dtype)
        try:
            if self._bound:
                binding = self._session.io_binding()
                binding.bind_cpu_input(self._name, batch)
                binding.bind_output(self._output, "cpu")
                self._session.run_with_iobinding(binding)
                output = binding.copy_outputs_to_cpu()[0]
            else:
                output = self._session.run([self._output], {self._name: batch})[0]
        except Exception as error:  # no common base class
            raise failed(self._path, batch.shape, error) from error
        return as_output(self._path, self._output, output, len(batch))[:count]


class _TorchScript:
    """TorchScript back end."""

    def __init__(self, request: Request) -> None:
        import torch

        self._torch, self._path = torch, request.path
        self._device = self._choose(request.device)
        self._dtype = self._precision(request.precision)
        if request.tile != request.own_tile and not request.any_size:
            raise wrong_tile_size(request)
        self._threads, self._output_name = request.threads, request.output_name
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)
                module = torch.jit.load(str(request.path), map_location=self._device)  # type: ignore[no-untyped-call]
                module = module.eval().to(memory_format=torch.channels_last)
                # Frozen, and without the TorchScript optimiser, which compiles for seconds, it runs faster; but a
                # frozen module ignores autocast.
                self._module = torch.jit.freeze(module) if self._dtype is None else module
        except Exception as error:  # those of the C++ library, an IndexError among them, have no common base class
            raise UserError(f"{request.path}: can't be loaded as TorchScript ({first_line(error)})") from None
        self.title = f"torchscript, torch {torch.__version__} on {self._device}, {request.precision}"

    def _choose(self, device: DeviceName) -> str:
        torch = self._torch
        has = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        if device != "auto":
            if not has[device]:
                raise UserError(
                    f"--device {device}: not available on this machine (allowed: {', '.join(n for n in has if has[n])})"
                )
            return device
        return "cuda" if has["cuda"] else "cpu"

    def _precision(self, precision: PrecisionName) -> Any:
        torch = self._torch
        if precision == "fp32":
            return None
        if precision == "fp16":
            if self._device == "cpu":
                raise UserError("--precision fp16: not available on a CPU (allowed: fp32, bf16)")
            return torch.float16
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        if self._device == "cpu" and not native:
            raise UserError("--precision bf16: this CPU would only emulate it, slower than fp32 (use fp32)")
        return torch.bfloat16

    @contextmanager
    def _settings(self) -> Iterator[None]:
        """Apply PyTorch's global settings and restore them afterwards, for training in the same process."""
        torch = self._torch
        cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
        before = torch.get_num_threads(), cudnn.allow_tf32, matmul.allow_tf32
        torch.set_num_threads(self._threads)
        # On NVIDIA GPUs: full float32 instead of the 19 bits of TF32.
        cudnn.allow_tf32 = matmul.allow_tf32 = False
        try:
            yield
        finally:
            torch.set_num_threads(before[0])
            cudnn.allow_tf32, matmul.allow_tf32 = before[1:]

    def __call__(self, pixels: NDArray[np.float32]) -> NDArray[Any]:
        torch = self._torch
        try:
            with (
                self._settings(),
                torch.inference_mode(),
                torch.jit.optimized_execution(self._dtype is not None),
                torch.autocast(self._device, self._dtype, enabled=self._dtype is not None),
            ):
                batch = torch.from_numpy(pixels).to(self._device, memory_format=torch.channels_last)
                output = self._module(batch)
                if self._output_name is not None:
                    output = self._named(output)
                while not isinstance(output, torch.Tensor):
                    output = next(iter(output.values() if isinstance(output, dict) else output))
                if output.is_floating_point():
                    output = output.float()
                found: NDArray[Any] = output.cpu().contiguous().numpy()
        except (RuntimeError, TypeError, ValueError, LookupError, StopIteration, AttributeError) as error:
            raise failed(self._path, pixels.shape, error) from error
        return as_output(self._path, self._output_name or "", found, len(pixels))

    def _named(self, output: Any) -> Any:
        """Return the output that the card names, of a model that returns a dictionary."""
        names = list(output) if isinstance(output, dict) else []
        if self._output_name not in names:
            allowed = ", ".join(quoted(name) for name in names[:8]) or "null: its outputs have no names"
            raise UserError(
                f"{self._path}: has no output {quoted(self._output_name)}, which its card names as output_name "
                f"(allowed: {allowed})"
            )
        return output[self._output_name]


class _OpenVino:
    """OpenVINO back end."""

    def __init__(self, request: Request) -> None:
        import openvino

        self._path = request.path
        core = openvino.Core()
        if request.device not in {"auto", "cpu"}:
            raise UserError(f"--device {request.device}: OpenVINO runs on the CPU only (use --device cpu)")
        can = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        hint = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}[request.precision]
        if request.precision == "bf16" and "BF16" not in can:
            raise UserError("--precision bf16: this CPU would only emulate it, slower than fp32 (use fp32)")
        if request.precision == "fp16" and "FP16" not in can:
            raise UserError("--precision fp16: not available on this CPU (allowed: fp32, bf16 where the CPU has it)")
        if request.int8 and openvino_saturates(core):
            raise UserError(
                f"--backend openvino: {request.path.name} is in int8, whose sums overflow in OpenVINO on a CPU without "
                "VNNI, such as this one (use --backend onnxruntime, which is exact here too, or the float file)"
            )
        try:
            self._signature = read_signature(request.path, request.output_name)
            check_signature(self._signature, request)
            self._batch = self._signature.batch or request.batch
            options = {
                "INFERENCE_PRECISION_HINT": hint,
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_NUM_THREADS": request.threads,
                # The threads that read, blend and write need the cores too, as do other processes of a batch.
                "ENABLE_CPU_PINNING": False,
            }
            shape = [self._batch, request.bands, request.tile, request.tile]
            self._compiled = compile_model(core, request.path, shape, options)
        except RuntimeError as error:
            raise UserError(f"{request.path}: can't be loaded by OpenVINO ({first_line(error)})") from None
        self.title = f"openvino {openvino.__version__.partition('-')[0]} on cpu, {request.computes_in}"

    def __call__(self, pixels: NDArray[np.float32]) -> NDArray[Any]:
        count = len(pixels)
        if count < self._batch:
            pixels = np.concatenate([pixels, np.repeat(pixels[-1:], self._batch - count, axis=0)])
        try:
            result = self._compiled(as_input(pixels, self._signature.dtype), share_inputs=True)
        except RuntimeError as error:
            raise failed(self._path, pixels.shape, error) from error
        # Already a copy: outputs are shared only on request.
        output = result[self._signature.output]
        return as_output(self._path, self._signature.output, output, len(pixels))[:count]
