"""Division of a cluster's CPUs and GPUs among the workers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from inference.batch.distributed.options import RayOptions
from inference.common.errors import UserError
from inference.options import DeviceName, Options

CPUS_A_WORKER = 4
"""CPUs of a worker without a GPU, by default: reading, blending and writing take one thread each beside the network."""
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Node:
    """Machine of a cluster: what it lends to the workers.

    Attributes:
        cpus: Number of CPUs.
        gpus: Number of GPUs.
    """

    cpus: float
    gpus: float = 0.0


@dataclass(frozen=True)
class Share:
    """Share of each worker.

    Attributes:
        workers: Number of workers.
        threads: CPU threads of each.
        gpus: GPUs of each.
        room: Number of workers that the cluster has room for.
    """

    workers: int
    threads: int
    gpus: float
    room: int

    def options(self, options: Options) -> Options:
        """Return the options of a map as a worker has them: with its threads, and on the device that it was given."""
        device: DeviceName = "cpu" if options.device == "auto" and not self.gpus else options.device
        return replace(options, threads=self.threads, device=device)


def divide(nodes: Sequence[Node], options: RayOptions, threads: int | None, device: str) -> Share:
    """Divide a cluster among the workers.

    Args:
        nodes: The machines.
        options: Number of workers and GPUs of each, where the user chose them.
        threads: Threads of each worker; None for as many as all workers can have alike.
        device: Option --device.

    Raises:
        UserError: The device is a GPU, and the workers have none.
    """
    gpus = options.gpus
    if gpus is None:
        gpus = 1.0 if device in ("auto", "cuda") and any(node.gpus >= 1 for node in nodes) else 0.0
    if device == "cuda" and not gpus:
        raise UserError("--device cuda: the workers have no GPU (give each one with --gpus-per-worker 1)")
    workers = options.workers
    if workers is None:
        each = threads or CPUS_A_WORKER
        found = (_fitting(node.gpus, gpus) if gpus else max(1, int(node.cpus // each)) for node in nodes if node.cpus)
        workers = max(1, sum(found))
    if threads is None:
        most = max((int(node.cpus) for node in nodes), default=1)
        fitting = (n for n in range(most, 0, -1) if _room(nodes, n, gpus) >= workers)
        threads = next(fitting, 1)
    return Share(workers, threads, gpus, _room(nodes, threads, gpus))


def _room(nodes: Sequence[Node], threads: int, gpus: float) -> int:
    """Return the number of workers that find their CPUs and GPUs on one machine."""
    by_cpus = [int(node.cpus // threads) for node in nodes]
    if not gpus:
        return sum(by_cpus)
    return sum(min(cpus, _fitting(node.gpus, gpus)) for cpus, node in zip(by_cpus, nodes, strict=True))


def _fitting(gpus: float, share: float) -> int:
    """Return how many workers a machine's GPUs suffice for; a share below 1 is of a single GPU."""
    return int(gpus) * int(1 / share + _ROUNDING) if share < 1 else int(gpus // share)
