"""The schema and the loader agree on configs that the schema's own rules make, and break.

The schema knows nothing of rules over several fields. The loader tells of those at the class, and
of a rule over one field at the field.
"""

import copy

import jsonschema
import pytest
from configs import ALL, attempt
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keras_lr import from_config, to_config
from keras_lr.config.schema import schema

SCHEMA = schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
LEAVES = ("Constant", "CosineDecay", "StepDecay", "TriangularCLR", "OneCycle", "PiecewiseConstant")


def made_from(node, depth):
    """Return a strategy of what a node of the schema accepts, with so many schedules inside."""
    if "$ref" in node:
        return referred(node["$ref"].rpartition("/")[2], depth)
    if "enum" in node:
        return st.sampled_from(node["enum"])
    if "anyOf" in node and "properties" not in node:
        return st.one_of([made_from(each, depth) for each in node["anyOf"]])
    kinds = node["type"] if isinstance(node["type"], list) else [node["type"]]
    return st.one_of([of_type(kind, node, depth) for kind in kinds])


def of_type(kind, node, depth):
    if kind == "object":
        return an_object(node, depth)
    if kind == "array":
        least = node.get("minItems", 0)
        most = node.get("maxItems", least + 2 if depth > -5 else least)
        return st.lists(made_from(node["items"], depth - 1), min_size=least, max_size=most)
    if kind == "string":
        if "pattern" in node:
            return st.from_regex(node["pattern"].replace("$", r"\Z"))
        return st.text(min_size=node.get("minLength", 0), max_size=5)
    low = node.get("minimum", node.get("exclusiveMinimum", -1e300))
    high = node.get("maximum", node.get("exclusiveMaximum", 1e300))
    if kind == "integer":
        return st.integers(max(int(low), -(10**6)), min(int(high), 10**6))
    if kind == "number":
        floats = st.floats(
            low,
            high,
            exclude_min="exclusiveMinimum" in node,
            exclude_max="exclusiveMaximum" in node,
        )
        usual = st.sampled_from([0, 1, 2, 10, 0.1, 0.5]).filter(
            lambda value: VALIDATOR.evolve(schema=node).is_valid(value)
        )
        return st.one_of(floats, usual)
    return {"boolean": st.booleans(), "null": st.none()}[kind]


def an_object(node, depth):
    if node.get("maxProperties") == 1:
        names = sorted(node["properties"])
        if depth <= 0:
            names = [name for name in names if name in LEAVES] or names
        return st.sampled_from(names).flatmap(
            lambda name: made_from(node["properties"][name], depth - 1).map(
                lambda value: {name: value}
            )
        )
    if "properties" not in node:
        keys = st.sampled_from(["head", "block_1/.*", "("])
        return st.dictionaries(
            keys, made_from(node["additionalProperties"], depth - 1), min_size=1, max_size=2
        )
    required = {name: made_from(node["properties"][name], depth) for name in node["required"]}
    optional = {
        name: made_from(each, depth)
        for name, each in node["properties"].items()
        if name not in required
    }
    if depth <= 0:
        optional = dict(list(optional.items())[:2])
    fixed = st.fixed_dictionaries(required, optional=optional)
    if not node["additionalProperties"]:
        return fixed
    others = st.sampled_from(["momentum", "learning_rate", "beta_1"])
    others = st.dictionaries(
        others, made_from(node["additionalProperties"], depth), min_size=1, max_size=2
    )
    return st.builds(lambda one, more: one | more, fixed, others)


def referred(name, depth):
    return st.deferred(lambda: made_from(SCHEMA["$defs"][name], depth))


configs = made_from(SCHEMA, 3)

