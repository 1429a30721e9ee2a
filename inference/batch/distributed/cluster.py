"""Ray itself: start or connection, its quiet settings, and its workers."""

import contextlib
import os
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inference.batch.distributed.actor import CONTROL, Actor
from inference.batch.distributed.options import INSTALL, LOCAL, RayOptions
from inference.batch.distributed.share import Node, Share, divide
from inference.common.cpu import cores
from inference.common.errors import UserError, first_line
from inference.common.signals import STOP_SIGNALS
from inference.options import Options

_STORE_BYTES = 100 * 2**20  # Ray's shared memory, which holds jobs and outcomes alone
_CONNECT_SECONDS = 10.0
_LOOPBACK = "127.0.0.1"
_PACKAGE = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Cluster:
    """Ray that runs.

    Attributes:
        ray: The module.
        share: Share of each worker.
        new_worker: Starts a worker; returns a handle of `Actor`.
    """

    ray: Any
    share: Share
    new_worker: Callable[[], Any]


@contextlib.contextmanager
def open_cluster(settings: RayOptions, options: Options, needed: Sequence[Path]) -> Iterator[Cluster]:
    """Start or join Ray; on leaving, all workers are ended, and so is a Ray that was started.

    A Ray that this process has started or joined before is used, and stays.

    Args:
        settings: Options of Ray.
        options: Options of the maps.
        needed: Files that each worker must see.

    Raises:
        UserError: There is no such cluster, or it can't be joined, or its workers would lack a GPU.
    """
    ray = _import()
    if _PACKAGE.name != "inference":
        raise UserError(f"--ray: {_PACKAGE} must be called inference, so that workers find it (rename it)")
    with contextlib.ExitStack() as stack:
        environment = {"PYTHONPATH": _search_path(), "CPL_LOG": os.devnull}
        own = not ray.is_initialized() and settings.address == LOCAL
        if not ray.is_initialized():
            _join(ray, settings, options, environment if own else {}, stack)
        alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        nodes = [Node(each["CPU"], each.get("GPU", 0.0)) for each in alive if each.get("CPU")]
        share = divide(nodes, settings, options.threads, options.device)
        if settings.address == LOCAL and share.gpus and not share.room:
            raise UserError(
                f"--gpus-per-worker: {share.gpus:g}, but Ray finds {sum(node.gpus for node in nodes):g} GPUs on this "
                "machine (leave it out)"
            )
        remote = ray.remote(
            num_cpus=share.threads,
            num_gpus=share.gpus,
            scheduling_strategy="SPREAD",
            concurrency_groups={CONTROL: 2},
            # Workers of a Ray that was started here have it already, and those that wait can be used.
            runtime_env=None if own else {"env_vars": environment},
        )(Actor)
        files = [str(path.absolute()) for path in needed]
        yield Cluster(ray, share, lambda: remote.remote(str(Path.cwd()), files))


def _import() -> Any:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # or it would report to a server
    try:
        import ray
    except ImportError:
        raise UserError(INSTALL) from None
    return ray


def _join(
    ray: Any, settings: RayOptions, options: Options, environment: Mapping[str, str], stack: contextlib.ExitStack
) -> None:
    """Start Ray, with environment variables, or join a cluster; have it left when the stack is closed."""
    more: dict[str, Any] = {}
    _check_address(settings.address)
    if settings.address == LOCAL:
        folder = tempfile.mkdtemp(prefix="ray-")
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        more = {
            "num_cpus": max(cores(), (settings.workers or 1) * (options.threads or 1)),
            "include_dashboard": False,
            "object_store_memory": _STORE_BYTES,
            "_node_ip_address": _LOOPBACK,
            "_temp_dir": folder,
        }
    stack.callback(ray.shutdown)
    handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    before = {name: os.environ.get(name) for name in environment}
    try:
        os.environ.update(environment)
        ray.init(address=settings.address, log_to_driver=False, logging_level="ERROR", **more)
    except Exception as error:  # of many types; one is `Exception` itself
        what, fix = "can't be started", " (try again when this machine is less busy)"
        if settings.address != LOCAL:
            what = f"can't join {settings.address}"
            fix = " (check the address; Ray and Python must have the versions of the cluster)"
        raise UserError(f"--ray: {what}: {first_line(error)}{fix}") from None
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():  # Ray replaces them
                signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _check_address(address: str) -> None:
    """Check that something listens at an address, for which Ray itself would wait for minutes.

    Raises:
        UserError: Nothing does.
    """
    host, _, port = address.rpartition(":")
    if host:
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS):
                return
        except (OSError, OverflowError) as error:
            raise UserError(
                f"--ray: can't join {address}: {first_line(error)} (check the address, and that the cluster runs)"
            ) from None


def _search_path() -> str:
    """Return PYTHONPATH of the workers: the project at its place on this machine, then what this process has."""
    return os.pathsep.join(filter(None, (str(_PACKAGE.parent), os.environ.get("PYTHONPATH"))))
