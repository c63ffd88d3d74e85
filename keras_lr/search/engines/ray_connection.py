"""`RayConnection`: connects to a cluster, or to a Ray that runs here as long as a sweep."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any

import keras

CARRIED = ("KERAS_", "TF_", "XLA_", "JAX_")
"""Prefixes of the environment variables that workers get from this process."""

NOT_CARRIED = ("TF_CONFIG",)
"""Exceptions: this variable identifies one process of a TensorFlow cluster."""

THREADS = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"),
    *("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "NPROC"),
)
"""Environment variables that set how many threads the backends use; the last is for JAX."""


def import_ray() -> Any:
    """Return Ray.

    Raises:
        ImportError: If it is not installed; the message names the extra.
    """
    try:
        import ray
    except ImportError as error:
        raise ImportError("engine='ray' needs Ray: pip install 'keras-lr[ray]'") from error
    return ray


def worker_environment(cpus: int, gpus: float) -> dict[str, str]:
    """Return the environment variables of a worker.

    A worker imports from the folders that this process imports from, if its machine has them, and
    uses the same backend. It uses as many threads as it has CPUs: more would get in each other's
    way, which made PyTorch twelve times slower.

    Args:
        cpus: CPUs of the worker.
        gpus: GPUs of the worker; with a part of one, the rest of its memory is left to others.
    """
    environment = dict.fromkeys(THREADS, str(cpus))
    if not gpus:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    elif gpus < 1:
        environment["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
        environment["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{0.9 * gpus:.3f}"
    environment |= {
        name: value
        for name, value in os.environ.items()
        if name.startswith(CARRIED) and name not in (*NOT_CARRIED, *THREADS)
    }
    environment["PYTHONPATH"] = os.pathsep.join(_own_folders())
    return environment | {"KERAS_BACKEND": keras.backend.backend()}


def _own_folders() -> list[str]:
    """Return the folders from which this process imports what is not installed."""
    installed = tuple({sys.prefix, sys.base_prefix})
    folders = [os.path.abspath(folder) for folder in sys.path]
    return [folder for folder in folders if not folder.startswith(installed)]


class RayConnection:
    """Connection to the cluster that Ray is connected to, to another one, or to a new one here."""

    def __init__(self, address: str | None, cpus: int | None) -> None:
        """Connect.

        Args:
            address: Address of a cluster; None for the one that ``RAY_ADDRESS`` names, or else for
                one that starts here.
            cpus: CPUs of a cluster that starts here; None for those of the machine.

        Raises:
            ImportError: If Ray is not installed.
            ValueError: If Ray is connected to another cluster.
            ConnectionError: If there is no cluster at the address.
        """
        self._restore_process = _capture_process()
        self.ray = import_ray()
        self._is_ours = not self.ray.is_initialized()
        if not self._is_ours:
            self._check_address(address)
            return
        address = address or os.environ.get("RAY_ADDRESS") or "local"
        options: dict[str, Any] = {"address": address, "log_to_driver": False}
        if address == "local":
            options |= {"num_cpus": cpus, "include_dashboard": False}
        try:
            with warnings.catch_warnings():
                # JAX warns of each process that is started while it runs.
                warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
                self.ray.init(**options, logging_level="error")
        except BaseException:
            self.disconnect()
            raise

    def _check_address(self, address: str | None) -> None:
        connected = self.ray.get_runtime_context().gcs_address
        if address not in (None, "auto", connected):
            raise ValueError(
                "RayEngine: argument `address` must be that of the cluster which Ray is connected "
                f"to already, {connected}, or None. Received: address={address!r}"
            )

    def room(self, cpus: float, gpus: float) -> int:
        """Return how many workers the machines of the cluster have room for."""
        return sum(
            room_on(node["Resources"], cpus, gpus) for node in self.ray.nodes() if node["Alive"]
        )

    def has_gpus(self) -> bool:
        """Return whether a machine of the cluster has a GPU."""
        return bool(self.ray.cluster_resources().get("GPU"))

    def disconnect(self) -> None:
        """Leave Ray and this process as they were found."""
        if self._is_ours:
            self.ray.shutdown()
            self._restore_process()


def room_on(resources: dict[str, float], cpus: float, gpus: float) -> int:
    """Return how many workers a machine with some resources has room for."""
    room = int(resources.get("CPU", 0) // cpus)
    if not gpus:
        return room
    cards = resources.get("GPU", 0)
    # A worker with a part of a GPU has it on one card.
    return min(room, int(cards // gpus) if gpus >= 1 else int(cards) * int(1 / gpus + 1e-9))


def _capture_process() -> Callable[[], None]:
    """Return a function that undoes what Ray changes in the process that starts it."""
    environment, path, hook = dict(os.environ), list(sys.path), sys.excepthook
    handler = signal.getsignal(signal.SIGTERM)

    def restore() -> None:
        for name in os.environ.keys() - environment.keys():
            if name.startswith(("RAY_", "PYTHONBREAKPOINT")):
                del os.environ[name]
        sys.path[:], sys.excepthook = path, hook
        if threading.current_thread() is threading.main_thread() and handler is not None:
            with contextlib.suppress(ValueError):
                signal.signal(signal.SIGTERM, handler)

    return restore
