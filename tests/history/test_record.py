"""A record written, read, copied and shown."""

import copy
import pickle

import numpy as np
import pytest
from regression import X, Y, linear

from keras_lr import CosineDecay, LRHistory
from keras_lr._fit.events import Executions

pytestmark = pytest.mark.core


@pytest.fixture(scope="module")
def history():
    schedule = CosineDecay(0.1)
    linear(metrics=["mae"]).fit(
        X, Y, batch_size=4, epochs=3, verbose=0, shuffle=False, callbacks=[schedule]
    )
    return schedule.history


def test_csv_and_back_is_exact(history, tmp_path):
    history.to_csv(tmp_path / "run.csv")
    again = LRHistory.from_csv(tmp_path / "run.csv")
    assert again == history
    assert again.names == history.names
    for name in history:
        assert again[name].dtype == history[name].dtype
        assert again[name].tobytes() == history[name].tobytes()
    assert repr(again) == repr(history)
    again.to_csv(tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "run.csv").read_bytes()


def test_csv_is_plain(history, tmp_path):
    history.to_csv(tmp_path / "run.csv")
    lines = (tmp_path / "run.csv").read_text().splitlines()
    assert lines[0] == "step,epoch,learning_rate,loss,mae"
    assert len(lines) == 20
    assert lines[1].startswith("0,0,0.1,")
    assert lines[-1].startswith("# rows=18 sha256=")
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_csv(tmp_path / "run.csv", comment="#")
    for name in history:
        np.testing.assert_allclose(frame[name], history[name], rtol=1e-6)
    assert [path.name for path in tmp_path.iterdir()] == ["run.csv"]


def test_a_file_that_a_spreadsheet_has_saved(history, tmp_path):
    path = tmp_path / "run.csv"
    history.to_csv(path)
    text = path.read_text()
    path.write_text(text, encoding="utf-8-sig")
    assert LRHistory.from_csv(path) == history
    # No quotes, the last line filled up with commas, lines that end as on Windows.
    text = text.replace('"', "").rstrip() + ",,,,\n"
    path.write_bytes(text.replace("\n", "\r\n").encode("utf-8-sig"))
    assert LRHistory.from_csv(path) == history


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"[" * 200_000, b'"' + b"a" * 200_000])
def test_a_file_that_is_no_text_says_so(content, tmp_path):
    path = tmp_path / "run.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is not a history written by LRHistory") as caught:
        LRHistory.from_csv(path)
    assert str(path) in str(caught.value)


NAMES = [
    "a,b",
    'q"q',
    "new\nline",
    "car\rriage",
    "acc#1",
    " in spaces ",
    "# rows=3",
    "ü",
    "",
    "\u2028",
]


def test_metrics_of_any_name_come_back(tmp_path):
    history, path = LRHistory(), tmp_path / "run.csv"
    always = {"step": [0], "epoch": [0], "learning_rate": [0.1], "loss": [1.0]}
    history.load_state_dict(always | {name: [place] for place, name in enumerate(NAMES)})
    history.to_csv(path)
    assert LRHistory.from_csv(path) == history
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_csv(path, comment="#")
    assert [name for name in frame.columns if not name.startswith("Unnamed")] == [
        name.replace("\r", "\n") if name == "\r" else name for name in history.names if name
    ]


def test_steps_beyond_the_whole_numbers_of_floats_are_exact(tmp_path):
    history, path = LRHistory(), tmp_path / "run.csv"
    steps = np.array([2**53 + 1, 2**62 + 1, 2**63 - 1])
    history.load_state_dict(
        {"step": steps, "epoch": steps - 1, "learning_rate": np.ones(3), "loss": np.ones(3)}
    )
    history.to_csv(path)
    assert LRHistory.from_csv(path).step.tolist() == steps.tolist()
    assert LRHistory.from_csv(path) == history


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "step", ["1e400", "inf", "nan", "-1", "9223372036854775808", "1e25", "0.5"]
)
def test_what_is_no_step_is_refused(tmp_path, step):
    path = tmp_path / "run.csv"  # as version 0.1.0 wrote it, without a checksum
    path.write_text(f"step,epoch,learning_rate,loss\n{step},0,0.1,1.0\n")
    with pytest.raises(ValueError, match=r"run.csv is damaged: step is not a whole number"):
        LRHistory.from_csv(path)


@pytest.mark.filterwarnings("error")
def test_an_empty_history_survives(tmp_path):
    empty = LRHistory()
    empty.to_csv(tmp_path / "empty.csv")
    assert LRHistory.from_csv(tmp_path / "empty.csv") == empty


