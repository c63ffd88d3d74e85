"""Other packages that train with callbacks: searches, estimators, applications, Hydra."""

import hydra
import keras
import keras_tuner
import numpy as np
import optuna
import pytest
import scikeras.wrappers
from models import COMPILE
from sklearn.model_selection import GridSearchCV, cross_val_score

from keras_lr import (
    Constant,
    CosineDecay,
    LayerRates,
    LRHistory,
    ReduceLROnPlateau,
    StepDecay,
    TriangularCLR,
    from_config,
)

EPOCHS, STEPS = 2, 4
X = np.random.default_rng(0).normal(size=(STEPS * 8, 3)).astype("float32")
Y = X.sum(axis=1, keepdims=True)
DATA = {"x": X, "y": Y, "batch_size": 8, "epochs": EPOCHS, "verbose": 0}


def linear():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1.0), "mse", **COMPILE)
    return model


def follows(history, schedule):
    """Return whether a fit of `DATA` used the rates of a schedule."""
    curve = schedule.values(epochs=EPOCHS, steps_per_epoch=STEPS)
    return np.array_equal(history.learning_rate, np.float32(curve))


def shape_of(choice, lr):
    """A config as a search makes it, and the schedule by hand."""
    if choice == "cosine":
        config = {"Warmup": {"schedule": {"CosineDecay": {"initial_lr": lr}}, "over": "3 steps"}}
        return config, CosineDecay(lr).warmup("3 steps")
    return {"StepDecay": {"initial_lr": lr, "every": 1}}, StepDecay(lr, every=1)


# KerasTuner.


@pytest.mark.slow
def test_an_objective_of_keras_tuner(tmp_path):
    seen = []

    class Model(keras_tuner.HyperModel):
        def build(self, hp):
            return linear()

        def fit(self, hp, model, *args, callbacks, **options):
            lr = hp.Float("lr", 1e-3, 1e-1, sampling="log")
            config, schedule = shape_of(hp.Choice("shape", ["cosine", "step"]), lr)
            rate, history = from_config({"callbacks": [config, {"LRHistory": {}}]})
            seen.append((lr, schedule, history))
            return model.fit(*args, callbacks=[*callbacks, rate, history], **options)

    tuner = keras_tuner.RandomSearch(
        Model(), "loss", max_trials=4, seed=0, directory=tmp_path, project_name="search"
    )
    tuner.search(**DATA)
    assert len({lr for lr, _, _ in seen}) == 4
    assert {type(schedule).__name__ for _, schedule, _ in seen} == {"Warmup", "StepDecay"}
    assert all(follows(history, schedule) for _, schedule, history in seen)
    assert tuner.get_best_hyperparameters()[0].get("lr") in {lr for lr, _, _ in seen}


