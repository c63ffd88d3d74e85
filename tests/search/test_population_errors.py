"""What a population refuses, before any training."""

import keras
import pytest
from models import COMPILE
from problems import line, line_data

from keras_lr import CosineDecay, PopulationBasedTraining, ReduceLROnPlateau
from keras_lr.search.population.results.result import PopulationResult

X, Y = line_data()
RANGE = {"learning_rate": (0.01, 0.1)}


def run(training=None, build=line, x=X, y=Y, **fit):
    options = {"parameters": RANGE, "population": 2, "optimizer": "sgd", "verbose": 0}
    population = PopulationBasedTraining(**options | (training or {}))
    return population.run(build, x, y, **{"epochs": 2, "batch_size": 8} | fit)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"population": 1}, r"`population` must be a whole number of at least 2"),
        ({"every": "100 steps"}, r"`every` must be a whole number of epochs .* every='100 steps'"),
        ({"every": 0.5}, r"`every` must be a whole number of at least 1"),
        ({"every": "50%"}, r"`every` must be a whole number of epochs"),
        ({"quantile": 0.6}, r"`quantile` must be a finite number above 0 and at most 0.5"),
        ({"quantile": 0.0}, r"`quantile` must be a finite number above 0"),
        ({"perturb": ()}, r"`perturb` must be a list of at least 1, each a finite number above 0"),
        ({"perturb": (0.8, -1.2)}, r"`perturb` must be .*finite number above 0"),
        ({"resample": 1.5}, r"`resample` must be a finite number from 0 to 1"),
        ({"seed": -1}, r"`seed` must be a whole number of at least 0"),
        ({"mode": "up"}, r"`mode` must be one of 'auto', 'min', 'max'"),
        ({"parameters": {}}, r"`parameters` must be a dict of ranges .* with the learning rate"),
        ({"parameters": [0.1, 1.0]}, r"`parameters` must be a dict of ranges"),
        ({"parameters": {"weight_decay": (0.1, 1)}}, r"with the learning rate among them"),
        ({"parameters": {"learning_rate": 0.1}}, r"learning_rate needs a list of exactly 2"),
        ({"parameters": {"learning_rate": (0.0, 0.1)}}, r"learning_rate needs .* above 0"),
        ({"parameters": {"learning_rate": (0.1, 0.1)}}, r"learning_rate needs a lower end below"),
        ({"parameters": RANGE | {"momentum": (0.9, 1.0)}}, r"momentum needs .* below 1"),
        ({"optimizer": "sdg"}, r"`optimizer` must be a name of Keras .*knows no 'sdg'"),
        ({"optimizer": keras.optimizers.SGD}, r"pass an object: SGD\(\)"),
        ({"popluation": 4}, r"unknown argument `popluation`.* Did you mean `population`"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_arguments_of_a_population(arguments, words):
    with pytest.raises((TypeError, ValueError), match=words):
        PopulationBasedTraining(**{"parameters": RANGE} | arguments)


def test_the_ranges_have_to_be_given():
    with pytest.raises(TypeError, match="parameters"):
        PopulationBasedTraining()


def with_own_optimizer(optimizer):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("adam", "mse", **COMPILE)
    return model


ONE = []


def the_same(optimizer):
    if not ONE:
        ONE.append(line(optimizer))
    ONE[0].compile(optimizer, "mse", **COMPILE)
    return ONE[0]


def batches():
    while True:
        yield X, Y


@pytest.mark.core
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"epochs": 0}, r"`epochs` must be a whole number of at least 1. Received: epochs=0"),
        ({"epochs": 1}, r"`epochs` must be more than the 1 of a round.* Received: epochs=1"),
        ({"x": None, "y": None}, r"`x` must hold data to train on"),
        ({"x": batches(), "y": None, "batch_size": None}, r"`x` must be data that can be read ag"),
        ({"test_data": batches()}, r"`test_data` must be data that can be read again"),
        ({"batchsize": 8}, r"unknown argument `batchsize`.* Did you mean `batch_size`"),
        ({"initial_epoch": 1}, r"`initial_epoch` is decided by the population"),
        ({"build": "model"}, r"`build` must be a function of an optimizer"),
        ({"build": {"1x": line, "4x": line}}, r"`build` must be one function, since members copy"),
        ({"build": lambda optimizer: None}, r"must return a compiled Keras model. Received: None"),
        ({"build": with_own_optimizer}, r"must compile the model with the optimizer that it is"),
        ({"build": the_same}, r"must return a new model at each call"),
        ({"callbacks": [CosineDecay(0.1)]}, r"none that decides the learning rate, which the pop"),
        ({"callbacks": [keras.callbacks.EarlyStopping("loss")]}, r"Received: EarlyStopping"),
        ({"callbacks": [keras.callbacks.ReduceLROnPlateau("loss")]}, r"ReduceLROnPlateau"),
        ({"callbacks": [ReduceLROnPlateau("loss")]}, r"none that remembers earlier epochs, dec"),
        (
            {"callbacks": [keras.callbacks.BackupAndRestore("backup")]},
            r"no BackupAndRestore.*PopulationBasedTraining\(directory=",
        ),
        ({"callbacks": ["EarlyStopping"]}, r"`callbacks` must be a list of Keras callbacks"),
        ({"engine": "cluster"}, r"`engine` must be one of 'local'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_arguments_of_run(arguments, words, trainings):
    with pytest.raises((TypeError, ValueError), match=words) as error:
        run(**arguments)
    assert str(error.value).startswith("PopulationBasedTraining.run: ")
    assert trainings() == 0


@pytest.mark.core
@pytest.mark.parametrize(
    ("training", "words"),
    [
        ({"monitor": "val_loss"}, r"`monitor` must name a value that an epoch logs.*val_loss"),
        (
            {"parameters": RANGE | {"momentum": (0.5, 0.9)}},
            r"built with momentum=0 and keeps no velocity.* SGD\(momentum=0.9\)",
        ),
        (
            {"parameters": RANGE | {"weight_decay": (0.1, 1.0)}},
            r"has no hyperparameter 'weight_decay' to move \(weight_decay=None: it is not used\)",
        ),
        ({"parameters": RANGE | {"clipnorm": (0.1, 1.0)}}, r"has no hyperparameter 'clipnorm'"),
        ({"parameters": RANGE | {"beta1": (0.5, 0.9)}, "optimizer": "adam"}, "mean 'beta_1'"),
    ],
)
def test_what_the_model_does_not_have(training, words, trainings):
    with pytest.raises(ValueError, match=words):
        run(training)
    assert trainings() == 0


def test_several_epochs_of_a_round():
    with pytest.raises(ValueError, match=r"more than the 2 of a round"):
        run({"every": "2 epochs"})


def test_what_was_not_trained_has_no_picture(tmp_path):
    result = run()
    with pytest.raises(ValueError, match=r"`axes` must be 2 axes.* Received: 1"):
        result.plot([result.plot()[0]])
    nothing = PopulationResult((), result.criterion, result.rule, 1)
    with pytest.raises(ValueError, match="nothing was trained"):
        nothing.plot()
    with pytest.raises(FileNotFoundError):
        PopulationResult.load(tmp_path)
