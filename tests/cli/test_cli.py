"""The command line as a whole, and `keras-lr check` and `schema`: what is said, and how it ends."""

import io
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from printed import FIT, record, rows

import keras_lr
from keras_lr import Constant, LRHistory, save
from keras_lr.cli.main import main

pytestmark = pytest.mark.usefixtures("folder")

ROOT = Path(__file__).parents[2]


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


# schema -------------------------------------------------------------------------------------------


def test_the_schema_is_printed(capsys):
    assert main(["schema"]) == 0
    made = json.loads(capsys.readouterr().out)
    validator = jsonschema.Draft202012Validator(made)
    assert validator.is_valid({"callbacks": [{"Constant": {"lr": 0.1}}]})
    assert not validator.is_valid({"callbacks": [{"Constant": {"lr": "x"}}]})


# The whole ----------------------------------------------------------------------------------------


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
