"""The random states that shuffle data or seed an operation: captured, put back, and set.

Relies on places that are not promised:

- ``keras.src.backend.common.global_state`` (the same in Keras 3.12 and 3.15) keeps the seed and the
  generator of what has none of its own. There is no public way to read them. Their names there are
  ``GLOBAL_RANDOM_SEED`` of ``keras.src.utils.rng_utils`` and ``GLOBAL_SEED_GENERATOR`` of
  ``keras.src.random.seed_generator`` (Keras 3.13). Where these are missing, the names are those of
  Keras 3.12 to 3.15.
- ``tensorflow.python.eager.context`` and ``tensorflow.python.ops.stateful_random_ops`` (TensorFlow
  2.18 and later) keep TensorFlow's seed and its global generator. The seed is in the attribute
  ``_seed`` of the context, and what has been drawn with it in ``_rng``, once a seed is set.

Where one is missing, `capture_random_states` warns that what draws from it is not put back, and
`set_seed` seeds everything through the public `keras.utils.set_random_seed`.
"""

from __future__ import annotations

import functools
import random
import sys
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_lr._hints import warn_user
from keras_lr._keras.host_values import to_numpy
from keras_lr._keras.private_modules import find_module
from keras_lr._keras.state.saved_value import SavedValue

_NAMES = {
    ("keras.src.utils.rng_utils", "GLOBAL_RANDOM_SEED"): "global_random_seed",
    ("keras.src.random.seed_generator", "GLOBAL_SEED_GENERATOR"): "global_seed_generator",
}
"""Keras's names for its seed and its default generator, by the constants that hold them."""

_GLOBAL_STATE = "keras.src.backend.common.global_state"
_EAGER_CONTEXT = "tensorflow.python.eager.context"
_GLOBAL_GENERATOR = "tensorflow.python.ops.stateful_random_ops"


def capture_random_states() -> Callable[[], None]:
    """Return a function that puts the random states back as they are now.

    They are those of Python, numpy, Keras and, where they are loaded, TensorFlow and PyTorch: a
    data loader may draw from a library that is not the backend.
    """
    states = keep_random_states()

    def restore() -> None:
        for state in states.values():
            state.put_back()

    return restore


def keep_random_states() -> dict[str, SavedValue]:
    """Return the random states by name, each as a value that another process can put back too."""
    states = {
        "Python": SavedValue(random.setstate, random.getstate()),
        "numpy": SavedValue(np.random.set_state, np.random.get_state()),  # noqa: NPY002
        **_keep_keras(),
    }
    if "torch" in sys.modules:
        states |= _keep_torch()
    if "tensorflow" in sys.modules:
        states |= _keep_tensorflow()
    return states


def _global_names() -> list[str]:
    """Return the names under which Keras keeps its seed and its default generator."""
    return [
        getattr(find_module(module, constant), constant, name)
        for (module, constant), name in _NAMES.items()
    ]


def _keep_keras() -> dict[str, SavedValue]:
    global_state = find_module(_GLOBAL_STATE, "get_global_attribute", "set_global_attribute")
    if global_state is None:
        return _warn_of_missing("Keras", keras.__version__, "keras.random without a seed")
    read, write = global_state.get_global_attribute, global_state.set_global_attribute
    seed_name, generator_name = _global_names()
    generator = read(generator_name)

    def put_generator_back(state: Any) -> None:
        if state is None:
            write(generator_name, None)
            return
        shared = keras.random.SeedGenerator(0) if generator is None else generator
        write(generator_name, shared)
        shared.state.assign(state)

    state = None if generator is None else np.array(to_numpy(generator.state))
    return {
        "Keras's seed": SavedValue(functools.partial(write, seed_name), read(seed_name)),
        "Keras's generator": SavedValue(put_generator_back, state),
    }


def _keep_torch() -> dict[str, SavedValue]:
    import torch

    states = {"PyTorch": SavedValue(torch.set_rng_state, torch.get_rng_state())}
    if torch.cuda.is_available():
        cuda = torch.cuda
        states["CUDA"] = SavedValue(cuda.set_rng_state_all, cuda.get_rng_state_all())
    return states


def _keep_tensorflow() -> dict[str, SavedValue]:
    context = find_module(_EAGER_CONTEXT, "context")
    generators = find_module(_GLOBAL_GENERATOR, "global_generator")
    missing = "TensorFlow", sys.modules["tensorflow"].__version__, "tf.random without a seed"
    if context is None or generators is None:
        return _warn_of_missing(*missing)
    states: dict[str, SavedValue] = {}
    eager = vars(context.context())
    if "_seed" not in eager or ("_rng" not in eager and eager["_seed"] is not None):
        states |= _warn_of_missing(*missing)
    else:
        drawn = eager.get("_rng")  # missing until a seed is set

        def put_seeds_back(seeds: tuple[Any, Any]) -> None:
            eager["_seed"], state = seeds
            if state is not None:
                eager["_rng"] = drawn or random.Random()
                eager["_rng"].setstate(state)

        seeds = eager["_seed"], None if drawn is None else drawn.getstate()
        states["TensorFlow's seeds"] = SavedValue(put_seeds_back, seeds)
    shared = generators.global_generator

    def put_generator_back(state: Any) -> None:
        if state is not None:
            (shared or generators.get_global_generator()).state.assign(state)

    state = None if shared is None else shared.state.numpy()
    states["TensorFlow's generator"] = SavedValue(put_generator_back, state)
    return states


def _warn_of_missing(library: str, version: str, draws: str) -> dict[str, SavedValue]:
    """Warn that random states stay where a training run leaves them; nothing puts them back."""
    warn_user(
        f"This version of {library} ({version}) does not show its random state where keras_lr "
        f"looks for it, so draws with {draws} will continue from where a training run leaves them."
    )
    return {}


def set_seed(seed: int, keep_kernels: bool) -> None:
    """Seed all that draws in a training run, as ``keras.utils.set_random_seed`` does.

    That function has TensorFlow drop its kernels too, because those of its random operations hold a
    state. Making the kernels again takes as long as twenty small steps. It is not needed if
    everything that the training calls `is_of_keras`: Keras holds such states in variables.

    Keras seeds PyTorch where that is the backend alone, but its loaders give data on any backend.

    Args:
        seed: The seed.
        keep_kernels: Whether TensorFlow may keep its kernels.
    """
    if "torch" in sys.modules:
        import torch

        torch.manual_seed(seed)
    if keras.backend.backend() == "tensorflow" and keep_kernels:
        context = find_module(_EAGER_CONTEXT, "context")
        global_state = find_module(_GLOBAL_STATE, "set_global_attribute")
        eager: dict[str, Any] = {} if context is None else vars(context.context())
        if {"_seed", "_rng"} <= eager.keys() and global_state is not None:
            seed_name, generator_name = _global_names()
            global_state.set_global_attribute(seed_name, seed)
            global_state.set_global_attribute(generator_name, None)
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            eager.update(_seed=seed, _rng=random.Random(seed))
            return
    keras.utils.set_random_seed(seed)


def is_of_keras(one: Any) -> bool:
    """Return whether an object's class is Keras's, and so are the functions that it was given."""
    parts = [one, *(value for value in getattr(one, "__dict__", {}).values() if callable(value))]
    modules = (getattr(part, "__module__", None) or type(part).__module__ for part in parts)
    return all(module.partition(".")[0] in ("keras", "keras_lr") for module in modules)
