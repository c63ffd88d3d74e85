"""`keras-lr sweep`: a study from a file, and what a sweep has found so far."""

import json

import pytest

from keras_lr.cli.main import main

STUDY = """
import keras
import numpy as np
from keras_lr.search import LRSweep
from width import WIDTH

x = np.random.default_rng(0).normal(size=(32, 3)).astype("float32")
data = dict(x=x, y=x.sum(1, keepdims=True), epochs=2, batch_size=8)
sweep = LRSweep(0.01, 1.0, per_decade=1, seeds=1, optimizers=["sgd"], directory="found", verbose=0)

def build(optimizer):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(WIDTH)])
    model.compile(optimizer, "mse")
    return model
"""


@pytest.fixture(autouse=True)
def studies(folder):
    (folder / "studies").mkdir()
    (folder / "studies" / "width.py").write_text("WIDTH = 1\n")


def study(text=STUDY):
    with open("studies/study.py", "w") as file:
        file.write(text)
    return "studies/study.py"


def test_a_study_runs_and_is_shown(folder, capsys):
    assert main(["sweep", study(), "--out", "pictures/valley.png"]) == 0
    assert (folder / "pictures" / "valley.png").stat().st_size > 10_000
    capsys.readouterr()
    assert main(["sweep", "show", "found", "--out", "again.svg"]) == 0
    out = capsys.readouterr().out
    assert "3 trials" in out
    assert "SGD: best at " in out
    head, *rows = out.split("\n\n")[1].splitlines()[1:5]
    assert head.split() == ["rate", "SGD"]
    assert [row.split()[0] for row in rows] == ["0.01", "0.1", "1"]
    lines = [json.loads(line) for line in (folder / "found" / "trials.jsonl").open()]
    losses = {
        one["outcome"]["trial"]["learning_rate"]: one["outcome"]["logs"]["loss"][-1]
        for one in lines[1:]
    }
    assert [float(row.split()[1]) for row in rows] == pytest.approx(list(losses.values()), rel=1e-3)


def test_a_sweep_is_shown_while_it_runs(folder, capsys):
    main(["sweep", study()])
    path = folder / "found" / "trials.jsonl"
    first, second, *_ = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + second + b'{"outcome": {"tr')
    capsys.readouterr()
    assert main(["sweep", "show", "found"]) == 0
    assert "1 trial," in capsys.readouterr().out
    path.write_bytes(first)
    assert main(["sweep", "show", "found"]) == 0
    assert "SGD: no best rate (none was trained)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.py"], "there is no file nowhere.py"),
        (["show", "nowhere"], "There is no sweep in nowhere"),
        (["show"], "sweep takes a file, or `show` and a directory"),
        (["a.py", "b.py"], "sweep takes a file"),
    ],
)
def test_what_is_not_there(arguments, words, capsys):
    assert main(["sweep", *arguments]) == 1
    assert words in capsys.readouterr().err


def test_what_a_sweep_does_not_measure_is_named(capsys):
    main(["sweep", study()])
    assert main(["sweep", "show", "found", "--y", "accuracy"]) == 1
    assert "--y must be one of loss. Received: accuracy" in capsys.readouterr().err


def test_an_interrupted_study_ends_with_130_and_tells_what_is_finished(capsys):
    stop = """
class Stop(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        if trial.learning_rate > 0.05:
            raise KeyboardInterrupt

def stop(one):
    global trial
    trial = one
    return [Stop()]
data["callbacks"] = stop
"""
    assert main(["sweep", study(STUDY + stop), "--out", "valley.png"]) == 130
    assert "wrote valley.png" in capsys.readouterr().out
    assert main(["sweep", "show", "found"]) == 0
    assert "1 trial," in capsys.readouterr().out


def test_a_study_in_which_nothing_trains_ends_with_1_and_says_why(capsys):
    fails = "\ndef build(optimizer):\n    raise RuntimeError('no such layer')\n"
    assert main(["sweep", study(STUDY + fails)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "every trial failed or diverged" in line
    assert "RuntimeError: no such layer" in line


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data = {}", "must define build, data and sweep. It lacks: build, sweep"),
        (STUDY + "data = (x, x)", "`data` must be a dict of arguments for LRSweep.run"),
        (STUDY + "data['epoch'] = data.pop('epochs')", "the `epochs` of LRSweep.run. It holds: x,"),
        (STUDY + "data['batch'] = 2", "LRSweep.run: unknown argument `batch`, which fit does not"),
        (STUDY + "data['build'] = build", "LRSweep.run by name, without `build`"),
        (STUDY + "data[1] = 2", "LRSweep.run by name, without `build`. Received: 1"),
        (STUDY + "build = lambda: None", "`build` must be a function of an optimizer"),
        (STUDY + "sweep = build", "`sweep` must be an object LRSweep(...)"),
        (STUDY + "sweep = LRSweep(seed=1)", "study.py:15: LRSweep: unknown argument `seed`"),
        (STUDY + "x = (", "was never closed (study.py, line 15)"),
    ],
)
def test_what_is_wrong_with_a_study_is_one_line(text, words, capsys):
    assert main(["sweep", study(text)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("keras-lr: ")
    assert words in line


@pytest.mark.parametrize("wrong", ["float('a')", "np.zeros((1, 2)).reshape(5)", "'a' + 1"])
@pytest.mark.parametrize("place", ["{}", "data = lambda: {}"])
def test_an_error_in_the_code_of_a_study_keeps_its_traceback(wrong, place):
    with pytest.raises((TypeError, ValueError)) as caught:
        main(["sweep", study(STUDY + place.format(wrong))])
    assert any(str(entry.path).endswith("study.py") for entry in caught.traceback)


POPULATION = """
from keras_lr.search import PopulationBasedTraining
from study import build, data

population = PopulationBasedTraining(
    {"learning_rate": (0.01, 0.1)}, population=3, optimizer="sgd", directory="members", verbose=0
)
"""


def test_a_study_may_define_a_population(folder, capsys):
    study()
    (folder / "studies" / "members.py").write_text(POPULATION)
    assert main(["sweep", "studies/members.py", "--out", "pictures/members.png"]) == 0
    assert (folder / "pictures" / "members.png").stat().st_size > 10_000
    capsys.readouterr()
    assert main(["sweep", "show", "members"]) == 0
    text, table = capsys.readouterr().out.split("\n\n")
    assert text.startswith("3 members, 2 rounds of 1 epoch")
    head, *rows = table.splitlines()
    assert head.split() == ["member", "learning_rate", "loss"]
    scores = [float(row.split()[2]) for row in rows]
    assert len(scores) == 3
    assert scores == sorted(scores)
    assert f"Best: member {rows[0].split()[0]} (loss {rows[0].split()[2]})" in text


def test_what_a_population_does_not_take(folder, capsys):
    study()
    path = folder / "studies" / "members.py"
    path.write_text(POPULATION + "\nfrom study import sweep\n")
    assert main(["sweep", "studies/members.py"]) == 1
    assert "must define one of sweep and population" in capsys.readouterr().err
    path.write_text(POPULATION + "\ndel data\n")
    assert main(["sweep", "studies/members.py"]) == 1
    assert "must define build, data and population. It lacks: data" in capsys.readouterr().err
    path.write_text(POPULATION)
    assert main(["sweep", "studies/members.py"]) == 0
    assert main(["sweep", "show", "members", "--y", "seconds"]) == 1
    assert "--y is for a sweep" in capsys.readouterr().err
