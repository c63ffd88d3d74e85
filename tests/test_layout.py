"""How the package is laid out: the order of its rooms, and what may stand in which.

The rules are read off the files, so that they hold for each, imported or not. Where a file stands
and how long it is have rules for the tests, too.
"""

import ast
import graphlib
import subprocess
import sys
import tomllib
from collections import Counter
from itertools import pairwise

import keras
import pytest
from source import (
    FILES,
    PACKAGE,
    ROOT,
    Import,
    defined_names,
    imported_modules,
    imports,
    libraries,
    module_name,
    private_uses,
    replacements,
    short,
    tree,
)

ROOMS = [
    "_version",
    "_command_line",
    "_files",
    "_hints",
    "_late",
    "_state",
    "plotting",
    "_keras",
    "_fields",
    "_fit",
    "history",
    "callback",
    "schedules",
    "callbacks",
    "adaptive",
    "range_test",
    "search",
    "config",
    "_renamed",
    "__init__",
    "cli",
    "__main__",
]
"""From the bottom up: a room imports from those above it in this list, and from no other."""

OPERATORS = ("keras_lr.schedules.base", "keras_lr.schedules")
"""The one circle, closed by a call: ``a >> b`` of a schedule builds a subclass of its class."""

PUBLIC_ROOMS = [
    *("plotting", "history", "schedules", "callbacks", "adaptive"),
    *("range_test", "search", "config"),
]
TESTS = ROOT / "tests"
BACKENDS = {"tensorflow", "jax", "torch"}
KNOWS_BACKENDS = ("_keras/", "_fit/engines/")
MAX_LINES = 450
"""Of a file of Python, in the package and in its tests."""
MAX_FILES = 10
"""Of a folder of the package, besides its `__init__.py`."""


def check(rule, findings):
    """Assert that a rule of the layout holds, or list where it is broken."""
    found = sorted(set(findings))
    assert not found, "\n".join([rule, *found])


def room(path):
    return short(path).split("/")[0].removesuffix(".py")


MODULES = {module_name(path): path for path in FILES}


def graph(*when):
    """Return which module imports which, and which packages Python imports on the way."""
    found = {}
    for name, path in MODULES.items():
        found[name] = imported_modules(path, MODULES, *when)
        for target in [*found[name]]:
            parts = target.split(".")
            around = {".".join(parts[:size]) for size in range(2, len(parts))}
            found[name] |= {each for each in around if not f"{name}.".startswith(f"{each}.")}
    return found


def circles(found):
    """Return the modules of each circle, one circle after the other, each without its arrows."""
    found = {name: set(targets) for name, targets in found.items()}
    seen = []
    while True:
        try:
            graphlib.TopologicalSorter(found).prepare()
        except graphlib.CycleError as error:
            circle = error.args[1]
            seen.append(", ".join(sorted(set(circle))))
            for before, after in pairwise(circle):
                found[after].discard(before)
        else:
            return seen


# Reading the source -------------------------------------------------------------------------------


@pytest.fixture
def example(tmp_path):
    def write(text):
        path = tmp_path / "keras_lr" / f"example{len(list(tmp_path.rglob('*.py')))}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    return write


def test_the_reader_of_imports_sees_every_form(example, tmp_path):
    found = imports(
        example(
            "import a.b, c\n"
            "from . import d\n"
            "from .e import f\n"
            "try:\n    import g\nexcept ImportError:\n    g = None\n"
            "if TYPE_CHECKING:\n    import h\nelse:\n    import i\n"
            "def function():\n    from j import k\n    importlib.import_module('l')\n"
            "class Class:\n    import m\n"
        ),
        tmp_path,
    )
    assert [item.module for item in found if item.when == "import"] == [
        *("a.b", "c", "keras_lr", "keras_lr.e", "g", "i", "m")
    ]
    assert found[-2:] == [Import("l", (), "call"), Import("m", (), "import")]
    assert [item.module for item in found if item.when == "never"] == ["h"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("model._jax_state", "model._jax_state"),
        ("getattr(model, '_jax_state', None)", "'_jax_state'"),
        ("attrgetter('_iterations')(x)", "'_iterations'"),
        ("x.y()[0]._backend", "x.y()[0]._backend"),
        ("self._iterations", "self._iterations"),
        ("import keras.src.trainers", "import keras.src.trainers"),
        ("from jax._src import core", "from jax._src import core"),
        ("from torch.nn import _reduction", "from torch.nn import _reduction"),
        ("self._own = 1\nself._own, other._own", None),
        ("import sys\nsys._getframe(1)", None),
        ("def _helper(): ...\n_helper()", None),
        ("x.__class__, x.__dict__, _, __name__", None),
        ("from keras_lr import _files", None),
        ("'_ a sentence', '__main__', '_'", None),
        ("state['_kept'] = 1\nstate['_kept'], state.pop('_kept')", None),
        ("return_value = {'_kept': 1}\nstate.get('_kept')", None),
        ("vars(model)['_iterations'] = 1", "'_iterations'"),
        ("model.__dict__['_iterations'] = 1", "'_iterations'"),
    ],
)
def test_private_names_are_seen_in_every_form(example, text, found):
    path = example(text)
    defined = {path: defined_names(path)}
    assert list(private_uses(path, defined)) == ([] if found is None else [found])