@pytest.mark.slow
def test_callbacks_that_keras_tuner_copies_for_each_trial(tmp_path):
    """A callback that is given to ``search`` is copied, also after it was used."""
    rates = []

    class Spy(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            rates.append(logs["learning_rate"])

    schedule, cuts = CosineDecay(0.1), ReduceLROnPlateau("loss", 0.5, 1, min_delta=1e9)
    linear().fit(**DATA, callbacks=[schedule, cuts])

    def build(hp):
        hp.Float("unused", 0.0, 1.0)
        return linear()

    tuner = keras_tuner.RandomSearch(
        build, "loss", max_trials=2, seed=0, directory=tmp_path, project_name="search"
    )
    tuner.search(**DATA, callbacks=[schedule, cuts, Spy()])
    used = schedule.history.learning_rate[[STEPS - 1, -1]].tolist()
    assert len(used) == len(set(used)) == EPOCHS
    np.testing.assert_allclose(rates, used * 2, rtol=1e-6)


# Optuna.


@pytest.mark.full
def test_an_objective_of_optuna():
    seen, pruned = [], []

    def objective(trial):
        lr = trial.suggest_float("lr", 1e-3, 1e-1, log=True)
        config, schedule = shape_of(trial.suggest_categorical("shape", ["cosine", "step"]), lr)
        rate, history = from_config({"callbacks": [config, {"LRHistory": {}}]})

        class Prune(keras.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                trial.report(logs["loss"], epoch)
                if trial.number % 2:
                    raise optuna.TrialPruned

        (pruned if trial.number % 2 else seen).append((schedule, history))
        return linear().fit(**DATA, callbacks=[rate, history, Prune()]).history["loss"][-1]

    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(objective, n_trials=6)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "PRUNED"] * 3
    assert all(follows(history, schedule) for schedule, history in seen)
    # A trial that is pruned keeps what it did.
    for schedule, history in pruned:
        curve = schedule.values(epochs=EPOCHS, steps_per_epoch=STEPS)[:STEPS]
        np.testing.assert_array_equal(history.learning_rate, np.float32(curve))
    assert np.isfinite(study.best_value)


# Estimators of scikit-learn.


@pytest.mark.full
def test_a_search_of_scikit_learn_over_callbacks_of_scikeras():
    """scikit-learn copies them for each of its training runs."""
    estimator = scikeras.wrappers.KerasRegressor(
        model=linear, epochs=EPOCHS, batch_size=8, verbose=0, shuffle=False
    )
    candidates = [[CosineDecay(1e-6)], [CosineDecay(0.1).warmup("2 steps"), LRHistory()]]
    search = GridSearchCV(estimator, {"callbacks": candidates}, cv=2)
    search.fit(X, Y[:, 0])
    best = search.best_params_["callbacks"]
    assert best == candidates[1]
    fitted = search.best_estimator_
    assert follows(fitted.callbacks[0].history, candidates[1][0])
    assert fitted.callbacks[1] == fitted.callbacks[0].history
    assert not len(candidates[1][0].history)
    assert np.isfinite(fitted.predict(X)).all()


def classifier(X, y):
    """Return a model for what scikit-learn gives, with a class for each column of ``y``."""
    keras.utils.set_random_seed(0)
    dense = keras.layers.Dense(y.shape[1], activation="softmax")
    model = keras.Sequential([keras.Input(X.shape[1:]), dense])
    model.compile(keras.optimizers.SGD(1.0), "categorical_crossentropy", **COMPILE)
    return model


def test_an_estimator_of_keras():
    rate, plateau = CosineDecay(0.5), ReduceLROnPlateau("loss", 0.5, 1, min_delta=1e9)
    fit = {"batch_size": 8, "epochs": EPOCHS, "verbose": 0}
    estimator = keras.wrappers.SKLearnClassifier(
        classifier, fit_kwargs=fit | {"callbacks": [rate, plateau]}
    )
    labels = (Y[:, 0] > 0).astype(int)
    estimator.fit(X, labels)
    assert set(estimator.predict(X)) <= {0, 1}
    assert len(rate.history) == EPOCHS * STEPS
    np.testing.assert_array_equal(
        rate.history.learning_rate[:STEPS],
        np.float32(rate.values(epochs=EPOCHS, steps_per_epoch=STEPS)[:STEPS]),
    )


def test_a_cross_validation_of_an_estimator_of_keras():
    """scikit-learn copies the estimator without ``fit_kwargs``, but passes these on."""
    rate, rates = CosineDecay(0.5), []
    note = keras.callbacks.LambdaCallback(
        on_train_end=lambda logs: rates.append(rate.history.learning_rate.copy())
    )
    fit = {"batch_size": 8, "epochs": EPOCHS, "verbose": 0, "callbacks": [rate, note]}
    estimator = keras.wrappers.SKLearnClassifier(classifier)
    cross_val_score(estimator, X, (Y[:, 0] > 0).astype(int), cv=2, params=fit)
    expected = rate.values(epochs=EPOCHS, steps_per_epoch=STEPS // 2)
    np.testing.assert_array_equal(rates, np.float32([expected, expected]))


# Keras's applications.


@pytest.mark.slow
def test_an_application_of_keras_thaws_below_a_new_head():
    body = keras.applications.MobileNet((32, 32, 3), 0.25, include_top=False, weights=None)
    pooled = keras.layers.GlobalAveragePooling2D()(body.output)
    outputs = keras.layers.Dense(2, name="head")(pooled)
    model = keras.Model(body.input, outputs)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(), loss, **COMPILE)
    decay = LayerRates.decay(0.75, blocks=r"conv_[dp]w_(\d+)").table(model)
    factors = {row.group: row.factor for row in decay}
    assert len(factors) == 13 + 2
    assert (factors["block_13"], factors["block_12"]) == (0.75, 0.75**2)

    rate = CosineDecay(1e-2).warmup("1 steps")
    thawing = LayerRates({"head": 1.0}, default=Constant(0.0).lasting(1) >> Constant(0.1))
    seen = []
    note = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(
            [keras.ops.convert_to_numpy(one.value) for one in body.trainable_variables]
        )
    )
    start = [keras.ops.convert_to_numpy(one.value) for one in body.trainable_variables]
    x = np.random.default_rng(0).normal(size=(8, 32, 32, 3)).astype("float32")
    y = np.arange(8) % 2
    model.fit(x, y, batch_size=4, epochs=2, verbose=0, callbacks=[rate, thawing, note])
    assert all(np.array_equal(*pair) for pair in zip(start, seen[0], strict=True))
    assert sum(not np.array_equal(*pair) for pair in zip(start, seen[1], strict=True)) > 50
    curve = rate.values(epochs=2, steps_per_epoch=2)
    np.testing.assert_allclose(thawing.history["learning_rate_head"], curve, rtol=1e-6)
    expected = curve * [0.0, 0.0, 0.1, 0.1]
    np.testing.assert_allclose(thawing.history["learning_rate_default"], expected, rtol=1e-6)


# Hydra.


@pytest.fixture
def folder(tmp_path):
    """The configs of an application: two rates to choose from, and numbers that both refer to."""
    (tmp_path / "rate").mkdir()
    for name, text in {
        "train.yaml": (
            "defaults: [rate: cosine, _self_]\n"
            "peak: 0.1\n"
            "callbacks:\n"
            "- ${rate}\n"
            "- LRHistory: {log_dir: '${oc.env:RUNS}/one'}\n"
        ),
        "rate/cosine.yaml": "CosineDecay: {initial_lr: '${peak}', final_lr: 0.01}\n",
        "rate/cycle.yaml": (
            "TriangularCLR: {base_lr: 0.01, max_lr: '${peak}', step_size: 2 steps}\n"
        ),
    }.items():
        (tmp_path / name).write_text(text)
    return str(tmp_path)


@pytest.mark.parametrize(
    ("overrides", "schedule"),
    [
        ([], CosineDecay(0.1, 0.01)),
        (["peak=0.5"], CosineDecay(0.5, 0.01)),
        (["rate.CosineDecay.final_lr=0"], CosineDecay(0.1)),
        (["rate=cycle", "peak=0.2"], TriangularCLR(0.01, 0.2, "2 steps")),
    ],
    ids=str,
)
def test_the_config_of_a_hydra_application(folder, overrides, schedule, monkeypatch):
    monkeypatch.setenv("RUNS", "runs")
    with hydra.initialize_config_dir(folder, version_base=None):
        config = hydra.compose("train", overrides)
    rate, logged = from_config({"callbacks": config.callbacks})
    assert (rate, logged.log_dir) == (schedule, "runs/one")
    history = LRHistory()
    linear().fit(**DATA, callbacks=[rate, history])
    assert follows(history, schedule)
