"""Configs: what is read, what is refused, and what the errors say."""

import json
import pickle
import sys

import keras
import numpy as np
import pytest
import yaml
from configs import FORMATS, Own, bad, refused, write
from omegaconf import OmegaConf

from keras_lr import (
    Constant,
    CosineDecay,
    Function,
    LinearDecay,
    LRHistory,
    ParamScheduler,
    ReduceLROnPlateau,
    Schedule,
    Sequence,
    from_config,
    load,
    register,
    save,
    to_config,
)
from keras_lr._fields.kinds import PositiveRate
from keras_lr.schedules.base import schedule

# What is read -------------------------------------------------------------------------------------


def test_a_yaml_file_as_people_write_it(tmp_path):
    path = tmp_path / "lr.yaml"
    path.write_text(
        "\ufeff# a comment\n"
        "callbacks:\n"
        "  - Sequence:\n"
        "      - LinearDecay: {initial_lr: 0.0, final_lr: 1e-1, over: 5 epochs}\n"
        "      - CosineDecay: {initial_lr: 1.e-1}\n"
        "  - ReduceLROnPlateau: {monitor: val_loss, factor: .5, patience: 3}\n"
        "  - LRHistory:\n",
        encoding="utf-8",
    )
    assert load(path) == [
        LinearDecay(0.0, 0.1, over="5 epochs") >> CosineDecay(0.1),
        ReduceLROnPlateau(factor=0.5, patience=3),
        LRHistory(),
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("1e-3", 1e-3), ("+3", 3), ("12:30", "12:30"), ("no", "no"), ("'5'", "5"), ("~", None)),
        *(("2001-01-01", "2001-01-01"), ("0x1F", "0x1F"), ("true", True), ("1_0", "1_0")),
    ],
)
def test_yaml_scalars_are_those_of_yaml_1_2(tmp_path, text, value):
    path = tmp_path / "lr.yaml"
    path.write_text(f"callbacks:\n- Constant: {{lr: {text}}}\n")
    if isinstance(value, int | float) and not isinstance(value, bool):
        assert load(path) == [Constant(value)]
    else:
        assert f"Received: {value!r}" in str(refused(load, path))


def test_an_alias_repeats_a_value(tmp_path):
    path = tmp_path / "lr.yaml"
    path.write_text(
        "callbacks:\n"
        "- ParamScheduler:\n"
        "    beta_1: &a {Constant: {lr: &b 0.5}}\n"
        "    momentum: *a\n"
        "- Constant: {lr: *b}\n"
    )
    half = Constant(0.5)
    assert load(path) == [ParamScheduler(beta_1=half, momentum=half), half]


def test_a_single_list_of_a_class_may_also_be_named():
    one = {"Constant": {"lr": 0.1}}
    assert from_config({"Sequence": {"stages": [one]}}) == Sequence([Constant(0.1)])
    assert from_config({"Product": [one, one]}) == Constant(0.1) * Constant(0.1)
    assert from_config({"Sum": [one, one]}) == Constant(0.1) + Constant(0.1)
    difference = Constant(0.1) - 0.1
    assert to_config(difference) == {"Sum": {"terms": [one], "minus": [one]}}
    assert from_config(to_config(difference)) == difference


@pytest.mark.parametrize("none", [None, "none", "None"])
def test_none_can_be_said_where_a_format_has_no_null(none):
    assert from_config({"OneCycle": {"max_lr": 0.1, "momentum": none}}).momentum is None


def test_containers_of_omegaconf_are_read():
    given = OmegaConf.create(
        {
            "lr": 0.1,
            "rate": {"Sequence": [{"LinearDecay": {"initial_lr": "${lr}", "over": 5}}]},
            "callbacks": [{"Constant": {"lr": "${lr}"}}],
        }
    )
    assert from_config(given.rate) == Sequence([LinearDecay(0.1, over=5)])
    assert from_config({"callbacks": given.callbacks}) == [Constant(0.1)]
    for value, words in (("${nope}", "'nope' not found"), ("???", "Missing mandatory")):
        error = refused(from_config, OmegaConf.create({"Constant": {"lr": value}}))
        assert error.problems[0].path == "Constant.lr"
        assert words in str(error)


