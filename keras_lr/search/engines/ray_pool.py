"""`WorkerPool`: runs jobs on Ray's actors, and replaces actors that die."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from keras_lr._hints import warn_user
from keras_lr._keras.state.snapshot import ModelState
from keras_lr.search.trials.description import Group

MAX_DEATHS = 3
"""Number of workers that may die during a job before the job counts as failed."""

MAX_STARTS = 3
"""Number of starts in a row at which a worker may die before it does anything."""

WARN_AFTER = 60.0
"""Seconds without any worker after which the user is warned."""


class RemoteState(NamedTuple):
    """A state that stays on the machine where it was created."""

    reference: Any
    """Reference to it in Ray's store; or the state itself, from outside of Ray."""
    home: Worker | None = None

    def export(self) -> ModelState | None:
        """Return the state itself; None if it could not be sent, or is lost."""
        import ray

        try:
            return ray.get(self.reference)
        except ray.exceptions.RayError:
            return None


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
    """A call of a method of any worker.

    Attributes:
        method: Name of the method. It takes the argument; ``run`` also takes a state.
        group: The group of trials whose model it needs.
        argument: The argument.
        state: The state that ``run`` begins from, if it is at hand.
        deaths: Number of workers that have died during the job.
    """

    method: str
    group: Group
    argument: Any
    state: RemoteState | None = None
    deaths: int = 0


@dataclasses.dataclass(frozen=True)
class JobResult:
    """The result of a job.

    Attributes:
        job: The job.
        value: What the method has returned, without the state.
        state: The state that ``run`` has returned.
        error: Why there is no value.
    """

    job: Job
    value: Any = None
    state: RemoteState | None = None
    error: Exception | None = None


class WorkerLost(Exception):
    """Raised if a worker has died, or cannot start; the message says what is known about it."""


class Worker:
    """An actor, or several in turn, with the job and the models of the present one."""

    def __init__(self) -> None:
        """Begin without an actor."""
        self.actor: Any = None
        self.starts = 0
        """Number of starts in a row after which it did not come up."""
        self.groups: set[Group] = set()
        """Groups whose model it has compiled."""
        self.job: Job | None = None
        """Its present job; None while it starts, or is idle."""
        self.state: Any = None
        """Reference to the state that its job will return."""


