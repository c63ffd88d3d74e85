"""The random states that shuffle data or seed an operation: kept, put back, and set."""

from __future__ import annotations

import functools
import random
import sys
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_lr._keras.host_values import to_numpy

SHARED_GENERATOR = "global_seed_generator"
"""Keras's name for the generator of what has none of its own; 3.12 has no constant for it."""


def random_states() -> list[Callable[[], Any]]:
    """Return what puts back the random states of Python, numpy, Keras, TensorFlow and PyTorch."""
    restorers: list[Callable[[], Any]] = [
        functools.partial(random.setstate, random.getstate()),
        functools.partial(np.random.set_state, np.random.get_state()),  # noqa: NPY002
    ]
    from keras.src.backend.common import global_state

    for name in ("global_random_seed", SHARED_GENERATOR):
        value = global_state.get_global_attribute(name)
        restorers.append(functools.partial(global_state.set_global_attribute, name, value))
    generator = global_state.get_global_attribute(SHARED_GENERATOR)
    if generator is not None:
        state = np.array(to_numpy(generator.state))
        restorers.append(functools.partial(generator.state.assign, state))
    # A data loader may use the random state of a library that is not the backend.
    if "torch" in sys.modules:
        import torch

        restorers.append(functools.partial(torch.set_rng_state, torch.get_rng_state()))
        if torch.cuda.is_available():
            states = torch.cuda.get_rng_state_all()
            restorers.append(functools.partial(torch.cuda.set_rng_state_all, states))
    if "tensorflow" in sys.modules:
        from tensorflow.python.eager import context
        from tensorflow.python.ops import stateful_random_ops

        eager: Any = context.context()
        seeds = {name: vars(eager)[name] for name in ("_seed", "_rng") if name in vars(eager)}
        if (drawn := seeds.get("_rng")) is not None:
            restorers.append(functools.partial(drawn.setstate, drawn.getstate()))
        restorers.append(functools.partial(vars(eager).update, seeds))
        if (shared := stateful_random_ops.global_generator) is not None:
            restorers.append(functools.partial(shared.state.assign, shared.state.numpy()))
    return restorers


def set_seed(seed: int, keep_kernels: bool) -> None:
    """Seed all that draws in a training, as ``keras.utils.set_random_seed`` does.

    That function has TensorFlow drop its kernels too, since those of its random operations hold a
    state. To make them anew takes as long as twenty small steps, and is not needed where everything
    that the training calls `is_of_keras`: Keras holds such states in variables.

    Args:
        seed: The seed.
        keep_kernels: Whether TensorFlow may keep its kernels.
    """
    if keras.backend.backend() == "tensorflow" and keep_kernels:
        from tensorflow.python.eager import context

        eager: Any = vars(context.context())
        if {"_seed", "_rng"} <= eager.keys():
            from keras.src.backend.common import global_state

            global_state.set_global_attribute("global_random_seed", seed)
            global_state.set_global_attribute(SHARED_GENERATOR, None)
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            eager.update(_seed=seed, _rng=random.Random(seed))
            return
    keras.utils.set_random_seed(seed)


def is_of_keras(one: Any) -> bool:
    """Whether the class of an object is Keras's, and so are the functions that it was given."""
    parts = [one, *(value for value in getattr(one, "__dict__", {}).values() if callable(value))]
    modules = (getattr(part, "__module__", None) or type(part).__module__ for part in parts)
    return all(module.partition(".")[0] in ("keras", "keras_lr") for module in modules)