def test_an_objective_can_fill_a_config_in():
    for lr in (np.float64(0.1), np.float32(0.25), 1):
        rate = from_config({"Warmup": {"schedule": {"CosineDecay": {"initial_lr": lr}}, "over": 5}})
        assert rate == CosineDecay(float(lr)).warmup(5)


def test_the_config_that_was_given_is_left_alone():
    config = {"callbacks": [{"Sequence": [{"Constant": {"lr": 1}}]}]}
    kept = json.loads(json.dumps(config))
    from_config(config)
    assert config == kept


# Functions and classes of the user ----------------------------------------------------------------


def test_what_is_not_registered_is_refused_with_what_to_do():
    def fn(epoch):
        return 0.1

    for one in (Function(fn), Function(lambda epoch: 0.1)):
        error = refused(to_config, [one])
        assert error.problems[0].path == "callbacks[0].Function.fn"
        assert "@keras_lr.register" in str(error)

    @schedule
    class Unknown(Schedule):
        """Another."""

        lr: PositiveRate

    assert "Unknown is not known to configs" in str(refused(to_config, Unknown(0.1)))
    assert "@keras_lr.register" in str(refused(to_config, Unknown(0.1)))
    assert "@keras_lr.register" in bad([{"Unknowing": {"lr": 0.1}}])["callbacks[0].Unknowing"]


def test_what_a_config_cannot_hold_is_refused(tmp_path):
    in_graph = Constant(0.1).in_graph(epochs=1, steps_per_epoch=1)
    optimizer = ParamScheduler(keras.optimizers.SGD(), momentum=Constant(0.1))
    for one in (in_graph, Function(in_graph), optimizer, keras.callbacks.EarlyStopping(), 3):
        assert "Received" in str(refused(to_config, one))
        refused(save, one, tmp_path / "lr.json")
    assert list(tmp_path.iterdir()) == []


def test_a_name_can_be_taken_once():
    def taken(epoch):
        return 0.1

    assert register("taken_once")(taken) is taken
    assert register("taken_once")(taken) is taken
    for name in ("taken_once", "CosineDecay", "ExponentialDecay", "LRHistory", "callbacks"):
        with pytest.raises(ValueError, match="is taken"):
            register(name)(lambda epoch: 0.2)


@pytest.mark.parametrize("thing", [3, None, dict, Schedule, LRHistory, lambda a, b, c: 0.1])
def test_only_functions_and_schedules_register(thing):
    with pytest.raises(TypeError):
        register("something")(thing)


def test_a_lambda_needs_a_name():
    with pytest.raises(ValueError, match="pass one"):
        register(lambda epoch: 0.1)


def test_a_config_imports_and_evaluates_nothing(tmp_path):
    before = set(sys.modules)
    for name in ("os.system", "antigravity", "antigravity.geohash", "__import__('antigravity')"):
        bad([{name: {}}, {"Function": {"fn": name}}, {"Function": {"fn": {name: {}}}}])
        bad([{"Constant": {"lr": name}}, {"ParamScheduler": {"momentum": {name: {}}}}])
    path = tmp_path / "lr.yaml"
    for tag in ("!!python/object/apply:os.system [x]", "!!python/name:antigravity.x", "!own x"):
        path.write_text(f"callbacks:\n- {tag}\n")
        assert str(refused(load, path)).startswith(f"{path}:2: tags are refused")
    assert "antigravity" not in set(sys.modules) - before


# Errors -------------------------------------------------------------------------------------------

BROKEN = """\
callbacks:
- Sequence:
  - LinearDecay: {initial_lr: -1, finl_lr: 0.1, over: 5 parsecs}
  - CosinDecay: {initial_lr: 1e-3}
- ReduceLROnPlateau:
    patience: 3
    mode: mni
- TriangularCLR: {max_lr: 0.5, base_lr: 1}
- Function: {fn: by_epok}
- StepDecay: {}
"""
WANTED = {
    "callbacks[0].Sequence[0].LinearDecay.initial_lr": (3, "of at least 0. Received: -1"),
    "callbacks[0].Sequence[0].LinearDecay.finl_lr": (3, "Did you mean `final_lr`?"),
    "callbacks[0].Sequence[0].LinearDecay.over": (3, "Received: '5 parsecs'"),
    "callbacks[0].Sequence[1].CosinDecay": (4, "Did you mean `CosineDecay`?"),
    "callbacks[1].ReduceLROnPlateau.mode": (7, "did you mean 'min'?"),
    "callbacks[2].TriangularCLR": (8, "`max_lr` must be at least base_lr=1.0. Received: max_lr"),
    "callbacks[3].Function.fn": (9, "Did you mean `by_epoch`?"),
    "callbacks[4].StepDecay": (10, "the argument `initial_lr` is missing: a finite number above 0"),
}


