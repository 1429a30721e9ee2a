"""Parameters, multiply-adds and training memory of each shipped config: the table of docs/models.md.

    uv run python -m benchmarks.models

The numbers are counted, not measured, and need no GPU: the networks run on fake CUDA tensors, which have shapes, types
and storages but no content, with the same mixed precision as in training.

- Multiply-adds (MACs): half of PyTorch's own count of floating point operations (torch.utils.flop_counter), which
counts
  convolutions, matrix products and attention, but not norms, activations and resampling.
- Memory: weights, gradients and AdamW's two moments in float32 (16 bytes a trainable parameter, 4 a frozen one), and
  the tensors that autograd keeps between forward and backward, each storage once, for a batch as in the config, plus
  two copies of the largest of them for gradients in the backward pass, plus 1 GiB for the CUDA context and the
  workspace of convolutions. The loss is not counted; it needs a few numbers per pixel.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from train.configs.config import Config
from train.configs.loader import load_config
from train.model import MODELS

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "train" / "configs"
PAGE = ROOT / "docs" / "models.md"
BEGIN, END = "<!-- table: python -m benchmarks.models -->", "<!-- end of table -->"
SIZE = 1024
GIB = 2**30
CARDS = (8, 12, 16, 24, 48, 80)  # GB as sold; a 24 GB card shows 23.6 to 24 GiB
USABLE = 0.92  # usable share of a card: the blocks of the allocator do not fit exactly
OVERHEAD = 1 * GIB
HALF = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}


def shipped() -> list[Path]:
    """Return the paths of all shipped configs of training runs."""
    return sorted(path for path in CONFIGS.rglob("*.yml") if not path.name.startswith("prepare"))


@contextmanager
def without_storage() -> Iterator[None]:
    """Create parameters on the meta device inside a `with` block, without memory or time for random weights.

    `torch.device("meta")` would not do: with it, SMP's mix transformers can't read their drop path rates.
    """
    register = nn.Module.register_parameter

    def registered(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None and not parameter.is_meta:
            parameter = nn.Parameter(parameter.to("meta"), parameter.requires_grad)
        register(module, name, parameter)

    nn.Module.register_parameter = registered  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


def build_empty(config: Config) -> nn.Module:
    """Build the network of a config on the meta device, frozen as in training."""
    with without_storage():
        network = MODELS[config.segmentation_model_cls].build(config, None)
    if config.segmentation_config.freeze_encoder:
        network.encoder.requires_grad_(False)
    return network.to("meta")


class _FusedAttention(TorchFunctionMode):
    """Attention with the kernels of a GPU; for fake tensors PyTorch would choose one that needs more memory."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is not F.scaled_dot_product_attention:
            return func(*args, **kwargs)
        query, key, value = args[:3]
        mask = args[3] if len(args) > 3 else kwargs.get("attn_mask")
        if torch.is_autocast_enabled("cuda"):
            half = torch.get_autocast_dtype("cuda")
            query, key, value = query.to(half), key.to(half), value.to(half)
            mask = mask if mask is None or mask.dtype == torch.bool else mask.to(half)
        if mask is None:
            return torch.ops.aten._scaled_dot_product_flash_attention(query, key, value)[0]
        mask = mask.expand(*query.shape[:-1], key.shape[-2])
        return torch.ops.aten._scaled_dot_product_efficient_attention(query, key, value, mask, True)[0]


@dataclass(frozen=True)
class Cost:
    """Cost of training with a config.

    Attributes:
        parameters: Number of parameters.
        trainable: Number of parameters that are not frozen.
        macs: Multiply-adds for one image of 1024² pixels in evaluation mode.
        state: Bytes of weights, gradients and optimiser state.
        saved: Bytes that autograd keeps for one batch.
        largest: Bytes of the largest tensor among them.
    """

    parameters: int
    trainable: int
    macs: int
    state: int
    saved: int
    largest: int

    @property
    def memory(self) -> int:
        """Estimated bytes that training needs on a GPU."""
        return self.state + self.saved + 2 * self.largest + OVERHEAD

    @property
    def card(self) -> int | None:
        """Memory of the smallest usual GPU that suffices, GB; None if none does."""
        return next((gb for gb in CARDS if self.memory <= USABLE * gb * GIB), None)


