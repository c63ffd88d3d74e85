"""`keras-lr preview`: what it draws of configs, and what it lists beside the drawing."""

import io
import sys

import pytest
from printed import FIT, dots, rows

from keras_lr import (
    Constant,
    CosineDecay,
    Function,
    LinearDecay,
    LRHistory,
    OneCycle,
    ParamScheduler,
    save,
)
from keras_lr.cli.main import main

pytestmark = pytest.mark.usefixtures("folder")


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


@pytest.mark.parametrize("argument", ["CosineDecay(0.1).warmup(5)", "CosineDecay", "lr", "", " "])
def test_what_is_neither_a_file_nor_a_config_says_what_a_config_looks_like(capsys, argument):
    assert main(["preview", argument, *FIT]) == 1
    said = capsys.readouterr().err
    what = f"{argument}: no such file, and not the text of a config"
    assert said.startswith(f"keras-lr: {what if argument.strip() else 'an argument is empty: '}")
    text = said.partition("looks like ")[2].strip().strip("'")
    assert main(["check", text]) == 0
