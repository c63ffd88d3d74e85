"""The command line: what each subcommand prints and writes, and how it ends."""

import io
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import jsonschema
import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest

import keras_lr
from keras_lr import (
    Constant,
    CosineDecay,
    Function,
    LinearDecay,
    LRHistory,
    OneCycle,
    ParamScheduler,
    StateError,
    save,
)
from keras_lr.cli.main import main

FIT = ["--epochs", "10", "--steps-per-epoch", "20"]
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    monkeypatch.undo()


@pytest.fixture
def rate():
    save(LinearDecay(0.0, 0.1, over=2) >> CosineDecay(0.1), "lr.yaml")
    return "lr.yaml"


def record(path, rates, losses, steps_per_epoch=10):
    history = LRHistory()
    steps = np.arange(len(rates))
    history.load_state_dict(
        {
            "step": steps,
            "epoch": steps // steps_per_epoch,
            "learning_rate": np.asarray(rates),
            "loss": np.asarray(losses),
        }
    )
    history.to_csv(path)
    return str(path)


def rows(text):
    """Return the lines of a table, each as its words."""
    return [line.split() for line in text.splitlines()]


def dots(text):
    """Return how many braille dots a drawing has."""
    return sum(bin(ord(char) - 0x2800).count("1") for char in text if "⠀" <= char <= "⣿")


# check --------------------------------------------------------------------------------------------


def test_check_is_content_with_good_configs(capsys, rate):
    save([Constant(0.1), LRHistory()], "other.json")
    assert main(["check", rate, "other.json"]) == 0
    said = capsys.readouterr()
    assert said.out == "lr.yaml: 1 callback, no errors\nother.json: 2 callbacks, no errors\n"
    assert said.err == ""


def test_check_says_every_error_of_every_file(capsys, folder, rate):
    (folder / "a.yaml").write_text("callbacks:\n- Constant: {lr: -1}\n- Constat: {lr: 1}\n")
    (folder / "b.json").write_text('{"callbacks": 3}')
    assert main(["check", "a.yaml", rate, "b.json", "missing.toml"]) == 1
    said = capsys.readouterr()
    assert said.out == "lr.yaml: 1 callback, no errors\n"
    errors = said.err.splitlines()
    assert [error.partition(": ")[0] for error in errors] == [
        *("a.yaml:2", "a.yaml:3", "b.json", "[Errno 2] No such file or directory")
    ]
    assert "callbacks[0].Constant.lr: must be a finite number of at least 0" in errors[0]
    assert "Did you mean `Constant`?" in errors[1]


def test_check_finds_what_no_fit_accepts_and_says_that_a_list_is_empty(capsys, folder):
    rate = "- CosineDecay: {initial_lr: 0.1}\n"
    (folder / "twice.yaml").write_text(f"callbacks:\n{rate}{rate}")
    (folder / "empty.yaml").write_text("callbacks: []\n")
    assert main(["check", "twice.yaml", "empty.yaml"]) == 1
    said = capsys.readouterr()
    assert said.out == "empty.yaml: an empty list, no errors\n"
    assert said.err.startswith("twice.yaml:3: callbacks[1].CosineDecay: drives learning_rate of")


def test_a_module_can_register_what_a_config_names(capsys, folder):
    (folder / "lr.json").write_text('{"callbacks": [{"Function": {"fn": "from_a_module"}}]}')
    (folder / "my_rates.py").write_text(
        "import keras_lr\n\n@keras_lr.register\ndef from_a_module(epoch):\n    return 0.5\n"
    )
    assert main(["check", "lr.json"]) == 1
    assert "unknown function 'from_a_module'" in capsys.readouterr().err
    assert main(["check", "lr.json", "--import", "my_rates"]) == 0
    assert main(["preview", "lr.json", "--import", "my_rates", *FIT]) == 0
    assert ["first,", "peak", "0", "0", "0.5"] in rows(capsys.readouterr().out)
    assert main(["check", "lr.json", "--import", "no_such_module"]) == 1
    assert "no_such_module" in capsys.readouterr().err


# preview ------------------------------------------------------------------------------------------


