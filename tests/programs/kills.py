"""Processes that are killed with SIGKILL and started again.

Each is a fork of the program, which has imported everything and computed nothing, so that it starts
at once.
"""

import os
import random
import signal
import sys
import time

import keras


class Slow(keras.callbacks.Callback):
    """Gives a kill time to strike."""

    def on_epoch_end(self, epoch, logs=None):
        time.sleep(0.02)


def start_process(work):
    """Let a fork of this process do some work, and return its number."""
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        work()
        status = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def ended(process):
    """Return the exit status of a process that has ended, or None."""
    pid, status = os.waitpid(process, os.WNOHANG)
    return None if pid == 0 else os.waitstatus_to_exitcode(status)


def wait(process):
    """Wait until a process ends, and end with it if it fails."""
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if status:
        sys.exit(f"a process ended with {status}")


def lines(path):
    """Return the whole lines of a record."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


def kill(record, start, kills):
    """Start and kill a process so many times, and return the lines of its record at each kill.

    Args:
        record: The path of the record, to which the process adds lines.
        start: Starts the process, and returns its number.
        kills: How many times.
    """
    moments, random_moment = [], random.Random(0)
    for _ in range(kills):
        before, process = lines(record), start()
        while lines(record) < before + 3 and ended(process) is None:
            time.sleep(0.002)
        time.sleep(random_moment.uniform(0.0, 0.1))
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        moments.append(lines(record))
    return moments
