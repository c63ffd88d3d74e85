"""Groups of a model's variables, found by patterns, paths, layer names or block numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_lr._fields.timeline import Timeline
from keras_lr._hints import count_of, nearest_names, warn_user
from keras_lr._keras.model_layers import layers_in, path_of
from keras_lr.plotting.text import align_columns
from keras_lr.schedules.base import Schedule
from keras_lr.schedules.control import CHECKED, FollowsHyperparameter, unreached_warning
from keras_lr.schedules.evaluation import blocks_of_steps

DEFAULT = "default"
"""Name of the group of the variables that no key matches."""

MAX_NAMES = 5
"""Largest number of names that an error lists."""


class Group(NamedTuple):
    """Variables whose rates have the same factor: a number or a schedule."""

    name: str
    variables: tuple[Any, ...]
    factor: Any


class LayerRow(NamedTuple):
    """A variable, its group, and the present factor of its rate."""

    variable: str
    group: str
    factor: float


class LayerTable(tuple[LayerRow, ...]):
    """Rows of variables with their groups and factors, shown as a table."""

    def __repr__(self) -> str:
        rows = [(row.variable, row.group, f"{row.factor:.6g}") for row in self]
        return align_columns([("variable", "group", "factor"), *rows], left=2)


def group_by_patterns(
    model: Any, variables: Sequence[Any], factors: Mapping[str, Any], default: Any
) -> list[Group]:
    """Return the groups of a model's variables, in the order of ``factors``.

    A key matches the variable with that path, with or without the name of the model: Keras numbers
    the names of models. If there is none, it matches the variables whose whole path fits the key as
    a regular expression, as in Keras's ``OptimizerMap``. If there is none of these either, it
    matches all variables of the layer with that name or path.

    Args:
        model: The model.
        variables: Its trained variables.
        factors: The factor of each key.
        default: The factor of all other variables.

    Raises:
        ValueError: If a key matches no variable, or two keys match the same one.
    """
    paths = [path_of(variable) for variable in variables]
    members = {key: _members(key, model, variables, paths) for key in factors}
    for key, found in members.items():
        if not found:
            raise _unmatched(key, model, paths)
    chosen: dict[int, str] = {}
    for place, path in enumerate(paths):
        keys = [key for key in dict.fromkeys((path, _inside(model, path))) if key in factors]
        keys = keys or [key for key in factors if place in members[key]]
        if len(keys) > 1:
            raise ValueError(
                f"LayerRates: the variable {path!r} is in two groups: {keys[0]!r} and {keys[1]!r} "
                "both match it. Give it the path itself as a key, or narrow one of them. "
                f"Received: factors={dict(factors)!r}"
            )
        if keys:
            chosen[place] = keys[0]
    names = names_of_groups(factors)
    groups = [
        Group(names[key], tuple(variables[p] for p, of in chosen.items() if of == key), factor)
        for key, factor in factors.items()
    ]
    rest = tuple(one for place, one in enumerate(variables) if place not in chosen)
    if rest:
        groups.append(Group(DEFAULT, rest, default))
    return [group for group in groups if group.variables]


def names_of_groups(keys: Iterable[str]) -> dict[str, str]:
    """Return a short name for the group of each key; different keys have different names.

    >>> names_of_groups(["backbone/.*", "head", "dense/kernel"])
    {'backbone/.*': 'backbone', 'head': 'head', 'dense/kernel': 'dense/kernel'}
    """
    keys = list(keys)
    short = {key: key.removesuffix("/.*") or key for key in keys}
    taken = [*short.values(), DEFAULT]
    return {key: name if taken.count(name) == 1 else key for key, name in short.items()}


def moving_factors(factors: Mapping[str, Any], default: Any) -> dict[str, Schedule]:
    """Return the factors that are schedules, by the short names of their groups."""
    names = names_of_groups(factors)
    named = {names[key]: factor for key, factor in factors.items()} | {DEFAULT: default}
    return {name: factor for name, factor in named.items() if isinstance(factor, Schedule)}


def warn_of_unreached(groups: Iterable[Group], timeline: Timeline) -> None:
    """Warn of groups that a fit never thaws, and of other stages of factors that it never reaches.

    Args:
        groups: The groups.
        timeline: The size of the fit.
    """
    frozen = []
    for group in groups:
        if not isinstance(group.factor, Schedule):
            continue
        note = unreached_warning(group.factor, timeline)
        if note and _is_zero_throughout(group.factor, timeline):
            frozen.append(group.name)
        elif note:
            warn_user(f"LayerRates, factor of {group.name!r}: {note}")
    if frozen:
        names = ", ".join(map(repr, frozen))
        them = "it" if len(frozen) == 1 else "them"
        steps = count_of(timeline.total or 0.0, "step", "g")
        warn_user(
            f"LayerRates never thaws {names}: a fit of {steps} ends first. Thaw {them} earlier, "
            "or train longer."
        )


def _is_zero_throughout(factor: Schedule, timeline: Timeline) -> bool:
    """Return whether a factor is 0 in every step of a fit of known length."""
    if timeline.total is None or any(
        isinstance(part, FollowsHyperparameter) for part in factor.parts()
    ):
        return False
    blocks = blocks_of_steps(0, math.ceil(timeline.total), CHECKED)
    return not any(np.any(factor(steps, timeline)) for steps in blocks)


def _members(key: str, model: Any, variables: Sequence[Any], paths: list[str]) -> set[int]:
    """Return the places of the variables that a key matches."""
    for whole in (key, f"{model.name}/{key}"):
        exact = {place for place, path in enumerate(paths) if path == whole}
        if exact:
            return exact
    matching = {place for place, path in enumerate(paths) if _matches(key, path)}
    if matching:
        return matching
    inside = {id(variable) for layer in layers_called(key, model) for variable in layer.variables}
    return {place for place, variable in enumerate(variables) if id(variable) in inside}


def _inside(model: Any, path: str) -> str:
    """Return the path of a variable without the name of the model."""
    return path.removeprefix(f"{model.name}/")


def layers_called(name: str, model: Any) -> list[Any]:
    """Return the layers inside a model that have a name or path."""
    return [one for one in layers_in(model) if name in (one.name, getattr(one, "path", None))]


def _unmatched(key: str, model: Any, paths: list[str]) -> ValueError:
    """Return the error for a key that matches no variable."""
    hint = ""
    layer = key.removesuffix("/.*")
    names = {one.name for one in layers_in(model)}
    inside = [one for called in layers_called(layer, model) for one in called.trainable_variables]
    if layer != key and inside:
        hint = (
            f" The variables of the layer {layer!r} have paths such as {path_of(inside[0])!r}: "
            f"give the layer's name alone, {layer!r}."
        )
    elif any(_matches(key, path_of(one)) for one in model.variables) or key in names:
        hint = " What it matches is not trainable."
    elif any(_matches(key, name) for name in names):
        hint = f" An expression is compared with whole paths, such as {paths[0]!r}."
    near = nearest_names(key, [*paths, *sorted(names)], MAX_NAMES)
    return ValueError(
        f"LayerRates: argument `factors` has a key that matches no trained variable of the model "
        f"{model.name!r} and no layer with trained variables.{hint} "
        f"Received: {key!r}. Nearest: {', '.join(near)}"
    )


def _matches(key: str, path: str) -> bool:
    """Return whether a key, as a regular expression, matches a whole path."""
    try:
        return re.fullmatch(key, path) is not None
    except re.error:
        return False


def group_by_blocks(
    model: Any, variables: Sequence[Any], blocks: str, factor: float
) -> list[Group]:
    """Return the groups of a model with numbered blocks; their factors fall from the top down.

    The head has 1, the last block ``factor``, the block below it ``factor ** 2``, and the part
    below all blocks one power more than the first block.

    Args:
        model: The model.
        variables: Its trained variables, from the bottom to the top.
        blocks: Regular expression that finds the number of a block in the path of a variable.
        factor: The factor of one block.

    Raises:
        ValueError: If no path has a block, or a variable without one lies between two blocks.
    """
    paths = [path_of(variable) for variable in variables]
    found = [re.search(blocks, path) for path in paths]
    numbers: list[tuple[int, ...] | None] = [
        None if match is None else tuple(map(int, match.groups())) for match in found
    ]
    places = [place for place, number in enumerate(numbers) if number is not None]
    if not places:
        near = nearest_names(blocks, paths, MAX_NAMES)
        raise ValueError(
            f"LayerRates.decay: argument `blocks` finds no block in the paths of the trained "
            f"variables of {model.name!r}. Received: blocks={blocks!r}. The paths are like: "
            f"{', '.join(near)}"
        )
    first, last = places[0], places[-1]
    between = [paths[p] for p in range(first, last) if numbers[p] is None]
    if between:
        raise ValueError(
            f"LayerRates.decay: the variables {', '.join(between[:MAX_NAMES])} belong to no block "
            "and lie between two blocks, so that their depth is not known. Give their block by "
            f"`blocks`, or use LayerRates with a factor for each part. Received: blocks={blocks!r}"
        )
    order = sorted({number for number in numbers if number is not None})
    count = len(order)
    parts: dict[str, tuple[float, list[Any]]] = {"below_blocks": (factor ** (count + 1), [])}
    names = {number: f"block_{'_'.join(map(str, number))}" for number in order}
    for depth, number in enumerate(order):
        parts[names[number]] = factor ** (count - depth), []
    parts["head"] = 1.0, []
    for place, variable in enumerate(variables):
        block = numbers[place]
        outside = "below_blocks" if place < first else "head"
        parts[outside if block is None else names[block]][1].append(variable)
    return [Group(name, tuple(some), power) for name, (power, some) in parts.items() if some]