def test_a_private_name_of_another_file_is_free_on_self_alone(example):
    base, path = example("self._columns = 1"), example("self._columns\nother._columns")
    defined = {each: defined_names(each) for each in (base, path)}
    assert list(private_uses(path, defined)) == ["other._columns"]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("model.train_step = f", 1),
        ("self.session.model.train_function, b = 1, 2", 1),
        ("del optimizer.apply", 1),
        ("setattr(x, name, value)", 1),
        ("object.__setattr__(inner, 'a', 1)\nobject.__delattr__(inner, 'a')", 2),
        ("vars(model)['a'] = 1\nmodel.__dict__['b'] = 2\ndel vars(model)['a']", 3),
        ("vars(self.optimizer).update(a=1)", 1),
        ("type(model).train_step = f", 1),
        ("import keras\nkeras.Model.fit = f", 1),
        ("import tensorflow as tf\ntf.function = f", 1),
        ("x.set_model = f", 1),
        ("object.__setattr__(self, 'a', 1)\nsetattr(self, 'b', 2)", 0),
        ("self.model = 1\nself.a.b = 2\ncls.made = 3", 0),
        ("model.stop_training = True\noptimizer.learning_rate = 0.1", 0),
    ],
)
def test_replacements_are_seen_in_every_form(example, text, count):
    assert len(list(replacements(example(text), {"set_model"}))) == count


# Rooms --------------------------------------------------------------------------------------------


def test_every_file_belongs_to_a_room():
    assert {room(path) for path in FILES} <= {*ROOMS}


def test_rooms_import_only_from_below():
    place = {name: number for number, name in enumerate(ROOMS)}
    rising = set()
    for path in FILES:
        for target in imported_modules(path, MODULES, "import", "call", "never"):
            below = room(MODULES[target])
            if place[below] > place[room(path)]:
                rising.add(f"{short(path)} imports {below}")
    check("order of rooms", rising)


def test_no_import_can_fail_half_way():
    assert circles(graph("import")) == []


def test_no_call_imports_what_imports_its_module():
    base, package = OPERATORS
    found = graph("import", "call")
    found[base].remove(package)
    assert circles(found) == []
    targets = [
        (f"{item.module}.{name}", item.when)
        for item in imports(MODULES[base])
        for name in item.names
    ]
    assert [when for target, when in targets if target == package] == ["call"]


@pytest.mark.parametrize("name", PUBLIC_ROOMS)
def test_a_public_room_says_what_it_offers(name):
    offered = __import__(f"keras_lr.{name}", fromlist=["__all__"])
    assert sorted(offered.__all__) == sorted(set(offered.__all__)) != []
    assert [each for each in offered.__all__ if not hasattr(offered, each)] == []


def test_tests_stand_where_what_they_test_stands_in_the_package():
    folders = {path.parent.relative_to(TESTS) for path in TESTS.rglob("test_*.py")}
    check("folders", (str(folder) for folder in folders if not (PACKAGE / folder).is_dir()))


def test_no_two_files_of_tests_have_one_name():
    """Each is imported by its bare name, in one process with all others."""
    names = Counter(path.name for path in TESTS.rglob("*.py") if path.name != "conftest.py")
    check("names of files", (name for name, count in names.items() if count > 1))


# Size ---------------------------------------------------------------------------------------------


def test_a_file_is_short_enough_to_read():
    """A file of the package, and one of its tests."""
    files = [*FILES, *TESTS.rglob("*.py")]
    sizes = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    long = {path: size for path, size in sizes.items() if size > MAX_LINES}
    check("lines", (f"{path.relative_to(ROOT)}: {size}" for path, size in long.items()))


def test_a_room_has_few_files():
    sizes = Counter(short(path.parent) for path in FILES if path.name != "__init__.py")
    check(
        "sizes of rooms",
        (f"{name}: {size}" for name, size in sizes.items() if size > MAX_FILES),
    )


