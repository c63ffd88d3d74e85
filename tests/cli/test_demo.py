"""The command line and the demo behind it, at settings small enough for a test."""

import gzip
import struct
import sys
from types import SimpleNamespace

import keras
import matplotlib as mpl
import numpy as np
import pytest

mpl.use("Agg")

from keras_lr import Constant, LRHistory, RangeTestResult
from keras_lr.cli import demo
from keras_lr.cli.main import main

CURVE = np.geomspace(1e-4, 1, 60)
FOUND = RangeTestResult.from_curve(CURVE, (np.log10(CURVE) + 1) ** 2)
NAMES = list(demo.compared_callbacks(2, FOUND))


def idx(values):
    """Return the bytes of an IDX file."""
    values = np.asarray(values, np.uint8)
    return struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes()


@pytest.fixture
def fashion(tmp_path):
    """A folder with few images in the form of Fashion-MNIST, packed and not."""
    random = np.random.default_rng(0)
    for part, size in (("train", 12), ("t10k", 6)):
        images = random.integers(0, 256, (size, 28, 28))
        images[0, 0, :2] = 0, 255
        (tmp_path / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images), mtime=0))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(idx(np.arange(size) % 10))
    return tmp_path


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder that a short demo fills, and what it prints."""
    out = tmp_path_factory.mktemp("demo") / "made" / "here"
    with pytest.MonkeyPatch.context() as patch:
        said = []
        patch.setattr("builtins.print", lambda *text, **_: said.append(" ".join(map(str, text))))
        code = main(["demo", "--epochs", "2", "--train-size", "70", "--out", str(out)])
    assert code == 0
    return out, "\n".join(said)


@pytest.mark.slow
def test_demo_prints_one_line_for_each_schedule(finished):
    out, said = finished
    names = NAMES
    assert len(names) >= 7
    assert "Constant" in names
    results = (out / "results.txt").read_text()
    for name in names:
        (line,) = [line for line in results.splitlines() if line.startswith(f"{name}  ")]
        assert line.rstrip().rsplit(maxsplit=2)[1].endswith("%")
    assert "epochs to 95%" in said
    assert "70 training and 450 validation images" in said
    assert results in said + "\n"


@pytest.mark.slow
def test_demo_writes_a_picture_and_a_record_for_each_schedule(finished):
    out, _ = finished
    names = NAMES
    pictures = sorted(out.glob("*.png"))
    records = sorted(out.glob("*.csv"))
    assert len(records) == len(names)
    assert {path.stem for path in pictures} == {path.stem for path in records} | {
        "gallery",
        "range-test",
    }
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)


@pytest.mark.slow
def test_demo_records_show_the_rates_of_the_schedules(finished):
    out, _ = finished
    rates = {}
    for path in sorted(out.glob("*.csv")):
        history = LRHistory.from_csv(path)
        assert list(history.step) == [0, 1, 2, 3, 4, 5]
        assert np.isfinite(history.loss).all()
        rates[path.stem] = history.learning_rate
    found = rates["01-constant"][0]
    np.testing.assert_allclose(rates["01-constant"], found)
    np.testing.assert_allclose(rates["03-lineardecay"], found * (1 - np.arange(6) / 6), rtol=1e-6)


def test_demo_starts_every_run_alike(fashion):
    data = demo.load_data("fashion-mnist", fashion)
    compared = {"one": [Constant(0.01)], "two": [Constant(0.01)]}
    one, two = demo.train_each(compared, data, epochs=2, seed=3)
    np.testing.assert_allclose(one.history.loss, two.history.loss, rtol=1e-5)
    assert one.val_accuracy == two.val_accuracy
    assert one.history is not two.history
    assert one.seconds > 0


def test_batches_hold_each_image_once_an_epoch_in_an_order_of_their_own():
    x = np.arange(10, dtype=np.float32)
    data = demo.Data(x, x.astype(np.uint8), x, x.astype(np.uint8), "", batch_size=4, target=0.9)
    batches = data.batches(seed=1)
    epochs = [[next(batches) for _ in range(data.steps_per_epoch)] for _ in range(2)]
    assert [len(images) for images, _ in epochs[0]] == [4, 4, 2]
    first, second = (np.concatenate([images for images, _ in epoch]) for epoch in epochs)
    assert sorted(first) == sorted(second) == list(x)
    assert list(first) != list(second)
    again = data.batches(seed=1)
    np.testing.assert_array_equal(np.concatenate([next(again)[0] for _ in range(3)]), first)


def test_table_says_when_the_target_was_reached_or_that_it_was_not():
    def run(name, rates, accuracy):
        callback = SimpleNamespace(history=SimpleNamespace(learning_rate=np.array(rates)))
        return demo.Run(name, [callback], accuracy, accuracy, seconds=1.26)

    text = demo.format_results(
        [run("good", [0.1, 0.1], [0.5, 0.9, 0.97]), run("bad", [0.1, 0.001], [0.1, 0.2, 0.3])],
        target=0.9,
    )
    head, _, good, bad = text.splitlines()
    assert "epochs to 90%" in head
    assert good.split() == ["good", "0.1", "2", "97.0%", "1.3"]
    assert bad.split() == ["bad", "0.001", "to", "0.1", "not", "reached", "30.0%", "1.3"]


def test_digits_are_split_evenly_and_by_the_seed():
    data = demo.load_data("digits", seed=5)
    assert data.x.shape == (1347, 8, 8, 1)
    assert data.x_val.shape == (450, 8, 8, 1)
    assert (data.x.min(), data.x.max()) == (0, 1)
    shares = np.bincount(data.y) / len(data.y) - np.bincount(data.y_val) / len(data.y_val)
    assert abs(shares).max() < 0.01
    np.testing.assert_array_equal(demo.load_data("digits", seed=5).x_val, data.x_val)
    assert not np.array_equal(demo.load_data("digits", seed=6).x_val, data.x_val)


def test_fashion_mnist_is_read_from_files_packed_or_not(fashion):
    data = demo.load_data("fashion-mnist", fashion, train_size=5)
    assert data.x.shape == (5, 28, 28, 1)
    assert data.x_val.shape == (6, 28, 28, 1)
    assert data.x.dtype == np.float32
    assert (data.x_val.min(), data.x_val.max()) == (0, 1)
    assert list(data.y_val) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_idx_values_come_back(tmp_path, pack):
    values = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    (tmp_path / "file").write_bytes(pack(idx(values)))
    np.testing.assert_array_equal(demo.read_idx(tmp_path / "file"), values)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (idx(np.zeros((2, 3)))[:-1], "promises 18 bytes. Received: 17"),
        (idx(np.zeros((2, 3))) + b"x", "promises 18 bytes. Received: 19"),
        (idx(np.zeros((2, 3)))[:7], "damaged"),
        (struct.pack(">HBB3I", 0, 8, 3, *[2**32 - 1] * 3), "damaged"),
        (b"", "an empty file"),
        (b"\x00\x00\x0d\x01\x00\x00\x00\x00", "00 00 0d 01"),
        (b"<html>not found</html>", "not an IDX file"),
        (gzip.compress(idx(np.zeros((200, 3))), mtime=0)[:-9], "Download the file again"),
        (gzip.compress(b"x" * 999, mtime=0)[:15] + bytes(9), "Download the file again"),
    ],
)
def test_broken_idx_file_is_an_error_that_says_what_is_wrong(tmp_path, content, words):
    (tmp_path / "broken").write_bytes(content)
    with pytest.raises(demo.DemoError, match=words) as caught:
        demo.read_idx(tmp_path / "broken")
    assert "broken" in str(caught.value)


def test_truncated_file_ends_the_command_with_an_explanation(fashion, capsys):
    path = fashion / "t10k-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:-2])
    assert main(fashion_command(fashion)) == 1
    said = capsys.readouterr().err
    assert "t10k-labels-idx1-ubyte is damaged" in said
    assert "Traceback" not in said


def test_missing_file_ends_the_command_with_its_name(fashion, capsys):
    (fashion / "train-images-idx3-ubyte.gz").unlink()
    assert main(fashion_command(fashion)) == 1
    assert "no train-images-idx3-ubyte or train-images-idx3-ubyte.gz" in capsys.readouterr().err


def test_images_and_labels_must_belong_together(fashion, capsys):
    (fashion / "train-labels-idx1-ubyte").write_bytes(idx([1, 2, 3]))
    assert main(fashion_command(fashion)) == 1
    assert "do not belong together" in capsys.readouterr().err


def test_without_a_network_the_error_says_which_files_to_get(monkeypatch, tmp_path, capsys):
    def refuse():
        raise Exception("URL fetch failure")

    monkeypatch.setattr(keras.datasets.fashion_mnist, "load_data", refuse)
    assert main(["demo", "--data", "fashion-mnist", "--out", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "URL fetch failure" in said
    assert "--data-dir" in said
    assert "t10k-labels-idx1-ubyte" in said


@pytest.mark.parametrize("package", ["sklearn.datasets", "tqdm"])
def test_missing_package_is_named_with_the_command_that_installs_it(
    monkeypatch, tmp_path, capsys, package
):
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["demo", "--out", str(tmp_path)]) == 1
    assert "pip install 'keras-lr[demo]'" in capsys.readouterr().err


def test_folder_that_cannot_be_made_is_an_error(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["demo", "--out", str(tmp_path / "file")]) == 1
    assert "Cannot write to the folder" in capsys.readouterr().err


def test_folder_of_data_goes_with_fashion_mnist_only(tmp_path, capsys):
    assert main(["demo", "--data-dir", str(tmp_path), "--out", str(tmp_path)]) == 1
    assert "--data fashion-mnist" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "COMMAND"),
        (["dmeo"], "dmeo"),
        (["demo", "--epochs", "0"], "whole number from 1"),
        (["demo", "--epochs", "3.5"], "Received: 3.5"),
        (["demo", "--seed", "-1"], "seed"),
        (["demo", "--data", "cifar"], "cifar"),
    ],
)
def test_mistake_in_the_arguments_exits_with_2(arguments, words, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("command", [[], ["demo"], ["list"]])
def test_help_holds_an_example(command, capsys):
    with pytest.raises(SystemExit) as caught:
        main([*command, "--help"])
    assert caught.value.code == 0
    assert " ".join(["keras-lr", *command]) in capsys.readouterr().out.split("example:")[1]


def test_interruption_exits_with_130(monkeypatch):
    def interrupt(**_):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "main", interrupt)
    assert main(["demo"]) == 130


def test_list_names_every_schedule_and_callback_and_says_what_it_does(capsys):
    assert main(["list"]) == 0
    schedules, callbacks = capsys.readouterr().out.split("callbacks:\n")
    lines = schedules.splitlines()
    heads = {line.split("(")[0].strip() for line in lines if line[:2] == "  " != line[2:4]}
    assert {"CosineDecay", "OneCycle", "Sequence", "Function"} <= heads
    assert not {"LRHistory", "Schedule"} & heads
    assert "LRHistory(" in callbacks
    (place,) = (i for i, line in enumerate(lines) if line.startswith("  StepDecay("))
    assert lines[place + 1].strip().startswith("Multiply the rate")


def fashion_command(folder):
    return ["demo", "--data", "fashion-mnist", "--data-dir", str(folder), "--out", str(folder)]