@pytest.mark.parametrize("ending", FORMATS)
def test_every_error_of_a_file_is_said_with_its_place(tmp_path, ending):
    path = tmp_path / f"lr.{ending}"
    path.write_text(BROKEN)
    if ending not in ("yaml", "yml"):
        data = json.loads(json.dumps(yaml.safe_load(BROKEN)))
        data["callbacks"][0]["Sequence"][1]["CosinDecay"]["initial_lr"] = 1e-3
        write(path, data)
    error = refused(load, path)
    found = {problem.path: problem for problem in error.problems}
    # LinearDecay lacks a rate too, but what is wrong is not missing.
    assert list(found) == list(WANTED)
    for place, (line, words) in WANTED.items():
        assert words in found[place].message
        assert found[place].line == (line if ending in ("yaml", "yml") else None)
        prefix = f"{path}:{line}" if ending in ("yaml", "yml") else f"{path}"
        assert f"{prefix}: {place}: {found[place].message}" in str(error).splitlines()
    assert error.file == str(path)


@pytest.mark.parametrize(
    ("callback", "place", "words"),
    [
        ("OneCycle", "", "write OneCycle: {max_lr: ...}"),
        ("LRHistory", "", "write LRHistory: {}"),
        ({"OneCycle": None, "max_lr": 0.1}, "", "indent its arguments"),
        ({}, "", "a mapping with one key"),
        (None, "", "a mapping with one key, the name of a callback. Received: None"),
        ({3: {}}, "[3]", "unknown name"),
        ({"Constant": [0.1]}, ".Constant", "a mapping of arguments to values"),
        ({"Sequence": []}, ".Sequence", "a list of at least 1"),
        ({"Sequence": [{"ReduceLROnPlateau": {}}]}, ".Sequence[0].ReduceLROnPlateau", "a schedule"),
        ({"ParamScheduler": {}}, ".ParamScheduler", "at least one schedule"),
        ({"ParamScheduler": {"optimizer": 3}}, ".ParamScheduler.optimizer", "a string"),
        ({"ParamScheduler": {"momentum": 0.9}}, ".ParamScheduler.momentum", "of a schedule"),
        ({"LRHistory": {"state_pth": 1}}, ".LRHistory.state_pth", "Did you mean `state_path`?"),
        ({"OneCycle": {"max_lr": 1, "momentum": [0.5]}}, ".OneCycle.momentum", "exactly 2"),
        ({"OneCycle": {"max_lr": 1, "momentum": 0.5}}, ".OneCycle.momentum", ", or none"),
        ({"OneCycle": {"max_lr": 1, "momentum": [0, 2]}}, ".OneCycle.momentum[1]", "below 1"),
        ({"Constant": {"lr": 10**400}}, ".Constant.lr", "a finite number"),
        ({"Constant": {"lr": True}}, ".Constant.lr", "Received: True"),
        ({"StepDecay": {"initial_lr": 1, "every": "rest"}}, ".StepDecay.every", "of its own"),
        ({"InverseSqrtDecay": {"initial_lr": 1}}, ".InverseSqrtDecay", "'2000 steps' or '30%'"),
        ({"Function": {"fn": {"CosineDecay": {}}}}, ".Function.fn.CosineDecay", "is missing"),
        (
            {"Function": {"fn": {"ExponentialDecy": {}}}},
            ".Function.fn.ExponentialDecy",
            "Did you mean `ExponentialDecay`?",
        ),
        (
            {"Function": {"fn": {"own_keras": {"rate": {}}}}},
            ".Function.fn.own_keras.rate",
            "a number, true or false, none, text, or a list",
        ),
        ({"Function": {"fn": {"own_keras": {"rate": "fast"}}}}, ".Function.fn.own_keras", ""),
        (
            {"Function": {"fn": {"CosineDecay": {"initial_learning_rate": "x", "decay_steps": 1}}}},
            ".Function.fn.CosineDecay.initial_learning_rate",
            "must be a finite number from -3.40282e+38 to 3.40282e+38. Received",
        ),
        (
            {"Function": {"fn": {"PiecewiseConstantDecay": {"boundaries": [1], "values": [1]}}}},
            ".Function.fn.PiecewiseConstantDecay",
            "length of boundaries",
        ),
        ({"Function": {"fn": 3}}, ".Function.fn", "the name of a Keras schedule"),
        ({"CosineDecay": {"class_name": "Constant"}}, ".CosineDecay.class_name", "unknown"),
    ],
)
def test_an_error_says_what_was_expected(callback, place, words):
    assert words in bad([callback])[f"callbacks[0]{place}"]


