"""Executing a study's runs on the workers of a Ray cluster, or on several workers of one machine."""

from __future__ import annotations

import logging
import os
import platform
import socket
import tempfile
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import KW_ONLY, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from rankselect.errors import ArgumentError, MissingExtraError, first_sentence
from rankselect.study.executors import Executor
from rankselect.study.run import RunResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rankselect.study.run import Run

__all__ = ["RayExecutor"]

logger = logging.getLogger(__name__)

_MARK = ".shared-"
_OBJECT_STORE = 100 * 2**20  # bytes; results are small
_SECONDS_TO_REACH = 5.0
_SECONDS_TO_STOP = 10.0


@final
@dataclass(frozen=True)
class RayExecutor(Executor):
    """Executes runs in parallel, each in a Ray worker process.

    The study's folder must be shared: every machine of the cluster must see it under the same path, and must have the
    same version of rankselect and its dependencies installed. Workers resolve relative paths against the calling
    process's working directory, if they have that directory. If a worker dies (killed, out of memory, machine lost),
    its run is repeated. Ctrl-C cancels the runs in progress; finished runs are kept.

    Attributes:
        address: None starts Ray on this machine, ``"host:port"`` joins a running cluster, and ``"auto"`` joins the
            cluster given by ``RAY_ADDRESS`` or running on this machine. If this process is already connected to Ray,
            that connection is used and left open.
        gpus_per_run: GPUs per run; below 1, several runs share a GPU. None means one if there are any.
        cpus_per_run: CPU cores per run. Ray also limits a run to this number of threads, unless ``OMP_NUM_THREADS`` is
            set where Ray was started. With 2, a machine with 8 cores executes 4 runs at a time.
        max_retries: How often a run is repeated after its worker died.

    Raises:
        ArgumentError: If a number is out of range; in `run`, if there is no cluster at the address, no machine has
            the resources for a run, or a worker does not see the study's folder.
        MissingExtraError: If Ray is not installed.

    References:
        Moritz et al., "Ray: A Distributed Framework for Emerging AI Applications", OSDI 2018, arXiv:1712.05889.

    Example:
        >>> executor = RayExecutor("10.0.0.1:6379", gpus_per_run=1)  # doctest: +SKIP
        >>> study.run(executor=executor)  # doctest: +SKIP
    """

    address: str | None = None
    _: KW_ONLY
    gpus_per_run: float | None = None
    cpus_per_run: float = 1
    max_retries: int = 3

    def __post_init__(self) -> None:
        least = {"gpus_per_run": self.gpus_per_run or 0, "cpus_per_run": self.cpus_per_run}
        for name, value in {**least, "max_retries": self.max_retries}.items():
            if not value >= 0:
                raise ArgumentError(f"{name} of at least 0", repr(value), "Give a larger number.")
        if self.gpus_per_run is not None and self.gpus_per_run > 1 and self.gpus_per_run % 1:
            raise ArgumentError(
                "a fraction of one GPU or a whole number of GPUs", repr(self.gpus_per_run), "Round gpus_per_run."
            )
        _ray()

    def run(self, work: Callable[[Run], RunResult], runs: Sequence[Run]) -> Iterator[RunResult]:
        """Execute all runs, as many at a time as the resources allow.

        Args:
            work: A function that executes a run. It can be pickled. Every `Path` bound to it with `functools.partial`
                must be a folder that all workers share.
            runs: The runs to execute.

        Yields:
            The results, in the order in which the runs finish. A run fails if its worker dies more than `max_retries`
            times.
        """
        if not runs:
            return
        with _connected(self.address) as ray, _shared(work) as (shared, marks):
            resources = self._resources(ray)
            do = ray.remote(**resources, max_retries=0)(_do)
            yield from _Queue(ray, partial(do.remote, shared, Path.cwd(), marks), self.max_retries).results(runs)

    def _resources(self, ray: Any) -> dict[str, float]:
        """The resources of a run, after checking that a machine has them: Ray would wait for them forever."""
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        gpus = self.gpus_per_run
        if gpus is None:
            gpus = float(any(machine.get("GPU", 0) >= 1 for machine in machines))
        if not any(
            machine.get("GPU", 0) >= gpus and machine.get("CPU", 0) >= self.cpus_per_run for machine in machines
        ):
            found = [f"{machine.get('GPU', 0):g} GPUs and {machine.get('CPU', 0):g} cores" for machine in machines]
            raise ArgumentError(
                f"a machine with {gpus:g} GPUs and {self.cpus_per_run:g} CPU cores for a run",
                f"machines with {'; '.join(found)}",
                "Lower gpus_per_run or cpus_per_run, or add such a machine to the cluster.",
            )
        return {"num_gpus": gpus, "num_cpus": self.cpus_per_run}


