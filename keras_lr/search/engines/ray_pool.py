"""`WorkerPool`: actors of Ray, what each of them does, and what is left to do when one dies."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from keras_lr._hints import warn_user
from keras_lr._keras.state.snapshot import ModelState
from keras_lr.search.trials.description import Group

MOST_DEATHS = 3
"""Workers that a job may take with it before it counts as failed."""

MOST_STARTS = 3
"""Starts in a row in which a worker may die before it does anything."""

PATIENCE = 60.0
"""Seconds without any worker after which the user is told."""


class RemoteState(NamedTuple):
    """A state that stays on the machine where it came about."""

    reference: Any
    """Reference to it in Ray's store; or the state itself, from outside of Ray."""
    home: Worker | None = None

    def export(self) -> ModelState | None:
        """Return the state itself; None if it could not leave the worker, or is lost."""
        import ray

        try:
            return ray.get(self.reference)
        except ray.exceptions.RayError:
            return None


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
    """A call of a method of any worker.

    Attributes:
        method: Name of the method. It takes the argument, and ``run`` a state too.
        group: The group of trials whose model it needs.
        argument: The argument.
        state: The state that ``run`` begins from, if it is at hand.
        deaths: Workers that have died while they did it.
    """

    method: str
    group: Group
    argument: Any
    state: RemoteState | None = None
    deaths: int = 0


@dataclasses.dataclass(frozen=True)
class Done:
    """What came of a job.

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
    """A worker has died, or cannot begin; the message says what is known of it."""


class Worker:
    """An actor, or several in turn, and what the last one is known to do and to have."""

    def __init__(self) -> None:
        """Begin without an actor."""
        self.actor: Any = None
        self.starts = 0
        """How often in a row it was started and has not begun."""
        self.groups: set[Group] = set()
        """Groups whose model it has compiled."""
        self.job: Job | None = None
        """What it does; None while it starts, or is idle."""
        self.state: Any = None
        """Reference to the state that its job will return."""


class WorkerPool:
    """Actors that do jobs, each one at a time.

    In the place of an actor that has died there comes a new one, on whatever machine has room for
    it. Its job is given to whichever worker is free first, for such room may never come. So the
    pool does both itself: Ray would repeat a job on the same actor alone, however long that waits.
    """

    def __init__(
        self, ray: Any, make_actor: Callable[[], Any], contents: tuple[Any, ...], most: int
    ) -> None:
        """Begin without workers.

        Args:
            ray: Ray, connected.
            make_actor: Makes an actor with the methods of `TrialWorker`.
            contents: What it loads, or references to that.
            most: The most workers; each is made when there is something to do for it.
        """
        self.ray = ray
        self.make_actor = make_actor
        self.contents = contents
        self.most = most
        self.workers: list[Worker] = []
        self.idle: list[Worker] = []
        self._calls: dict[Any, Worker] = {}
        """The worker of each call that is under way."""
        self._last_loss = ""

    def do(self, jobs: Sequence[Job]) -> Iterator[Done]:
        """Do jobs, and give what comes of each as soon as it is there.

        Raises:
            KeyboardInterrupt: If code of the user's has raised it in a worker.
        """
        waiting = list(jobs)
        left = len(waiting)
        while len(self.workers) < min(self.most, left):
            self.workers.append(Worker())
            self._start(self.workers[-1])
        while left:
            self._give_out(waiting)
            if not self._calls:
                error = WorkerLost(f"no worker is left. {self._last_loss}")
                yield from (Done(job, error=error) for job in waiting)
                return
            for call in self._wait():
                worker = self._calls.pop(call)
                job, worker.job = worker.job, None
                if job is None:
                    self._welcome(worker, call)
                    continue
                done = self._finish(worker, job, call)
                if isinstance(done, Done):
                    left -= 1
                    yield done
                else:
                    waiting.insert(0, done)

    def close(self) -> None:
        """End all workers, whatever they do."""
        for worker in self.workers:
            self.ray.kill(worker.actor)
        self.workers.clear()
        self.idle.clear()
        self._calls.clear()

    def _start(self, worker: Worker) -> None:
        """Give a worker a new actor, which tells when it is up."""
        worker.groups.clear()
        worker.starts += 1
        worker.actor = self.make_actor()
        self._calls[worker.actor.load.remote(*self.contents)] = worker

    def _give_out(self, waiting: list[Job]) -> None:
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
        """Return what speaks against a job: a model to compile, and a state to fetch."""
        has_model = job.group in worker.groups
        others = 0 if has_model else sum(job.group in one.groups for one in self.workers)
        return not has_model, others, job.state is not None and job.state.home is not worker

    def _wait(self) -> list[Any]:
        """Return calls that have ended, at least one."""
        began = time.monotonic()
        warned = False
        while True:
            ended, _ = self.ray.wait(list(self._calls), num_returns=1, timeout=PATIENCE / 4)
            if ended:
                return ended
            busy = any(worker.job for worker in self._calls.values())
            if not busy and not warned and time.monotonic() - began > PATIENCE:
                warned = True
                warn_user(
                    f"No worker has been up for {PATIENCE:.0f} seconds: the cluster may have no "
                    "room for one. The sweep goes on when one is up; Ctrl-C ends it."
                )

    def _welcome(self, worker: Worker, call: Any) -> None:
        """Take in that a worker is up, or leave it out if it cannot begin."""
        errors = self.ray.exceptions
        try:
            self.ray.get(call)
        except errors.RayError as error:
            is_refusal = isinstance(error, errors.RayTaskError)
            if not is_refusal and worker.starts < MOST_STARTS:
                self._start(worker)
                return
            self.workers.remove(worker)
            self.ray.kill(worker.actor)
            cause = _in_short(error.cause if is_refusal else error)
            self._last_loss = f"The last one could not begin: {cause}"
            if self.workers:
                warn_user(f"A worker is left out, because it cannot begin: {cause}")
        else:
            worker.starts = 0
            self.idle.append(worker)

    def _finish(self, worker: Worker, job: Job, call: Any) -> Done | Job:
        """Return what came of a job; or the job, if it has to be done again."""
        errors = self.ray.exceptions
        state = None if worker.state is None else RemoteState(worker.state, worker)
        worker.state = None
        try:
            value = self.ray.get(call)
        except errors.TaskCancelledError:
            # So Ray calls a KeyboardInterrupt in a worker.
            raise KeyboardInterrupt from None
        except errors.ObjectLostError:
            # The machine that had the state is gone.
            self.idle.append(worker)
            return dataclasses.replace(job, state=None)
        except errors.RayTaskError as error:
            self.idle.append(worker)
            return Done(job, error=error.cause)
        except errors.RayError as error:
            self._start(worker)
            job = dataclasses.replace(job, deaths=job.deaths + 1)
            if job.deaths < MOST_DEATHS:
                return job
            reason = f"{job.deaths} workers in a row have died of it: {_in_short(error)}"
            return Done(job, error=WorkerLost(reason))
        self.idle.append(worker)
        return Done(job, value, state)


def _in_short(error: Exception) -> str:
    """Return the first and the last line of an error: Ray tells a long story between them."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    text = lines[0] if len(lines) == 1 else f"{lines[0]} ... {lines[-1]}"
    return f"{type(error).__name__}: {text}"
