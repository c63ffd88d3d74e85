"""Records for commands to read, and what a command printed."""

import numpy as np

from keras_lr import LRHistory

FIT = ["--epochs", "10", "--steps-per-epoch", "20"]


def record(path, rates, losses, steps_per_epoch=10):
    """Write a record to a CSV file and return its path."""
    history = LRHistory()
    steps = np.arange(len(rates))
    history.load_state_dict(
        {
            "step": steps,
            "epoch": steps // steps_per_epoch,
            "learning_rate": np.asarray(rates),
            "loss": np.asarray(losses),
        }
    )
    history.to_csv(path)
    return str(path)


def rows(text):
    """Return the lines of a table, each as its words."""
    return [line.split() for line in text.splitlines()]


def dots(text):
    """Return how many braille dots a drawing has."""
    return sum(bin(ord(char) - 0x2800).count("1") for char in text if "⠀" <= char <= "⣿")