WRONG = [
    *(None, True, False, 0, -1, 1, 2.5, -0.5, 1e39, 10**400, "", "none", "None", "x", [], {}, [1]),
    *(
        "0%",
        "101%",
        "100%",
        "100.5%",
        "1e1%",
        "1e-1%",
        "0.0%",
        "1_0%",
        "1__0%",
        " 5 % ",
        "%",
        "-5%",
    ),
    *("rest", "REST", "rest of it", "0 steps", "1 STEP", "1 Epochs", "1e400 steps", "1e-400 steps"),
    *("5 steps", "0.5 epochs", "1e2 steps", "2.5 steps", "9 steps", "10 steps", "1e1 steps", "5"),
    *("1\u00a0steps", "\u0661 steps", "5 steps\n", "Constant", "by_epoch", "nobody"),
    *(
        {"Constant": {"lr": 0.1}},
        [{"Constant": {"lr": 0.1}}],
        {"Constant": {}},
        {"LRHistory": None},
    ),
    *(
        {"OneCycle": None},
        {"Nobody": {}},
        {"CosineDecay": {"initial_lr": 1, "extra": 2}},
        [0.1, 0.2],
    ),
    *([0.9, 0.1], [0.1, "0.2"], ["5%", 3], [[1]], [{}], {"ExponentialDecay": {"decay_steps": 5}}),
]


def places(data):
    """Return every container in a config with each of its keys."""
    found = []
    waiting = [data]
    while waiting:
        inner = waiting.pop()
        keys = list(inner) if isinstance(inner, dict) else range(len(inner))
        found += [(inner, key) for key in keys]
        waiting += [inner[key] for key in keys if isinstance(inner[key], dict | list)]
    return found


@st.composite
def broken(draw, valid):
    """Draw a config that was changed at one place, mostly for the worse."""
    config = copy.deepcopy(draw(valid))
    known = places(config)
    if not known:
        return config
    inner, key = draw(st.sampled_from(known))
    change = draw(st.sampled_from(["value", "value", "value", "remove", "add", "rename"]))
    if change == "value" or isinstance(inner, list):
        inner[key] = copy.deepcopy(draw(st.sampled_from(WRONG)))
    elif change == "rename":
        value = inner.pop(key)
        inner[draw(st.sampled_from([*LEAVES, "lr", "over", "x"]))] = value
    elif change == "remove":
        del inner[key]
    else:
        inner[draw(st.sampled_from(["lr", "over", "extra", "callbacks"]))] = 1
    return config


def over_several_fields(problem):
    """Return whether an error stands at a class, as those of rules over several fields do."""
    last = problem.path.rpartition(".")[2]
    at_class = last.partition("[")[0] in {name.rpartition(".")[2] for name in SCHEMA["$defs"]}
    conflict = problem.message.startswith("drives ")
    built = at_class and not problem.message.startswith(("the argument", "must be", "unknown"))
    return conflict or built


def check(config):
    valid = VALIDATOR.is_valid(config)
    _, error = attempt(from_config, config)
    if error is not None and valid:
        problems = [each for each in error.problems if not over_several_fields(each)]
        assert not problems, (config, problems)
    if error is None:
        assert valid, (config, next(VALIDATOR.iter_errors(config)).message)


slow = settings(
    max_examples=150, deadline=None, suppress_health_check=[*HealthCheck], derandomize=False
)


@slow
@given(configs)
def test_the_loader_reads_what_the_schema_makes(config):
    assert VALIDATOR.is_valid(config)
    check(config)


@slow
@given(broken(configs))
def test_both_refuse_the_same(config):
    check(config)


@slow
@given(broken(st.sampled_from([to_config(one) for one in ALL.values()])))
def test_both_refuse_the_same_changes_of_what_is_written(config):
    check(config)


@pytest.mark.parametrize("value", WRONG, ids=repr)
def test_any_value_in_the_place_of_any_argument(value):
    for name, node in SCHEMA["$defs"].items():
        parts = [node, *node.get("anyOf", [])]
        for argument in {key for part in parts for key in part.get("properties", ())}:
            if name in ("callback", "schedule", "function") or name.startswith("keras."):
                continue
            check({name: {argument: value}})
            check({name: value})


def test_arguments_of_keras_schedules_have_their_types():
    for value in WRONG:
        for name, node in SCHEMA["$defs"].items():
            if name.startswith("keras."):
                for argument in node["properties"]:
                    inner = {name.removeprefix("keras."): {argument: value}}
                    check({"Function": {"fn": inner}})
