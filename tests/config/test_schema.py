"""The JSON Schema: it takes every object and refuses what the reader refuses."""

import dataclasses
import json

import jsonschema
import pytest
import yaml
from configs import ALL, EXAMPLES, bad, validator

import keras_lr
from keras_lr import (
    Schedule,
    load,
    save,
    to_config,
)
from keras_lr.config.registry import class_specs
from keras_lr.config.schema import descriptions, schema


def load_plain(path):
    """Return what a file holds by a reader that is not this package's."""
    if path.suffix == ".toml":
        import tomllib

        return tomllib.loads(path.read_text())
    # PyYAML takes 1e-3, without a point, for text.
    return yaml.safe_load(path.read_text().replace("1e-", "1.0e-"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_valid_and_comes_back(tmp_path, path):
    validator.validate(load_plain(path))
    callbacks = load(path)
    assert callbacks
    save(callbacks, tmp_path / f"again{path.suffix}")
    assert load(tmp_path / f"again{path.suffix}") == callbacks


def test_there_are_examples_in_every_format():
    assert {path.suffix for path in EXAMPLES} >= {".yaml", ".toml", ".json"}


def test_the_schema_is_one_and_takes_every_object():
    made = schema()
    jsonschema.Draft202012Validator.check_schema(made)
    whole = jsonschema.Draft202012Validator(json.loads(json.dumps(made)))
    for name, one in ALL.items():
        errors = whole.iter_errors({"callbacks": [to_config(one)]})
        assert [error.message for error in errors] == [], name


@pytest.mark.parametrize(
    "callback",
    [
        {"CosinDecay": {"initial_lr": 0.1}},
        {"CosineDecay": {"initial_lr": 0.1}, "Constant": {"lr": 0.1}},
        {"CosineDecay": {}},
        {"CosineDecay": None},
        {"CosineDecay": {"initial_lr": 0.1, "ovr": 5}},
        {"CosineDecay": {"initial_lr": -0.1}},
        {"CosineDecay": {"initial_lr": "high"}},
        {"CosineDecay": {"initial_lr": 0.1, "over": "5 parsecs"}},
        {"CosineDecay": {"initial_lr": 0.1, "over": -5}},
        {"StepDecay": {"initial_lr": 0.1, "every": "rest"}},
        {"StepDecay": {"initial_lr": 0.1, "factor": 0}},
        {"TriangularCLR": {"base_lr": 0.1, "max_lr": 1, "gamma": 1.5}},
        {"TriangularCLR": {"base_lr": 0.1, "max_lr": 1, "scale": "nobody"}},
        {"TriangularCLR": {"base_lr": 0.1, "max_lr": 1, "scale": 0.5}},
        {"TriangularCLR": {"base_lr": 0.1, "max_lr": 1, "mode": "square"}},
        {"TimeDecay": {"initial_lr": 0.1, "rate": 1, "compounding": "yes"}},
        {"OneCycle": {"max_lr": 0.1, "momentum": [0.1, 0.2, 0.3]}},
        {"ReduceLROnPlateau": {"patience": 2.5}},
        {"ReduceLROnPlateau": {"patience": "3 epochs"}},
        {"LRRangeTest": {"steps": 5}},
        {"LRRangeTest": {"steps": "30%"}},
        {"Sequence": []},
        {"Sequence": [{"ReduceLROnPlateau": {}}]},
        {"Warmup": {"schedule": "CosineDecay", "over": 5}},
        {"ParamScheduler": {}},
        {"ParamScheduler": {"optimizer": "x"}},
        {"ParamScheduler": {"momentum": 0.9}},
        {"Function": {"fn": "nobody"}},
        {"Function": {"fn": {"Cosine": {}}}},
        {"LRHistory": {"path": "x"}},
        "LRHistory",
        None,
    ],
)
def test_schema_and_reader_refuse_the_same(callback):
    assert not validator.is_valid({"callbacks": [callback]})
    assert bad([callback])


def test_every_argument_is_described_in_the_schema():
    for name, spec in class_specs().items():
        about, told = descriptions(spec.cls)
        assert about, name
        assert set(spec.arguments) <= set(told), name
        made = schema()["$defs"][name]
        made = made if "properties" in made else made["anyOf"][1]
        assert {n: p["description"] for n, p in made["properties"].items()} == {
            argument: told[argument] for argument in spec.arguments
        }, name


def test_every_public_schedule_has_a_form():
    public = (getattr(keras_lr, name) for name in keras_lr.__all__)
    wanted = {
        cls.__name__
        for cls in public
        if isinstance(cls, type) and dataclasses.is_dataclass(cls) and issubclass(cls, Schedule)
    }
    assert wanted <= set(class_specs())
    assert {"LayerRates", "LayerDecay"} <= set(class_specs())
    assert {"LRHistory", "ParamScheduler", "ReduceLROnPlateau", "LRRangeTest"} <= set(class_specs())
