"""A state from which no run can go on is refused, and never taken for a fresh start."""

import re

import pytest
from killed_fits import Kill, fit, plateau

from keras_lr import LRHistory, ReduceLROnPlateau, StateError

pytestmark = pytest.mark.core


def damage(path, how):
    content = path.read_bytes()
    if how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif how == "flipped":
        # In an archive, the first byte of the first array: others may be dates.
        place = content.find(b"\x93NUMPY") + 128 if path.suffix == ".npz" else len(content) // 2
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    elif how == "not ours":
        path.write_text("epoch,loss\n0,0.5\n")
    else:
        path.unlink()


@pytest.mark.parametrize("how", ["truncated", "flipped", "not ours", "missing"])
@pytest.mark.parametrize("name", ["plateau.json", "history.npz", "plateau.json.best-*.npz"])
def test_a_state_that_cannot_be_used_is_never_a_fresh_start(name, how, tmp_path):
    def callbacks():
        return [
            plateau(tmp_path, monitor="loss", restore_best_weights=True),
            LRHistory(state_path=tmp_path / "history.npz"),
        ]

    fit([*callbacks(), Kill("train_batch_begin", 2)], killed=True)
    path = next(tmp_path.glob(name))
    damage(path, how)
    with pytest.raises(StateError, match=f"{re.escape(path.name)}.*Restore it from a copy"):
        fit(callbacks(), initial_epoch=2)


@pytest.mark.parametrize(
    "make",
    [
        lambda path: LRHistory(state_path=path),
        lambda path: ReduceLROnPlateau(monitor="loss", state_path=path),
    ],
)
def test_a_state_that_was_never_written_does_not_exist(make, tmp_path):
    with pytest.raises(StateError, match=r"never\.json does not exist"):
        fit([make(tmp_path / "never.json")], initial_epoch=2)


def test_the_state_of_other_arguments_is_refused(tmp_path):
    fit([plateau(tmp_path)], epochs=2)
    with pytest.raises(StateError, match=r"belongs to .*factor=0\.5.*not to .*factor=0\.2"):
        fit([plateau(tmp_path, factor=0.2)], initial_epoch=1)
    # The file of another callback is no good even at the beginning, where it would be replaced.
    with pytest.raises(StateError, match="belongs to"):
        fit([plateau(tmp_path, factor=0.2)])


def test_an_epoch_that_the_file_does_not_know_is_refused(tmp_path):
    fit([plateau(tmp_path), LRHistory(state_path=tmp_path / "history.npz")], epochs=2)
    with pytest.raises(StateError, match=r"begins at epoch 4.*for the epochs 1, 2"):
        fit([plateau(tmp_path)], initial_epoch=4)
    with pytest.raises(StateError, match=r"begins at epoch 4.*does not hold epoch 3"):
        fit([LRHistory(state_path=tmp_path / "history.npz")], initial_epoch=4)
