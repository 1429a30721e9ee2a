"""What each shipped config costs: parameters, multiply-adds and memory in training; writes the table of docs/models.md.

    uv run python -m benchmarks.models

Nothing is computed and no GPU is needed: the networks run on fake CUDA tensors, which have shapes, types and storages
but no content, through the same mixed precision as in training.

- Multiply-adds (MACs): half of PyTorch's own count of floating point operations (torch.utils.flop_counter), which takes
  convolutions, matrix products and attention and leaves out norms, activations and resampling.
- Memory: weights, gradients and AdamW's two moments in float32 (16 bytes a trainable parameter, 4 a frozen one), and
  the tensors that autograd keeps between forward and backward, each storage once, for a batch as in the config.
  Added are two copies of the largest of them, for gradients on their way back, and 1 GiB for CUDA's context and the
  convolutions' work space. The loss is left out: a few numbers a pixel.
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
USABLE = 0.92  # of a card: the allocator's blocks never fit exactly
OVERHEAD = 1 * GIB
HALF = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}


def shipped() -> list[Path]:
    """Every config that comes with the project."""
    return sorted(CONFIGS.rglob("*.yml"))


@contextmanager
def without_storage() -> Iterator[None]:
    """Modules made in here have parameters on the meta device: no memory, and no time to draw random weights.

    Not `torch.device("meta")`, under which SMP's mix transformers can't read their own drop path rates.
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
    """The network of a config, all on the meta device, frozen as in training."""
    with without_storage():
        network = MODELS[config.segmentation_model_cls].build(config, None)
    if config.segmentation_config.freeze_encoder:
        network.encoder.requires_grad_(False)
    return network.to("meta")


class _FusedAttention(TorchFunctionMode):
    """Attention as a GPU would do it: fake tensors have no device to ask and would take the plain, wasteful way."""

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
    """What a config costs.

    Attributes:
        parameters: Of the network.
        trainable: Those that are not frozen.
        macs: Multiply-adds of one image of 1024² in evaluation mode.
        state: Bytes of weights, gradients and optimiser.
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
        """Estimate of the bytes that training takes on a GPU."""
        return self.state + self.saved + 2 * self.largest + OVERHEAD

    @property
    def card(self) -> int | None:
        """The smallest usual GPU, GB, that training fits in."""
        return next((gb for gb in CARDS if self.memory <= USABLE * gb * GIB), None)


def count_macs(config: Config, network: nn.Module, size: int = SIZE) -> int:
    """Multiply-adds of one image in evaluation mode; `network` is on fake or meta tensors."""
    network.eval()
    device = next(network.parameters()).device
    with torch.no_grad(), _FusedAttention(), FlopCounterMode(display=False) as counter:
        MODELS[config.segmentation_model_cls].run_network(
            network, torch.empty(1, config.num_bands, size, size, device=device)
        )
    return int(counter.get_total_flops()) // 2


def saved_for_backward(config: Config, network: nn.Module) -> list[int]:
    """Bytes of each storage that a training step keeps between forward and backward, parameters apart."""
    batch, size = config.batch, config.tile_size
    network.train()
    if config.segmentation_config.freeze_encoder:
        network.encoder.eval()  # type: ignore[union-attr]
    own = {parameter.untyped_storage()._cdata for parameter in network.parameters()}
    kept: dict[int, Tensor] = {}  # the tensors themselves: a storage that is gone would lend its address to the next

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    half = HALF.get(str(config.trainer.precision))
    torch.set_autocast_enabled("cuda", half is not None)  # torch.autocast would first look for a GPU
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
    """What training with this config costs."""
    network = build_empty(config)
    parameters = sum(p.numel() for p in network.parameters())
    trainable = sum(p.numel() for p in network.parameters() if p.requires_grad)
    with FakeTensorMode(allow_non_fake_inputs=True):
        network = network.to_empty(device="cuda")
        macs = count_macs(config, network)
        saved = saved_for_backward(config, network)
    return Cost(parameters, trainable, macs, 4 * parameters + 12 * trainable, sum(saved), max(saved))


def row(path: Path) -> str:
    """A row of the table."""
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
    """The table of all shipped configs, in Markdown."""
    head = "config, network, encoder, parameters (M), trainable (M), GMACs at 1024², batch, in training (GiB), GPU (GB)"
    rule = "|---|---|---|--:|--:|--:|--:|--:|--:|"
    return "\n".join(["| " + head.replace(", ", " | ") + " |", rule, *(row(path) for path in shipped())])


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the table of docs/models.md.")
    parser.add_argument("--print", action="store_true", help="only print it")
    found = table()
    if parser.parse_args().print:
        print(found)
        return
    text = PAGE.read_text(encoding="utf-8")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n\n{found}\n\n{END}{after}", encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