def test_preview_draws_and_lists_what_matters(capsys, rate):
    assert main(["preview", rate, *FIT]) == 0
    said = capsys.readouterr().out
    lines = said.splitlines()
    assert lines[0] == "lr.yaml: learning rate"
    assert dots(said) > 100
    assert max(map(len, lines)) <= 90
    last = CosineDecay(0.1).values(epochs=8, steps_per_epoch=20)[-1]
    assert rows(said)[-5:-1] == [
        ["step", "epoch", "value"],
        ["first", "0", "0", "0"],
        ["peak", "40", "2", "0.1"],
        ["last", "199", "9.95", f"{last:.4g}"],
    ]


def test_preview_says_what_never_begins(capsys):
    save(CosineDecay(0.1).warmup("200 steps"), "late.yaml")
    assert main(["preview", "late.yaml", *FIT]) == 0
    assert "ends before CosineDecay(initial_lr=0.1) begins" in capsys.readouterr().out


def test_it_says_its_version(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.strip() == keras_lr.__version__


def test_its_version_stands_in_one_place():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert settings["tool"]["setuptools"]["dynamic"]["version"] == {
        "attr": "keras_lr._version.__version__"
    }
    first = re.search(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1]
    assert keras_lr.__version__ in first


def test_preview_lists_the_boundaries(capsys):
    stages = LinearDecay(0.4, 0.2, over="20 steps") >> LinearDecay(0.2, 0.1, over="31 steps")
    save(stages >> Constant(0.3).lasting("40 steps") >> Constant(0.1), "lr.toml")
    assert main(["preview", "lr.toml", *FIT]) == 0
    assert rows(capsys.readouterr().out)[-6:-1] == [
        ["first,", "peak", "0", "0", "0.4"],
        ["boundary", "20", "1", "0.2"],
        ["boundary", "51", "2.55", "0.3"],
        ["boundary", "91", "4.55", "0.1"],
        ["last", "199", "9.95", "0.1"],
    ]


@pytest.mark.parametrize(
    ("epochs", "steps", "last"),
    [(30, 50, "29.98"), (90, 391, "89.997"), (1500, 10, "1,499.9"), (30, 1, "29")],
)
def test_the_last_step_lies_before_the_end_of_the_fit(capsys, epochs, steps, last):
    save(CosineDecay(0.1), "lr.json")
    fit = ["--epochs", str(epochs), "--steps-per-epoch", str(steps)]
    assert main(["preview", "lr.json", *fit]) == 0
    assert rows(capsys.readouterr().out)[-2][:3] == ["last", f"{epochs * steps - 1:,}", last]


def test_preview_says_how_many_boundaries_it_leaves_out(capsys):
    save(CosineDecay(0.1).repeat(13), "lr.json")
    assert main(["preview", "lr.json", "--epochs", "90", "--steps-per-epoch", "10"]) == 0
    said = capsys.readouterr().out
    assert said.count("boundary") == 10
    assert "(and 2 more boundaries)" in said


def test_preview_compares_configs_in_one_picture(capsys, folder, rate, monkeypatch):
    kept = []
    monkeypatch.setattr("keras_lr.plotting.curves.plt.close", kept.append)
    save([Constant(0.05), LRHistory()], "constant.json")
    assert main(["preview", rate, "constant.json", *FIT, "--out", "new/lr.png"]) == 0
    said = capsys.readouterr()
    assert (folder / "new/lr.png").read_bytes().startswith(b"\x89PNG")
    assert "wrote new/lr.png" in said.out
    assert said.err == "constant.json: LRHistory depends on the training and is not drawn\n"
    (figure,) = kept
    drawn = {line.get_label(): line.get_ydata() for line in figure.axes[0].get_lines()}
    assert set(drawn) == {"lr.yaml", "constant.json"}
    assert max(drawn["lr.yaml"]) == pytest.approx(0.1)
    assert set(drawn["constant.json"]) == {0.05}
    # Both drawings share their scale.
    assert said.out.count(" 0.1 ┤") == 2


def test_preview_calls_a_file_by_its_name_where_that_is_enough(capsys, folder):
    for path in ("a/lr.json", "b/lr.json", "b/other.json"):
        (folder / path).parent.mkdir(exist_ok=True)
        save(Constant(0.1), path)
    assert main(["preview", "a/lr.json", "b/lr.json", "b/other.json", *FIT]) == 0
    heads = [line for line in capsys.readouterr().out.splitlines() if ".json" in line]
    assert heads == [f"{name}.json: learning rate" for name in ("a/lr", "b/lr", "other")]


def test_preview_draws_other_parameters_apart(capsys, folder, monkeypatch):
    kept = []
    monkeypatch.setattr("keras_lr.plotting.curves.plt.close", kept.append)
    both = ParamScheduler(learning_rate=CosineDecay(0.1), momentum=LinearDecay(0.95, 0.85))
    save([both, ParamScheduler("inner", momentum=Constant(0.9))], "lr.yaml")
    assert main(["preview", "lr.yaml", *FIT, "--out", "lr.svg"]) == 0
    heads = [line for line in capsys.readouterr().out.splitlines() if line.startswith("lr.yaml")]
    assert heads == [
        "lr.yaml: learning rate",
        "lr.yaml [1] LinearDecay: momentum",
        "lr.yaml [2] inner's Constant: momentum",
    ]
    assert {ax.get_ylabel() for ax in kept[0].axes} >= {"learning rate", "momentum"}
    assert "<svg" in (folder / "lr.svg").read_text()


def test_preview_draws_the_momentum_of_one_cycle(capsys, folder, monkeypatch):
    kept = []
    monkeypatch.setattr("keras_lr.plotting.curves.plt.close", kept.append)
    save(OneCycle(0.1), "one.json")
    save(OneCycle(0.2, momentum=None), "other.json")
    save([OneCycle(0.3).warmup(1), ParamScheduler(momentum=Constant(0.7))], "third.json")
    assert main(["preview", "one.json", "other.json", "third.json", *FIT, "--out", "lr.svg"]) == 0
    text = capsys.readouterr().out
    heads = [line for line in text.splitlines() if ".json" in line]
    assert heads == [
        *(f"{name}.json: learning rate" for name in ("one", "other", "third")),
        *(f"{name}.json: momentum" for name in ("one", "third")),
    ]
    assert ["boundary", "60", "3", "0.85"] in rows(text)
    drawn = {
        ax.get_ylabel(): {line.get_label(): line.get_ydata() for line in ax.get_lines()}
        for ax in kept[0].axes
    }
    assert set(drawn["momentum"]) == {"one.json", "third.json"}
    assert [drawn["momentum"]["one.json"][step] for step in (0, 60)] == [0.95, 0.85]


def test_preview_draws_what_stands_on_the_command_line(capsys, monkeypatch):
    cosine = "CosineDecay: {initial_lr: 0.1}"
    listed = '{"callbacks": [{"LinearDecay": {"initial_lr": 0.4}}]}'
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"[Constant]\nlr = 0.2\n")))
    assert main(["preview", cosine, "-", listed, *FIT]) == 0
    said = capsys.readouterr().out
    heads = [line for line in said.splitlines() if line.endswith(": learning rate")]
    names = (cosine, "standard input", listed)
    assert heads == [f"{name}: learning rate" for name in names]
    peaks = [row[-1] for row in rows(said) if "peak" in row]
    assert peaks == ["0.1", "0.2", "0.4"]