class WorkerPool:
    """Pool of actors, each of which runs one job at a time.

    An actor that dies is replaced by a new one on any machine with room. Its job goes to the worker
    that is free first, because there may never be such room. The pool does both itself: Ray would
    repeat a job only on the same actor, however long that has to wait.
    """

    def __init__(
        self, ray: Any, make_actor: Callable[[], Any], contents: tuple[Any, ...], most: int
    ) -> None:
        """Begin without workers.

        Args:
            ray: Ray, connected.
            make_actor: Function that makes an actor with the methods of `TrialWorker`.
            contents: What an actor loads, or references to it.
            most: Largest number of workers; each is created when there is a job for it.
        """
        self.ray = ray
        self.make_actor = make_actor
        self.contents = contents
        self.most = most
        self.workers: list[Worker] = []
        self.idle: list[Worker] = []
        self._calls: dict[Any, Worker] = {}
        """The worker of each running call."""
        self._last_loss = ""

    def run_jobs(self, jobs: Sequence[Job]) -> Iterator[JobResult]:
        """Run jobs, and yield each result as soon as it is known.

        Raises:
            KeyboardInterrupt: If the user's code has raised it in a worker.
        """
        waiting = list(jobs)
        left = len(waiting)
        while len(self.workers) < min(self.most, left):
            self.workers.append(Worker())
            self._start(self.workers[-1])
        while left:
            self._assign_jobs(waiting)
            if not self._calls:
                error = WorkerLost(f"no worker is left. {self._last_loss}")
                yield from (JobResult(job, error=error) for job in waiting)
                return
            for call in self._wait():
                worker = self._calls.pop(call)
                job, worker.job = worker.job, None
                if job is None:
                    self._admit(worker, call)
                    continue
                done = self._finish(worker, job, call)
                if isinstance(done, JobResult):
                    left -= 1
                    yield done
                else:
                    waiting.insert(0, done)

    def end_workers(self) -> None:
        """End all workers, even in the middle of a job."""
        for worker in self.workers:
            self.ray.kill(worker.actor)
        self.workers.clear()
        self.idle.clear()
        self._calls.clear()

    def _start(self, worker: Worker) -> None:
        """Give a worker a new actor, whose first call ends when it is up."""
        worker.groups.clear()
        worker.starts += 1
        worker.actor = self.make_actor()
        self._calls[worker.actor.load.remote(*self.contents)] = worker

    def _assign_jobs(self, waiting: list[Job]) -> None:
        """Give each idle worker the job that fits it best."""
        while self.idle and waiting:
            worker = self.idle.pop(0)
            job = min(waiting, key=lambda one: self._effort(worker, one))
            waiting.remove(job)
            worker.job = job
            worker.groups.add(job.group)
            method = getattr(worker.actor, job.method)
            if job.method == "run":
                state = job.state and job.state.reference
                call, worker.state = method.options(num_returns=2).remote(job.argument, state)
            else:
                call = method.remote(job.argument)
            self._calls[call] = worker

    def _effort(self, worker: Worker, job: Job) -> tuple[bool, int, bool]:
        """Return the cost of a job for a worker: a model to compile, a state to fetch."""
        has_model = job.group in worker.groups
        others = 0 if has_model else sum(job.group in one.groups for one in self.workers)
        return not has_model, others, job.state is not None and job.state.home is not worker

    def _wait(self) -> list[Any]:
        """Return calls that have ended, at least one."""
        began = time.monotonic()
        warned = False
        while True:
            ended, _ = self.ray.wait(list(self._calls), num_returns=1, timeout=WARN_AFTER / 4)
            if ended:
                return ended
            busy = any(worker.job for worker in self._calls.values())
            if not busy and not warned and time.monotonic() - began > WARN_AFTER:
                warned = True
                warn_user(
                    f"No worker has been up for {WARN_AFTER:.0f} seconds: the cluster may have no "
                    "room for one. The sweep continues when one is up; Ctrl-C ends it."
                )

    def _admit(self, worker: Worker, call: Any) -> None:
        """Add a worker that is up to the idle ones, or drop it if it cannot start."""
        errors = self.ray.exceptions
        try:
            self.ray.get(call)
        except errors.RayError as error:
            is_refusal = isinstance(error, errors.RayTaskError)
            if not is_refusal and worker.starts < MAX_STARTS:
                self._start(worker)
                return
            self.workers.remove(worker)
            self.ray.kill(worker.actor)
            cause = _shorten(error.cause if is_refusal else error)
            self._last_loss = f"The last one could not begin: {cause}"
            if self.workers:
                warn_user(f"A worker is left out, because it cannot begin: {cause}")
        else:
            worker.starts = 0
            self.idle.append(worker)

    def _finish(self, worker: Worker, job: Job, call: Any) -> JobResult | Job:
        """Return the result of a job; or the job itself, if it has to be run again."""
        errors = self.ray.exceptions
        state = None if worker.state is None else RemoteState(worker.state, worker)
        worker.state = None
        try:
            value = self.ray.get(call)
        except errors.TaskCancelledError:
            # This is how Ray reports a KeyboardInterrupt in a worker.
            raise KeyboardInterrupt from None
        except errors.ObjectLostError:
            # The machine that had the state is gone.
            self.idle.append(worker)
            return dataclasses.replace(job, state=None)
        except errors.RayTaskError as error:
            self.idle.append(worker)
            return JobResult(job, error=error.cause)
        except errors.RayError as error:
            self._start(worker)
            job = dataclasses.replace(job, deaths=job.deaths + 1)
            if job.deaths < MAX_DEATHS:
                return job
            reason = f"{job.deaths} workers in a row have died of it: {_shorten(error)}"
            return JobResult(job, error=WorkerLost(reason))
        self.idle.append(worker)
        return JobResult(job, value, state)


def _shorten(error: Exception) -> str:
    """Return the first and the last line of an error: Ray's messages are very long."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    text = lines[0] if len(lines) == 1 else f"{lines[0]} ... {lines[-1]}"
    return f"{type(error).__name__}: {text}"