@pytest.mark.parametrize("key", ["callback", "Callbacks", "calbacks"])
def test_a_misspelt_key_above_the_list_is_told_its_name(key):
    error = refused(from_config, {key: [{"Constant": {"lr": 1}}]})
    assert str(error) == f"{key}: unknown key. Did you mean `callbacks`?"


RATE, CYCLE = {"CosineDecay": {"initial_lr": 0.1}}, {"OneCycle": {"max_lr": 0.1}}


def scheduler(*names, **optimizer):
    return {"ParamScheduler": optimizer | dict.fromkeys(names, RATE)}


@pytest.mark.parametrize(
    ("callbacks", "wrong", "words"),
    [
        ([RATE, RATE], "[1].CosineDecay", "drives learning_rate of the same optimizer as"),
        ([RATE, {"LRHistory": {}}, CYCLE], "[2].OneCycle", "as callbacks[0].CosineDecay"),
        ([RATE, scheduler("learning_rate")], "[1].ParamScheduler.learning_rate", "as callbacks[0]"),
        ([scheduler("learning_rate"), RATE], "[1].CosineDecay", "[0].ParamScheduler.learning_rate"),
        ([scheduler("rho")] * 2, "[1].ParamScheduler.rho", "drives rho"),
        ([scheduler("rho", optimizer="d")] * 2, "[1].ParamScheduler.rho", "drives rho"),
        ([RATE, scheduler("learning_rate", optimizer="optimizer")], "[1].ParamScheduler.lear", ""),
        ([RATE, {"LRRangeTest": {"auto": CYCLE}}], "[1].LRRangeTest.auto", "drives learning_rate"),
        ([CYCLE, scheduler("momentum")], "[1].ParamScheduler.momentum", "drives momentum"),
        ([scheduler("momentum"), {"LRRangeTest": {"auto": CYCLE}}], "[1].LRRangeTest.auto", "mom"),
    ],
)
def test_two_callbacks_that_drive_one_number_are_an_error(callbacks, wrong, words):
    ((path, message),) = bad(callbacks).items()
    assert path.startswith(f"callbacks{wrong}")
    assert words in message


@pytest.mark.parametrize(
    "callbacks",
    [
        [RATE, scheduler("momentum", "beta_1")],
        [RATE, scheduler("learning_rate", optimizer="d")],
        [scheduler("learning_rate", optimizer=name) for name in ("a", "b")],
        [RATE, {"LRRangeTest": {"apply": True}}, {"ReduceLROnPlateau": {}}, {"LRHistory": {}}],
        # Adam's beta_1 may be zero, which OneCycle leaves alone.
        [CYCLE, scheduler("beta_1")],
        [{"OneCycle": {"max_lr": 0.1, "momentum": None}}, scheduler("momentum")],
        [{"Warmup": {"schedule": CYCLE, "over": 1}}, scheduler("momentum")],
        [],
    ],
)
def test_callbacks_that_some_model_lets_go_together_are_no_error(callbacks):
    assert len(from_config({"callbacks": callbacks})) == len(callbacks)


def test_a_conflict_is_said_with_its_line_among_the_other_errors(tmp_path):
    path = tmp_path / "lr.yaml"
    rate = "- CosineDecay: {initial_lr: 0.1}\n"
    path.write_text(f"callbacks:\n{rate}- Constant: {{lr: -1}}\n{rate}")
    error = refused(load, path)
    assert [(problem.line, problem.path) for problem in error.problems] == [
        (3, "callbacks[1].Constant.lr"),
        (4, "callbacks[2].CosineDecay"),
    ]


