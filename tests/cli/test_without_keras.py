"""What the command line answers without importing Keras, and that importing names still works."""

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest
from selection import mostly_full

import keras_lr
from keras_lr.cli.main import main
from keras_lr.cli.signatures import summarize_classes
from keras_lr.plotting import text

ROOT = Path(__file__).parents[2]
# Keras cannot be imported with such a backend.
NO_KERAS = {"KERAS_BACKEND": "none"}


def python(*arguments, **environment):
    """Return the result of a Python process from the root of the repository."""
    return subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "80"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["list"], 0),
        (["preview", "--help"], 0),
        (["nonsense"], 2),
        (["sweep", "nonsense.py"], 1),
        (["sweep", "show", "nonsense", "nonsense"], 1),
    ],
)
def test_an_answer_that_needs_no_keras_imports_none(arguments, status):
    result = python("-m", "keras_lr", *arguments, **NO_KERAS)
    assert result.returncode == status, result.stderr
    assert "nonsense" in result.stderr if status else result.stderr == ""


@pytest.mark.full
def test_a_command_that_trains_nothing_prints_nothing_of_a_backend():
    pytest.importorskip("jax", reason="Keras's backend for NumPy needs JAX")
    inline = "CosineDecay: {initial_lr: 0.1}"
    result = python(
        *("-m", "keras_lr", "preview", inline, "--epochs", "3", "--steps-per-epoch", "5"),
        # It would print, and without the check of its name fail, were it imported.
        **NO_KERAS,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert "CosineDecay" in result.stdout


@pytest.mark.full
def test_a_preview_needs_no_jax(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util, sys\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *a: None if name == 'jax' else find(name, *a)\n"
        "sys.modules['jax'] = None\n"
    )
    result = python(
        *("-m", "keras_lr", "preview", "CosineDecay: {initial_lr: 0.1}"),
        *("--epochs", "3", "--steps-per-epoch", "5"),
        PYTHONPATH=os.pathsep.join([str(tmp_path), str(ROOT)]),
        KERAS_BACKEND="tensorflow",
    )
    assert (result.returncode, "CosineDecay" in result.stdout) == (0, True), result.stderr


@pytest.mark.full
def test_a_module_of_a_user_gets_the_backend_that_was_chosen(tmp_path):
    pytest.importorskip("jax", reason="Keras's backend for NumPy needs JAX")
    (tmp_path / "mine.py").write_text(
        "import keras\nfrom keras_lr import *\nimport keras_lr\n"
        "print(keras.backend.backend())\n"
        "@keras_lr.register\ndef mine(epoch):\n    return 0.5\n"
    )
    result = python(
        *("-m", "keras_lr", "check", "--import", "mine", "Function: {fn: mine}"),
        PYTHONPATH=os.pathsep.join([str(ROOT), str(tmp_path)]),
        KERAS_BACKEND="numpy",
    )
    assert result.stdout == "numpy\ninline: 1 callback, no errors\n"


@pytest.mark.full
def test_every_name_is_there_when_the_command_line_asks_for_it():
    code = """
import sys
sys.argv[0] = "/usr/bin/keras-lr"
import keras_lr
assert "keras" not in sys.modules
assert dir(keras_lr) == sorted([*keras_lr.__all__, "__version__", "plotting"])
assert keras_lr.plotting.sparkline and keras_lr.config.load and keras_lr.schedules.Rate
from keras_lr import *
for name in keras_lr.__all__:
    assert globals()[name] is getattr(keras_lr, name)
    assert globals()[name].__name__ == name
assert not hasattr(keras_lr, "CosinDecay")
import keras
assert keras.saving.get_registered_object("keras_lr>CosineDecay") is CosineDecay
"""
    result = python("-c", code)
    assert result.returncode == 0, result.stderr


@pytest.mark.full
@pytest.mark.parametrize("program", mostly_full(["keras-lr.py", ""], [""]))
def test_every_other_program_has_the_classes_registered_at_once(program):
    code = f"""
import sys
sys.argv = [{program!r}]
sys.orig_argv = ["python", "-m", "other", "keras_lr"]
import keras_lr
import keras
assert keras.saving.get_registered_object("keras_lr>InGraph") is vars(keras_lr)["InGraph"]
"""
    result = python("-c", code)
    assert result.returncode == 0, result.stderr


def test_the_source_says_what_the_classes_say():
    """A class whose arguments are written in a new way must be read right by `list` too."""
    callbacks = {
        name: one
        for name in keras_lr.__all__
        if inspect.isclass(one := getattr(keras_lr, name))
        and "Callback" in {base.__name__ for base in one.__mro__}
        and one is not keras_lr.Schedule
    }
    said = {one.name: one for one in summarize_classes()}
    assert {*said} == {*callbacks}
    for name, one in callbacks.items():
        parameters = inspect.signature(one).parameters.values()
        shown = [str(each.replace(annotation=inspect.Parameter.empty)) for each in parameters]
        if any(each.kind is each.KEYWORD_ONLY for each in parameters):
            first = next(i for i, each in enumerate(parameters) if each.kind is each.KEYWORD_ONLY)
            shown.insert(first, "*")
        assert list(said[name].arguments) == shown
        assert said[name].is_schedule == issubclass(one, keras_lr.Schedule)
        assert said[name].summary == one.__doc__.splitlines()[0].replace("``", "")


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
def test_list_shows_arguments_in_lines_that_fit(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(["list"]) == 0
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= min(columns, 100)
    words = " ".join(said.split())
    signature = "CosineDecay(initial_lr, final_lr=0.0, over='rest', endpoint=False)"
    assert f"{signature} Fall from initial_lr to" in words
    assert "ParamScheduler(optimizer=None, **schedules) Move several" in words
    assert words.index("schedules:") < words.index("Clip(") < words.index("callbacks:")


@pytest.mark.parametrize("columns", [44, 66, 100])
@pytest.mark.parametrize(
    "command",
    [
        *([], ["preview"], ["check"], ["list"], ["schema"], ["history"], ["compare"]),
        *(["sweep"], ["demo"]),
    ],
)
def test_no_line_of_help_is_longer_than_the_terminal(capsys, monkeypatch, columns, command):
    monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(SystemExit):
        main([*command, "--help"])
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= columns
    examples = said.partition("example")[2].partition("\n")[2].replace("\\\n", " ")
    commands = [" ".join(line.split()) for line in examples.splitlines()]
    assert commands
    assert all(line.startswith("keras-lr ") for line in commands)


@pytest.mark.parametrize(
    ("variables", "bold"),
    [({}, True), ({"NO_COLOR": ""}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
)
def test_emphasis_is_for_terminals_that_may_show_it(monkeypatch, variables, bold):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert text.emphasize("x") == "x"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert (text.emphasize("x") != "x") is bold


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("keras-lr pre", ["preview "]),
        ("keras-lr preview --st", ["--steps-per-epoch "]),
        ("keras-lr demo --data ", ["digits", "fashion-mnist"]),
    ],
)
def test_the_shell_completes(tmp_path, line, wanted):
    pytest.importorskip("argcomplete")
    answer = tmp_path / "answer"
    result = python(
        *("-m", "keras_lr"),
        _ARGCOMPLETE="1",
        _ARGCOMPLETE_IFS="\v",
        _ARGCOMPLETE_STDOUT_FILENAME=str(answer),
        COMP_LINE=line,
        COMP_POINT=str(len(line)),
        **NO_KERAS,
    )
    assert result.returncode == 0, result.stderr
    assert answer.read_text().split("\v") == wanted
