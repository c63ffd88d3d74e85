"""Config files: what was saved comes back, and a hostile file is refused."""

import json
from typing import Any

import keras
import pytest
from configs import ALL, FORMATS, attempt, refused, validator
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_lr import (
    Constant,
    CosineDecay,
    LinearDecay,
    LRHistory,
    OneCycle,
    ParamScheduler,
    PiecewiseConstant,
    ReduceLROnPlateau,
    Schedule,
    StepDecay,
    Warmup,
    from_config,
    load,
    save,
    to_config,
)
from keras_lr.adaptive.base import GradientRate
from keras_lr.config.files import MAX_BYTES
from keras_lr.config.registry import class_specs

# Round trips --------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", FORMATS)
def test_a_file_gives_back_what_was_saved(tmp_path, ending):
    path = tmp_path / f"lr.{ending}"
    for name, callback in ALL.items():
        save([callback], path)
        (back,) = load(path)
        assert back == callback, name
        assert to_config(back) == to_config(callback), name
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("ending", FORMATS)
def test_many_callbacks_keep_their_order(tmp_path, ending):
    path = tmp_path / f"lr.{ending}"
    many = [
        ParamScheduler(f"optimizer of {name}", learning_rate=one)
        if isinstance(one, Schedule)
        else one
        for name, one in ALL.items()
        if not isinstance(one, GradientRate)  # of which a fit takes one
    ]
    save(many, path)
    assert load(path) == many
    save([], path)
    assert load(path) == []


@pytest.mark.parametrize("name", ALL)
def test_a_mapping_gives_back_the_object(name):
    config = to_config(ALL[name])
    assert from_config(config) == ALL[name]
    assert from_config(json.loads(json.dumps(config))) == ALL[name]
    assert len(config) == 1


def test_the_path_of_a_record_comes_back():
    assert from_config(to_config(LRHistory("a.npz"))).state_path == "a.npz"
    assert to_config(LRHistory()) == {"LRHistory": {}}


@pytest.mark.parametrize("ending", FORMATS)
def test_seventy_levels_come_back_and_more_are_refused_in_a_file(tmp_path, ending):
    deep = Constant(0.1)
    for _ in range(70):
        deep = deep.warmup("1 steps")
    save(deep, tmp_path / f"lr.{ending}")
    assert load(tmp_path / f"lr.{ending}") == [deep]
    for _ in range(300):
        deep = deep.warmup("1 steps")
    assert from_config(to_config(deep)) == deep
    assert "nested at most" in str(refused(save, deep, tmp_path / f"lr.{ending}"))
    assert load(tmp_path / f"lr.{ending}") != [deep]


rates = st.floats(1e-300, 3e38)
lengths = st.one_of(
    st.integers(1, 99),
    st.floats(0.01, 1e6),
    st.builds("{} steps".format, st.integers(1, 9999)),
    st.builds("{}%".format, st.floats(0.1, 100)),
)
leaves = st.one_of(
    st.builds(Constant, rates),
    st.builds(CosineDecay, rates, rates, lengths),
    st.builds(StepDecay, rates, st.floats(0.01, 1), lengths),
    st.builds(lambda a, b: PiecewiseConstant([1, 2.5], [a, b, 0]), rates, rates),
)
schedules = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(Warmup, inner, lengths, rates),
        st.builds(lambda a, b, over: a.lasting(over) >> b, inner, inner, lengths),
        st.builds(lambda a, b: a * b, inner, inner),
        st.builds(
            lambda a, n, s: a.repeat(n, stretch=s),
            inner,
            st.integers(1, 9),
            st.floats(1e-30, 1e30),  # of which even the eighth power is finite
        ),
        st.builds(lambda a, low: a.clip(min=low).per_epoch(), inner, rates),
    ),
    max_leaves=8,
)


@settings(max_examples=25, deadline=None)
@given(one=schedules)
def test_any_nesting_comes_back_in_every_format(tmp_path_factory, one):
    folder = tmp_path_factory.mktemp("nesting")
    for ending in ("yaml", "toml", "json"):
        save(one, folder / f"lr.{ending}")
        assert load(folder / f"lr.{ending}") == [one]
    assert validator.is_valid({"callbacks": [to_config(one)]})


def test_defaults_are_left_out_and_lists_stand_alone():
    rate = LinearDecay(0.0, 0.1, over="5 epochs") >> CosineDecay(0.1)
    assert to_config([rate, ReduceLROnPlateau(patience=3)]) == {
        "callbacks": [
            {
                "Sequence": [
                    {"LinearDecay": {"initial_lr": 0.0, "final_lr": 0.1, "over": "5 epochs"}},
                    {"CosineDecay": {"initial_lr": 0.1}},
                ]
            },
            {"ReduceLROnPlateau": {"patience": 3}},
        ]
    }