def count_macs(config: Config, network: nn.Module, size: int = SIZE) -> int:
    """Count the multiply-adds for one image in evaluation mode; `network` has fake or meta tensors."""
    network.eval()
    device = next(network.parameters()).device
    with torch.no_grad(), _FusedAttention(), FlopCounterMode(display=False) as counter:
        MODELS[config.segmentation_model_cls].run_network(
            network, torch.empty(1, config.num_bands, size, size, device=device)
        )
    return int(counter.get_total_flops()) // 2


def saved_for_backward(config: Config, network: nn.Module) -> list[int]:
    """Return the bytes of each storage that is kept between forward and backward, without parameters."""
    batch, size = config.batch, config.tile_size
    network.train()
    if config.segmentation_config.freeze_encoder:
        network.encoder.eval()  # type: ignore[union-attr]
    own = {parameter.untyped_storage()._cdata for parameter in network.parameters()}
    kept: dict[int, Tensor] = {}  # keeps the tensors alive, so that no address is reused

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    half = HALF.get(str(config.trainer.precision))
    torch.set_autocast_enabled("cuda", half is not None)  # torch.autocast would look for a GPU first
    try:
        if half is not None:
            torch.set_autocast_dtype("cuda", half)
        image = torch.empty(batch, config.num_bands, size, size, device="cuda")
        with _FusedAttention(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            logits = MODELS[config.segmentation_model_cls].run_network(network, image)
            logits.float().square().mean()
    finally:
        torch.set_autocast_enabled("cuda", False)
        torch.clear_autocast_cache()
    return [tensor.untyped_storage().nbytes() for storage, tensor in kept.items() if storage not in own]


def measure(config: Config) -> Cost:
    """Count the cost of training with a config."""
    network = build_empty(config)
    parameters = sum(p.numel() for p in network.parameters())
    trainable = sum(p.numel() for p in network.parameters() if p.requires_grad)
    with FakeTensorMode(allow_non_fake_inputs=True):
        network = network.to_empty(device="cuda")
        macs = count_macs(config, network)
        saved = saved_for_backward(config, network)
    return Cost(parameters, trainable, macs, 4 * parameters + 12 * trainable, sum(saved), max(saved))


def row(path: Path) -> str:
    """Return a row of the table."""
    config = load_config(path, ["segmentation_config.opts.encoder_weights=null"]).config
    network = config.segmentation_config
    cost = measure(config)
    encoder = "Swin" if network.backbone == "na" else str(network.backbone).removeprefix("tu-")
    cells = (
        f"`{path.relative_to(CONFIGS).as_posix()}`",
        network.architecture,
        encoder + (", frozen" if network.freeze_encoder else ""),
        f"{cost.parameters / 1e6:.1f}",
        f"{cost.trainable / 1e6:.1f}",
        f"{cost.macs / 1e9:.0f}",
        f"{config.batch} × {config.tile_size}²",
        f"{cost.memory / GIB:.1f}",
        f"{cost.card or '> 80'}",
    )
    return "| " + " | ".join(map(str, cells)) + " |"


def table() -> str:
    """Return the table of all shipped configs in Markdown."""
    head = "config, network, encoder, parameters (M), trainable (M), GMACs at 1024², batch, in training (GiB), GPU (GB)"
    rule = "|---|---|---|--:|--:|--:|--:|--:|--:|"
    return "\n".join(["| " + head.replace(", ", " | ") + " |", rule, *(row(path) for path in shipped())])


def main() -> None:
    """Write the table into docs/models.md, or print it."""
    parser = argparse.ArgumentParser(description="Write the table of docs/models.md.")
    parser.add_argument("--print", action="store_true", help="only print it")
    only_print = parser.parse_args().print
    found = table()
    if only_print:
        print(found)
        return
    text = PAGE.read_text(encoding="utf-8")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n\n{found}\n\n{END}{after}", encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
