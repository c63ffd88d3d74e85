"""`RayEngine`: trains the trials on the workers of a Ray cluster."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from keras_lr._fields.configurable import Configurable, configurable
from keras_lr._fields.kinds import Number, Optional, Text
from keras_lr._hints import warn_user
from keras_lr._keras.state.snapshot import ModelState
from keras_lr.search.engines.base import Rehearsal
from keras_lr.search.engines.ray_connection import RayConnection, worker_environment
from keras_lr.search.engines.ray_parcel import pack
from keras_lr.search.engines.ray_pool import Job, JobResult, RemoteState, WorkerLost, WorkerPool
from keras_lr.search.engines.ray_worker import TrialWorker
from keras_lr.search.trials.description import Group, Outcome, Stretch
from keras_lr.search.trials.problem import Problem
from keras_lr.search.versions import versions


@configurable
class RayEngine(Configurable):
    """Train the trials of a sweep on all cores, GPUs or machines of a Ray cluster.

    Pass it as ``LRSweep.run(engine=RayEngine(...))``; ``engine="ray"`` is ``RayEngine()``. Each
    worker is a process with its own models, which it compiles once. The sweep decides the order of
    the trials and which of them continue, so the result is that of ``engine="local"``: bit for bit
    if that has as many threads and the same kind of device.

    If a worker is killed, the trial that it was training is trained again. If a machine is lost,
    the trials whose state was on it are also trained again, from their start. A trial whose workers
    die three times in a row has failed.

    Args:
        workers: Largest number of workers; by default as many as the cluster has room for.
        cpus_per_trial: CPUs of a worker, and the threads that it computes with.
        gpus_per_trial: GPUs of a worker. With 0.5, two workers share one; with 0, they see none.
        address: Address of a cluster, such as ``"auto"`` for the one that runs on this machine. By
            default it is the cluster that Ray is connected to, or the one that ``RAY_ADDRESS``
            names. If there is neither, Ray runs on this machine as long as the sweep.

    Raises:
        TypeError: If an argument has the wrong type or is unknown.
        ValueError: If a number is out of range.

    >>> RayEngine(workers=4, gpus_per_trial=0.25)
    RayEngine(workers=4, gpus_per_trial=0.25)
    """

    workers: Annotated[int | None, Optional(Number(minimum=1, whole=True))] = None
    cpus_per_trial: Annotated[int, Number(minimum=1, whole=True)] = 1
    gpus_per_trial: Annotated[float, Number(minimum=0.0)] = 0.0
    address: Annotated[str | None, Optional(Text())] = None

    def validate(self) -> None:
        if self.gpus_per_trial > 1.0 and self.gpus_per_trial != int(self.gpus_per_trial):
            raise self.invalid("gpus_per_trial", "a whole number, or a part of one GPU")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._connection: RayConnection | None = None
        self._pool: WorkerPool | None = None
        self._failures: dict[Group, str] = {}

    def start(self, problem: Problem) -> Rehearsal:
        """Start workers, build the model of each group, and train the first of them for a step.

        Raises:
            ImportError: If Ray is not installed, or keras_lr is not on a machine of the cluster.
            ValueError: If ``build`` returns a model that cannot be swept, if something cannot be
                sent to a worker, or if no machine has room for one.
        """
        self._failures = {}
        cpus = None if self.workers is None else self.workers * self.cpus_per_trial
        self._connection = connection = RayConnection(self.address, cpus)
        ray = connection.ray
        most = self._count_workers(connection)
        parcel = pack(problem, ray.cloudpickle.dumps)
        actor = ray.remote(TrialWorker).options(
            num_cpus=self.cpus_per_trial,
            num_gpus=self.gpus_per_trial,
            runtime_env={"env_vars": worker_environment(self.cpus_per_trial, self.gpus_per_trial)},
        )
        contents = ray.put(parcel.content), ray.put(parcel.arrays), versions()
        self._pool = WorkerPool(ray, actor.remote, contents, most)
        return self._rehearse(problem, self._pool)

    def run(self, stretches: Sequence[Stretch]) -> Iterator[Outcome]:
        """Train stretches on whichever workers are free."""
        assert self._pool is not None
        jobs = []
        for stretch in stretches:
            if reason := self._failures.get(stretch.trial.group):
                yield Outcome(stretch.trial, stretch.stops, "failed", reason)
            else:
                jobs.append(_job(stretch))
        for done in self._pool.run_jobs(jobs):
            yield _outcome(done)

    def close(self) -> None:
        """End the workers, and Ray if it was started for them."""
        if self._pool is not None:
            self._pool.end_workers()
            self._pool = None
        if self._connection is not None:
            self._connection.disconnect()
            self._connection = None

    def _count_workers(self, connection: RayConnection) -> int:
        """Return the largest possible number of workers.

        Raises:
            ValueError: If no machine has room for one.
        """
        cpus, gpus = self.cpus_per_trial, self.gpus_per_trial
        room = connection.room(cpus, gpus)
        if not room:
            name = "gpus_per_trial" if connection.room(cpus, 0) else "cpus_per_trial"
            raise self.invalid(name, "what a machine of the cluster has")
        if not gpus and connection.has_gpus():
            warn_user(
                "RayEngine: the cluster has GPUs, but the workers use none. Pass gpus_per_trial=1, "
                "or a part of one for several workers on each."
            )
        if self.workers is not None and self.workers > room:
            warn_user(
                f"RayEngine: the cluster has room for {room} of {self.workers} workers. The others "
                "begin when it has more."
            )
        return self.workers or room

    def _rehearse(self, problem: Problem, pool: WorkerPool) -> Rehearsal:
        found = {}
        for done in pool.run_jobs([Job("describe", group, group) for group in problem.groups]):
            found[done.job.group], failure = _value(done)
            if failure:
                self._failures[done.job.group] = failure
        models = {group: found[group] for group in problem.groups if group not in self._failures}
        if not models:
            return Rehearsal(models, self._failures, (), False)
        first = next(iter(models))
        (done,) = pool.run_jobs([Job("warm_up", first, first)])
        return Rehearsal(models, self._failures, *_value(done))


def _value(done: JobResult) -> Any:
    """Return the value of a job of the rehearsal.

    Raises:
        Exception: The exception that the job raised, or an error if no worker could start.
    """
    if isinstance(done.error, WorkerLost):
        raise RuntimeError(
            f"RayEngine: {done.error}. The machines of the cluster need the packages of this one, "
            "and the modules that `build` is in: install them there, or name them in "
            "ray.init(runtime_env=...) before the sweep."
        )
    if done.error is not None:
        raise done.error
    return done.value


def _job(stretch: Stretch) -> Job:
    plain, state = dataclasses.replace(stretch, state=None), stretch.state
    if isinstance(state, ModelState):
        state = RemoteState(state)
    return Job("run", stretch.trial.group, plain, state)


def _outcome(done: JobResult) -> Outcome:
    stretch: Stretch = done.job.argument
    if done.error is not None:
        reason = f"{type(done.error).__name__}: {done.error}"
        return Outcome(stretch.trial, stretch.stops, "failed", reason)
    outcome: Outcome = done.value
    keep = stretch.keep and outcome.status == "trained"
    return dataclasses.replace(outcome, state=done.state if keep else None)