def test_names_are_those_of_the_arguments():
    assert to_config(PiecewiseConstant([1], [0.1, 0.2])) == {
        "PiecewiseConstant": {"boundaries": [1], "values": [0.1, 0.2]}
    }
    assert to_config(Constant(0.1).lasting(1).repeat(2, scale=0.5))["Repeat"]["scale"] == 0.5
    assert to_config(OneCycle(0.1, warmup="10%"))["OneCycle"]["warmup"] == "10%"


# Hostile files ------------------------------------------------------------------------------------

LAUGHS = "a: &a [1,2,3,4,5,6,7,8,9]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n"
    for old, new in zip("abcdefghijkl", "bcdefghijklm", strict=True)
)
HOSTILE = {
    "laughs.yaml": LAUGHS + "callbacks: *m\n",
    "flow.yaml": "callbacks: " + "[" * 10_000 + "]" * 10_000,
    "block.yaml": "callbacks:\n- " + "- " * 10_000 + "1\n",
    "indented.yaml": "callbacks:\n" + "".join(" " * i + "-\n" for i in range(1000)),
    "mappings.json": '{"callbacks": ' + '{"Warmup": ' * 10_000 + "1" + "}" * 10_001,
    "lists.json": "[" * 10_000 + "]" * 10_000,
    "tables.toml": "callbacks = " + "{a = " * 10_000 + "1" + "}" * 10_000,
    "lists.toml": "callbacks = " + "[" * 10_000 + "]" * 10_000,
    "dots.toml": ".".join("a" * 10_000) + " = 1",
    "headers.toml": "".join(f"[a{i}{'.a' * 200}]\n" for i in range(2400)),
    "short-headers.toml": "".join(f"[a{i}{'.a' * 20}]\n" for i in range(16_000)),
    "dotted-keys.toml": "".join(f"b{i}{'.a' * 250} = 1\n" for i in range(1900)),
    "keys-of-a-deep-table.toml": f"[{'a.' * 290}a]\n" + "".join(f"b{i}=1\n" for i in range(90_000)),
    "inner-dots.toml": "a = [{" + "a." * 100_000 + "a = 1}]",
    "many.json": json.dumps({"callbacks": [{"Constant": {"l": 1}}] * 10_000}),
    "values.json": json.dumps({"callbacks": [0] * 60_000}),
    "zeros.yaml": "\0" * 100,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_in_few_words(tmp_path, name):
    path = tmp_path / name
    path.write_text(HOSTILE[name])
    error = refused(load, path)
    assert len(error.problems) <= 101
    assert all(len(line) < 1000 for line in str(error).splitlines())


def test_a_line_of_toml_may_hold_many_numbers(tmp_path):
    boundaries, values = list(range(1, 1000)), [0.1] * 1000
    path = tmp_path / "lr.toml"
    path.write_text(f"[PiecewiseConstant]\nboundaries = {boundaries}\nvalues = {values}\n")
    assert load(path) == [PiecewiseConstant(boundaries, values)]


@pytest.mark.parametrize("ending", FORMATS)
def test_a_file_of_fifty_megabytes_is_not_read(tmp_path, ending):
    path = tmp_path / f"lr.{ending}"
    with path.open("wb") as file:
        file.truncate(50_000_000)
    assert str(refused(load, path)) == f"{path}: must be at most {MAX_BYTES} bytes long"


def test_a_mapping_that_holds_itself_is_refused():
    config: dict[str, Any] = {}
    config["Warmup"] = {"schedule": config, "over": 1}
    assert "nested at most" in str(refused(from_config, config))
    wide: list[Any] = [1]
    for _ in range(40):
        wide = [wide, wide]
    assert "values in all" in str(refused(from_config, {"callbacks": wide}))


tokens = st.sampled_from(
    [
        *("callbacks", "Sequence", "Constant", "lr", "fn", "Function", "1e-3"),
        *':- \n{}[],"=|?\t.#<!&*a',
    ]
)


@settings(max_examples=100, deadline=None)
@given(content=st.one_of(st.binary(max_size=200), st.lists(tokens).map("".join).map(str.encode)))
def test_arbitrary_bytes_are_read_or_refused(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("bytes")
    for ending in ("yaml", "toml", "json"):
        path = folder / f"lr.{ending}"
        path.write_bytes(content)
        made, error = attempt(load, path)
        if error is None:
            assert all(isinstance(one, keras.callbacks.Callback) for one in made)
        else:
            assert str(error).startswith(str(path))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["rest", "x", "5%"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [*class_specs(), "schedule", "stages", "lr", "over", "initial_lr", "fn"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=10,
)


@settings(max_examples=150, deadline=None)
@given(name=st.sampled_from(sorted(class_specs())), value=values)
def test_any_value_is_read_or_refused(name, value):
    made, error = attempt(from_config, {name: value})
    if error is None:
        assert from_config(to_config(made)) == made
    else:
        assert all(problem.path.startswith(name) for problem in error.problems)
