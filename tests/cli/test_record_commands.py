"""`keras-lr history` and `keras-lr compare`: what they show of records."""

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
from printed import dots, record, rows

from keras_lr import LRHistory, StateError
from keras_lr.cli.main import main

pytestmark = pytest.mark.usefixtures("folder")


def test_history_draws_a_record(capsys, folder):
    file = record(folder / "run.csv", np.linspace(0.1, 0, 50), np.linspace(3, 1, 50))
    assert main(["history", file, "--out", "new/run.png"]) == 0
    said = capsys.readouterr().out
    assert "50 steps in epochs 0 to 4" in " ".join(said.split())  # the path may wrap the line
    assert rows(said).count(["learning", "rate"]) == rows(said).count(["loss"]) == 1
    assert dots(said) > 100
    assert (folder / "new/run.png").read_bytes().startswith(b"\x89PNG")


def test_a_record_that_a_fit_kept_in_a_state_file_is_drawn(capsys, folder):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    kept = LRHistory(state_path="kept")
    seen = []
    stop = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(1 / (5 - len(seen)))
    )
    x, y = np.ones((8, 2)), np.ones((8, 1))
    with pytest.raises(ZeroDivisionError):  # in the second step of the second epoch
        model.fit(x, y, batch_size=2, epochs=3, verbose=0, callbacks=[kept, stop])
    assert len(kept) > 4  # in memory it has the steps of the epoch that was stopped too
    assert main(["history", "kept"]) == 0
    assert "4 steps in epochs 0 to 0" in capsys.readouterr().out
    np.testing.assert_array_equal(LRHistory.from_state("kept").loss, kept.loss[:4])
    with pytest.raises(FileNotFoundError):
        LRHistory.from_state("missing.npz")
    np.savez("other.npz", step=np.ones(3))
    with pytest.raises(StateError, match="damaged or not a state file"):
        LRHistory.from_state("other.npz")
    kept.to_csv("kept.csv")
    with pytest.raises(StateError, match=r"kept\.csv is a CSV file.*LRHistory\.from_csv"):
        LRHistory.from_state("kept.csv")
    with pytest.raises(ValueError, match=r"kept is not a history .*LRHistory\.from_state"):
        LRHistory.from_csv("kept")
    (folder / "other.txt").write_text("something else")
    with pytest.raises(StateError, match=r"not an \.npz archive of keras_lr") as caught:
        LRHistory.from_state("other.txt")
    assert "pickle" not in str(caught.value)


def test_compare_puts_records_beside_each_other(capsys, folder):
    a = record("a.csv", np.linspace(0.1, 0.05, 50), np.linspace(3, 1, 50))
    b = record("b.csv", [0.2] * 40, [np.nan] * 20 + [2.0] * 20, steps_per_epoch=20)
    assert main(["compare", a, b, "--out", "both.png"]) == 0
    said = capsys.readouterr().out
    assert rows(said)[1:3] == [
        ["a.csv", "50", "5", "0.1", "0.1", "0.05", "1"],
        ["b.csv", "40", "2", "0.2", "0.2", "0.2", "2"],
    ]
    assert "their epochs differ in length; those of a.csv, 10 steps, count" in said
    assert (folder / "both.png").read_bytes().startswith(b"\x89PNG")
    assert plt.get_fignums() == []


def test_records_of_one_name_are_told_apart_by_their_folders(folder):
    for run in ("one", "two"):
        (folder / run).mkdir()
        record(f"{run}/history.csv", [0.1] * 20, [1.0] * 20)
    assert main(["compare", "one/history.csv", "two/history.csv", "--out", "both.svg"]) == 0
    drawn = (folder / "both.svg").read_text()
    assert "Learning rate of one/history.csv and two/history.csv" in drawn


@pytest.mark.parametrize("command", ["history", "compare"])
def test_what_is_no_record_is_refused(capsys, folder, command):
    (folder / "x.csv").write_text("a,b\n1,2\n")
    LRHistory().to_csv("empty.csv")
    for file, words in (
        ("x.csv", "is not a history"),
        ("missing.csv", "No such file"),
        ("empty.csv", "holds no steps"),
    ):
        assert main([command, file]) == 1
        assert words in capsys.readouterr().err