def test_a_long_text_is_shortened_in_its_head_and_names_no_file(capsys, folder):
    long = "Sequence: [" + "{Lasting: {schedule: {Constant: {lr: 0.1}}, over: 1}}, " * 3
    assert main(["preview", long + "{Constant: {lr: 0.2}}]", *FIT]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("Sequence: [{Lasting")
    assert "..." in said[0]
    assert max(map(len, said)) <= 80
    (folder / "odd: name.json").write_text('{"Constant": {"lr": 0.3}}')
    assert main(["preview", "odd: name.json", *FIT]) == 0
    assert capsys.readouterr().out.startswith("odd: name.json: learning rate")


def test_check_reads_text_and_standard_input(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"callbacks:\n- Constant: 3\n")))
    assert main(["check", "Constant: {lr: 0.1}", "-", "Constant: {lr: -1}", "x = 2"]) == 1
    said = capsys.readouterr()
    assert said.out == "inline: 1 callback, no errors\n"
    assert [line[:40] for line in said.err.splitlines()] == [
        "standard input:2: callbacks[0].Constant:",
        "inline:1: Constant.lr: must be a finite ",
        "inline: x: unknown name of a class. Know",
    ]


@pytest.mark.parametrize("columns", [40, 60, 80])
def test_no_line_of_a_drawing_is_longer_than_the_terminal(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    inline = "ExponentialDecay: {initial_lr: 0.1, factor: 0.7}"
    late = "Warmup: {schedule: {CosineDecay: {initial_lr: 0.1}}, over: 300 steps}"
    assert main(["preview", inline, late, *FIT]) == 0
    names = "a-rather-long-name-of-a-record.csv", "b.csv"
    files = [record(name, np.geomspace(0.1, 1e-6, 50), np.linspace(3, 1, 50)) for name in names]
    assert main(["history", files[0]]) == main(["compare", *files]) == 0
    said = capsys.readouterr().out
    assert "(logarithmic)" in said
    assert max(map(len, said.splitlines())) <= columns
    assert ["last", "loss", "1"] in rows(said) or "last loss" in said


def test_preview_needs_something_to_draw(capsys, folder):
    save([], "lr.json")
    assert main(["preview", "lr.json", *FIT]) == 1
    assert "no schedule to draw in lr.json" in capsys.readouterr().err
    (folder / "bad.json").write_text('{"callbacks": [{"Constant": {"lr": -1}}]}')
    assert main(["preview", "bad.json", *FIT]) == 1
    assert "bad.json: callbacks[0].Constant.lr" in capsys.readouterr().err
    save(CosineDecay(0.1), "fine.json")
    assert main(["preview", "fine.json", *FIT, "--out", "lr.nonsense"]) == 1
    assert "nonsense" in capsys.readouterr().err


def test_preview_says_what_a_schedule_lacks(capsys):
    from keras_lr import register

    @register
    def needs_a_rate(epoch, lr):
        return lr * 0.5

    save(Function(needs_a_rate), "lr.json")
    assert main(["preview", "lr.json", *FIT]) == 1
    assert "initial_lr=" in capsys.readouterr().err


@pytest.mark.parametrize("argument", ["CosineDecay(0.1).warmup(5)", "CosineDecay", "lr"])
def test_what_is_neither_a_file_nor_a_config_says_what_a_config_looks_like(capsys, argument):
    assert main(["preview", argument, *FIT]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"keras-lr: {argument}: no such file, and not the text of a config")
    text = said.partition("looks like ")[2].strip().strip("'")
    assert main(["check", text]) == 0


# list, schema -------------------------------------------------------------------------------------


def test_the_schema_is_printed(capsys):
    assert main(["schema"]) == 0
    made = json.loads(capsys.readouterr().out)
    validator = jsonschema.Draft202012Validator(made)
    assert validator.is_valid({"callbacks": [{"Constant": {"lr": 0.1}}]})
    assert not validator.is_valid({"callbacks": [{"Constant": {"lr": "x"}}]})


# history, compare ---------------------------------------------------------------------------------


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


# The whole ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command", ["preview", "check", "list", "schema", "history", "compare", "demo"]
)
def test_help_shows_an_example(capsys, command):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"example:\n  keras-lr {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["preview", "lr.yaml"],
        ["preview", "lr.yaml", "--epochs", "0", "--steps-per-epoch", "1"],
        *(["check"], ["history"], ["compare"], ["nonsense"]),
    ],
)
def test_a_mistake_in_the_arguments_ends_with_two(arguments):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2


@pytest.mark.full
def test_the_process_ends_with_the_status_and_draws_in_ascii_where_it_must(folder, rate):
    (folder / "bad.yaml").write_text("callbacks: 3\n")
    code = (
        "from keras_lr.cli.main import main; "
        f"main(['preview', 'lr.yaml', *{FIT}]); "
        "raise SystemExit(main(['check', 'bad.yaml']))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert result.stdout.isascii()
    assert "*" in result.stdout
    assert "bad.yaml:1: callbacks: must be a list of callbacks. Received: 3" in result.stderr