def test_nan_and_infinity_survive(tmp_path):
    logs = [{"loss": np.float32(np.nan)}, {"loss": np.float32(np.inf)}, {"loss": np.float32(1e-45)}]
    special = filled(logs)
    special.to_csv(tmp_path / "special.csv")
    again = LRHistory.from_csv(tmp_path / "special.csv")
    assert again.loss.tobytes() == special.loss.tobytes()


def filled(logs):
    """A record of steps that were not trained."""
    history = LRHistory()
    history.start_epoch(0, len(logs))
    rates = np.full(len(logs), 0.1, np.float32)
    done = Executions(0, [1] * len(logs), {"learning_rate": rates}, logs, None)
    history.extend(0, done)
    history.finish_epoch(len(logs), 0.0)
    return history


def without(text, count):
    """A text without its last lines."""
    return "".join(text.splitlines(keepends=True)[:-count])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda text: "", "is not a history written by LRHistory.to_csv.* lacks step, epoch"),
        (lambda text: text.replace("loss", "lost", 1), "first line lacks loss"),
        (lambda text: text.replace("mae", "loss", 1), "distinct names"),
        (lambda text: text.replace(",", ";"), "lacks step, epoch, learning_rate, loss"),
        (lambda text: text[: text.rindex(",")], "is damaged"),
        (lambda text: text.replace("0.1", "fast", 1), "is damaged: .*fast"),
        (lambda text: text + "1,2,3\n", "is damaged"),
        (lambda text: text.replace("\n0,", "\n0.5,", 1), "not a whole number"),
        (lambda text: text[:-3], "cut off"),
        (lambda text: text.replace("\n5,", "\n6,"), "was altered"),
        (lambda text: without(text, 1), "it is cut: its last line, after 18 rows, is missing"),
        (lambda text: without(text, 5), "it is cut: its last line, after 14 rows, is missing"),
        (lambda text: without(text, 19), "it is cut: its last line, after 0 rows, is missing"),
        (lambda text: text.replace("\n" + text.splitlines()[3], ""), "it has 17 of 18 rows"),
        (lambda text: text.replace("mae", "mea"), "was altered"),
        (lambda text: text.replace("# rows=18", "# rows=x"), "its last line is '# rows=x"),
        (lambda text: text + text.splitlines()[-1] + "\n", "has more lines after"),
        (lambda text: "\x00\x01" + text, "lacks step"),
    ],
)
def test_a_damaged_file_says_where(history, damage, words, tmp_path):
    path = tmp_path / "run.csv"
    history.to_csv(path)
    path.write_text(damage(path.read_text()))
    with pytest.raises(ValueError, match=words) as caught:
        LRHistory.from_csv(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        LRHistory.from_csv(tmp_path / "none.csv")


def test_a_folder_that_is_not_there_is_made(history, tmp_path):
    history.to_csv(tmp_path / "new" / "run.csv")
    assert LRHistory.from_csv(tmp_path / "new" / "run.csv") == history


def test_a_file_that_cannot_be_written_leaves_the_old_one(history, tmp_path, monkeypatch):
    path = tmp_path / "run.csv"
    path.write_text("old")
    broken = copy.deepcopy(history)
    monkeypatch.setattr("keras_lr.history.columns.texts", lambda values: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        broken.to_csv(path)
    assert [item.name for item in tmp_path.iterdir()] == ["run.csv"]
    assert path.read_text() == "old"


def test_to_pandas(history):
    pytest.importorskip("pandas")
    frame = history.to_pandas()
    assert list(frame.columns) == history.names
    assert len(frame) == len(history) == 18
    np.testing.assert_array_equal(frame["loss"].to_numpy(), history.loss)
    assert frame["epoch"].dtype == np.int64


def test_copies(history):
    for again in (pickle.loads(pickle.dumps(history)), copy.deepcopy(history)):
        assert again == history
        assert again is not history
    assert history != LRHistory()
    assert history != "history"


def test_repr_says_what_was_recorded(history):
    assert repr(history).startswith("LRHistory(18 steps in epochs 0 to 2, learning rate 0.1 -> ")
    assert f"last loss {history.loss[-1]:.4g}" in repr(history)


def test_a_name_that_was_not_recorded_lists_what_was(history):
    with pytest.raises(KeyError, match=r"'accuracy' was not recorded. Recorded: step, epoch"):
        history["accuracy"]


@pytest.mark.parametrize("key", [slice(0, 3), ["loss"], 0])
def test_what_is_no_name_of_a_column_is_refused(history, key):
    with pytest.raises(TypeError, match=r"must be the name of a column.*history\['loss'\]\[:3\]"):
        history[key]
    with pytest.raises(TypeError, match="`beside` must be the name of one column"):
        history.plot(beside=key)