@final
class _Queue:
    """The runs submitted to Ray, by their object references."""

    def __init__(self, ray: Any, submit: Callable[[Run], Any], max_retries: int) -> None:
        self.ray, self.submit, self.max_retries = ray, submit, max_retries
        self.waiting: dict[Any, Run] = {}
        self.deaths: Counter[str] = Counter()

    def results(self, runs: Sequence[Run]) -> Iterator[RunResult]:
        try:
            self.waiting = {self.submit(run): run for run in runs}
            while self.waiting:
                (ready,), _ = self.ray.wait(list(self.waiting))
                result = self._result(ready, self.waiting.pop(ready))
                if result is not None:
                    yield result
        finally:
            self._cancel(list(self.waiting))

    def _result(self, ready: Any, run: Run) -> RunResult | None:
        """The result of a run, or None if the run was resubmitted."""
        try:
            result: RunResult = self.ray.get(ready)
        except self.ray.exceptions.RayTaskError as error:
            raise error.cause from error  # the error that the work itself raised
        except self.ray.exceptions.RayError as error:
            self.deaths[run.id] += 1
            died = self.deaths[run.id]
            if died > self.max_retries:
                text = f"its worker died {died} times ({type(error).__name__}: {first_sentence(error)})"
                return RunResult(run, status="failed", error=text)
            logger.warning("%s: its worker died; the run is repeated (%d of %d).", run.id, died, self.max_retries)
            self.waiting[self.submit(run)] = run
            return None
        return result

    def _cancel(self, running: list[Any]) -> None:
        """Interrupt the running tasks, so that they can clean up, and kill those that do not stop."""
        if not running:
            return
        for each in running:
            self.ray.cancel(each)
        _, stubborn = self.ray.wait(running, num_returns=len(running), timeout=_SECONDS_TO_STOP)
        for each in stubborn:
            self.ray.cancel(each, force=True)


def _do(work: Callable[[Run], RunResult], directory: Path, marks: Sequence[Path], run: Run) -> RunResult:
    """Execute a run on a worker."""
    if directory.is_dir():
        os.chdir(directory)
    for mark in marks:
        if not mark.exists():
            raise ArgumentError(
                "a study folder that all workers share",
                f"{mark.parent}, which is missing or a different folder on the worker {platform.node()}",
                "Put the study on a file system that every machine of the cluster mounts at the same path.",
            )
    return work(run)


@contextmanager
def _shared(work: Callable[[Run], RunResult]) -> Iterator[tuple[Callable[[Run], RunResult], list[Path]]]:
    """The work with absolute paths, and a marker file in each of its folders by which workers recognize the folder."""
    if not isinstance(work, partial):
        yield work, []
        return
    args = [_absolute(value) for value in work.args]
    keywords = {name: _absolute(value) for name, value in work.keywords.items()}
    with ExitStack() as stack:
        marks = []
        for folder in {value for value in (*args, *keywords.values()) if isinstance(value, Path)}:
            for abandoned in folder.glob(f"{_MARK}*"):
                abandoned.unlink(missing_ok=True)
            marks.append(Path(stack.enter_context(tempfile.NamedTemporaryFile(dir=folder, prefix=_MARK)).name))
        yield partial(work.func, *args, **keywords), marks


def _absolute(value: Any) -> Any:
    return value.absolute() if isinstance(value, Path) else value


@contextmanager
def _connected(address: str | None) -> Iterator[Any]:
    """Connect to Ray, and shut down the connection, or the local Ray, that was started here."""
    ray = _ray()
    if ray.is_initialized():
        yield ray
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # otherwise Ray sends usage statistics over the network
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        ray.init("local", include_dashboard=False, object_store_memory=_OBJECT_STORE, **quiet)
    else:
        address = os.environ.get("RAY_ADDRESS", address) if address == "auto" else address  # like Ray itself
        _reach(address)
        try:
            ray.init(address, **quiet)
        except ConnectionError as error:
            raise _no_cluster(address, error) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _reach(address: str) -> None:
    """Check that the address accepts connections: Ray itself would retry for minutes and then exit the process."""
    if address == "auto":
        return
    host, _, port = address.rpartition("://")[2].rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS_TO_REACH).close()
    except (OSError, ValueError) as error:
        raise _no_cluster(address, error) from error


def _no_cluster(address: str, error: Exception) -> ArgumentError:
    return ArgumentError(
        "the address of a running Ray cluster",
        f"{address} ({first_sentence(error)})",
        "Start one with: ray start --head. If the cluster requires a token, set RAY_AUTH_MODE=token. To use this "
        "machine only, leave out the address.",
    )


def _ray() -> Any:
    try:
        import ray  # optional
    except ImportError as error:
        raise MissingExtraError("ray", "ray") from error
    return ray