def test_a_schedule_that_asks_more_of_its_optimizer_is_no_error():
    @register
    @schedule
    class Asking(Schedule):
        """A schedule of a user.

        Args:
            lr: The rate.
        """

        lr: PositiveRate

        def hyperparameter_schedules(self, optimizer):
            return {"weight_decay": self} if optimizer.weight_decay else {}

    asking = {"Asking": {"lr": 0.1}}
    assert from_config({"callbacks": [asking, asking]}) == [Asking(0.1), Asking(0.1)]


def test_what_stands_beside_the_callbacks_is_refused():
    error = refused(from_config, {"callbacks": [], "callback": [], 3: 4})
    assert [problem.path for problem in error.problems] == ["callback", "[3]"]
    assert "a list of callbacks" in str(refused(from_config, {"callbacks": {}}))


@pytest.mark.parametrize("config", [None, 3, "Constant", [], {}, {"Constant": {}, "x": {}}])
def test_what_is_no_config_is_refused(config):
    assert "a mapping with one key, the name of a class" in str(refused(from_config, config))


def test_an_error_can_be_pickled():
    error = refused(from_config, {"Constant": {"lr": -1}})
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.yaml", "callbacks:\n- [1", ":3: is not valid YAML"),
        ("a.yaml", "a: 1\na: 2\n", ":2: the key 'a' appears twice"),
        ("a.yaml", "a: 1\n---\nb: 1\n", ":2: must be one document"),
        ("a.yaml", "[a]: 1\n", ":1: a key must be a word"),
        ("a.yaml", "callbacks: *a\n", ":1: the alias *a"),
        ("a.yaml", "callbacks: &a [*a]\n", ":1: the alias *a"),
        ("a.yaml", "- Constant: {lr: 1}\n", ":1: must be a mapping with the key `callbacks`"),
        ("a.json", '{"callbacks":\n[}', ":2: is not valid JSON"),
        ("a.json", '{"a": 1, "a": 2}', ": the key 'a' appears twice"),
        ("a.json", '{"callbacks": [NaN]}', ": NaN is not a number"),
        ("a.json", f'{{"callbacks": [1{"0" * 5000}]}}', ": is not valid JSON"),
        ("a.toml", "a = 1\nb\nc = 1\n", ":2: is not valid TOML"),
        ("a.toml", "a = 1\na = 2\n", ":2: is not valid TOML"),
        ("a.txt", "", ": the name must end in one of .yaml, .yml, .toml, .json"),
    ],
)
def test_a_file_that_cannot_be_read_says_where(tmp_path, name, text, words):
    path = tmp_path / name
    path.write_text(text)
    assert str(refused(load, path)).startswith(f"{path}{words}")


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "lr.yaml")


@pytest.mark.parametrize(("module", "ending"), [("yaml", "yaml"), ("tomli_w", "toml")])
def test_a_missing_package_is_named(tmp_path, monkeypatch, module, ending):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"keras-lr\[config\]"):
        save(Constant(0.1), tmp_path / f"lr.{ending}")
    save(Constant(0.1), tmp_path / "lr.json")
    assert load(tmp_path / "lr.json") == [Constant(0.1)]


def test_saving_leaves_the_old_file_where_it_fails(tmp_path):
    path = tmp_path / "lr.yaml"
    save(Constant(0.1), path)
    refused(save, [Constant(0.2), Function(lambda epoch: 0.1)], path)
    assert load(path) == [Constant(0.1)]


def test_toml_refuses_the_null_that_it_cannot_tell_from_text(tmp_path):
    save(Own(0.1, None), tmp_path / "lr.json")
    assert load(tmp_path / "lr.json") == [Own(0.1, None)]
    assert "use another" in str(refused(save, Own(0.1, None), tmp_path / "lr.toml"))


@pytest.mark.parametrize("ending", FORMATS)
def test_a_file_that_holds_one_callback_alone(tmp_path, ending):
    path = write(tmp_path / f"lr.{ending}", {"CosineDecay": {"initial_lr": 0.1}})
    assert load(path) == [CosineDecay(0.1)]
    write(path, {"CosinDecay": {"initial_lr": 0.1}})
    assert "Did you mean `CosineDecay`?" in str(refused(load, path))