# One door -----------------------------------------------------------------------------------------


def test_only_the_door_touches_private_names_of_keras():
    defined = {path: defined_names(path) for path in FILES if room(path) != "_keras"}
    check(
        "private names",
        (f"{short(path)}: {use}" for path in defined for use in private_uses(path, defined)),
    )


def test_the_door_says_which_private_names_it_relies_on():
    ours = {"_keras_lr", "_replace"}  # the second is of Python's named tuples
    unnamed = []
    for path in FILES:
        if room(path) == "_keras":
            said = ast.get_docstring(tree(path)) or ""
            uses = private_uses(path, {path: defined_names(path)})
            names = {
                use.split()[1] if " " in use else use.strip("'").split(".")[-1] for use in uses
            }
            unnamed += [f"{short(path)}: {name}" for name in names - ours if name not in said]
    check("private names that the docstring does not mention", unnamed)


def test_no_attribute_of_a_callback_of_ours_hides_one_of_keras():
    keras_names = {name for name in vars(keras.callbacks.Callback()) if name.startswith("_")}
    assert keras_names, "Keras keeps the model in a private attribute"
    ours = set().union(*(defined_names(path) for path in FILES))
    assert ours & keras_names == set()


def test_only_the_door_replaces_anything_on_objects_of_keras():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd")
    callbacks = keras.callbacks.CallbackList(model=model)
    names = {
        name
        for each in (model, model.optimizer, callbacks)
        for name in {*vars(each), *vars(type(each))}
    }
    check(
        "replacements",
        (
            f"{short(path)}: {change}"
            for path in FILES
            if room(path) != "_keras"
            for change in replacements(path, names)
        ),
    )


# Libraries ----------------------------------------------------------------------------------------


def test_only_plotting_imports_matplotlib():
    importing = {room(path) for path in FILES if "matplotlib" in libraries(path, "import", "call")}
    assert importing == {"plotting"}


def test_only_the_named_modules_know_backends():
    knowing = {
        short(path) for path in FILES if BACKENDS & libraries(path, "import", "call", "never")
    }
    assert [name for name in sorted(knowing) if not name.startswith(KNOWS_BACKENDS)] == []


def test_no_backend_is_imported_with_the_package():
    assert [path.name for path in FILES if BACKENDS & libraries(path, "import")] == []


def test_what_is_imported_with_the_package_is_a_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    known = {requirement.split(">=")[0] for requirement in project["dependencies"]}
    known |= {"keras_lr", *sys.stdlib_module_names}
    undeclared = {short(path): libraries(path, "import") - known for path in FILES}
    assert {name: found for name, found in undeclared.items() if found} == {}


# Public names -------------------------------------------------------------------------------------


def test_every_public_name_exists_and_shows_an_example():
    import keras_lr

    assert sorted(set(keras_lr.__all__)) == sorted(keras_lr.__all__)
    assert [name for name in keras_lr.__all__ if not hasattr(keras_lr, name)] == []
    documented = {name: getattr(keras_lr, name).__doc__ or "" for name in keras_lr.__all__}
    assert [name for name, text in documented.items() if ">>>" not in text] == []


@pytest.mark.full
def test_importing_the_package_imports_what_it_needs_and_the_rest_when_it_is_asked_for():
    # Keras itself imports matplotlib and pandas where they are installed, so its own imports are
    # forgotten first.
    code = """
import sys
import keras

def unwanted():
    return [name for name in sys.modules if name.split(".")[0] in ("matplotlib", "pandas")]

for name in unwanted():
    del sys.modules[name]
import keras_lr
assert not unwanted(), unwanted()
for room in ("adaptive", "config", "range_test", "search"):
    assert f"keras_lr.{room}" not in sys.modules, room
for module, name in [("adaptive.prodigy", "Prodigy"), ("range_test", "LRRangeTest")]:
    config = {"module": f"keras_lr.{module}", "class_name": name, "config": {}}
    config["registered_name"] = f"keras_lr>{name}"
    assert type(keras.saving.deserialize_keras_object(config)) is getattr(keras_lr, name)
assert keras_lr.plotting.sparkline
assert keras_lr.config.load is keras_lr.load
assert not hasattr(keras_lr, "lode")
# Names that Python asks of every module import nothing.
assert not hasattr(sys.modules["keras_lr.range_search"], "__warningregistry__")
assert sys.modules["keras_lr.range_search"].Found.__name__ == "SearchResult"
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert result.returncode == 0, result.stderr


def test_every_module_says_what_it_is():
    assert [short(path) for path in FILES if not ast.get_docstring(tree(path))] == []
