"""How the package is laid out: which module may import what, and what every public name owes."""

import ast
import graphlib
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Literal, NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "keras_lr"
BACKENDS = {"tensorflow", "jax", "torch"}
KNOWS_BACKENDS = ("_keras/", "_fit/engines/")
FILES = sorted(PACKAGE.rglob("*.py"))

When = Literal["import", "call", "never"]


class Import(NamedTuple):
    module: str
    names: tuple[str, ...]
    when: When


def imports(path):
    """Return every import in a file, and when it runs.

    One in a function runs with a call and one under ``TYPE_CHECKING`` never does. Neither can make
    an import fail half-way, so neither is an edge of the cycle test. A test that asks who knows a
    library says which of the three count.
    """
    package = path.relative_to(ROOT).parent.parts
    found = []

    def visit(node, when):
        if isinstance(node, ast.Import):
            found.extend(Import(alias.name, (), when) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            outer = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*outer, *filter(None, [node.module])])
            found.append(Import(module, tuple(alias.name for alias in node.names), when))
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in {
            "__import__",
            "import_module",
            "importlib.import_module",
        }:
            name = node.args[0].value if isinstance(node.args[0], ast.Constant) else "?"
            found.append(Import(name, (), when))
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for child in node.body:
                visit(child, "never")
            for child in node.orelse:
                visit(child, when)
            return
        if when == "import" and isinstance(
            node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
        ):
            when = "call"
        for child in ast.iter_child_nodes(node):
            visit(child, when)

    visit(ast.parse(path.read_text(encoding="utf-8")), "import")
    return found


def module_name(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def room(path):
    return path.relative_to(PACKAGE).parts[0]


def libraries(path, *when):
    return {item.module.split(".")[0] for item in imports(path) if item.when in when}


def test_the_reader_of_imports_sees_every_form(tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    path = tmp_path / "keras_lr" / "example.py"
    path.parent.mkdir()
    path.write_text(
        "import a.b, c\n"
        "from . import d\n"
        "from .e import f\n"
        "try:\n    import g\nexcept ImportError:\n    g = None\n"
        "if TYPE_CHECKING:\n    import h\nelse:\n    import i\n"
        "def function():\n    from j import k\n    importlib.import_module('l')\n"
        "class Class:\n    import m\n"
    )
    found = imports(path)
    assert [item.module for item in found if item.when == "import"] == [
        *("a.b", "c", "keras_lr", "keras_lr.e", "g", "i", "m")
    ]
    assert [item.module for item in found if item.when == "call"] == ["j", "l"]
    assert [item.module for item in found if item.when == "never"] == ["h"]


def test_imports_form_no_cycle():
    modules = {module_name(path): path for path in FILES}
    graph = {
        name: {
            f"{item.module}.{part}" if f"{item.module}.{part}" in modules else item.module
            for item in imports(path)
            if item.when == "import" and item.module in modules
            for part in item.names or ("",)
        }
        for name, path in modules.items()
    }
    graphlib.TopologicalSorter(graph).prepare()


def test_only_plotting_imports_matplotlib():
    importing = {room(path) for path in FILES if "matplotlib" in libraries(path, "import", "call")}
    assert importing <= {"plotting"}


def test_only_the_named_modules_know_backends():
    knowing = {
        path.relative_to(PACKAGE).as_posix()
        for path in FILES
        if BACKENDS & libraries(path, "import", "call", "never")
    }
    assert [name for name in sorted(knowing) if not name.startswith(KNOWS_BACKENDS)] == []


def test_no_backend_is_imported_with_the_package():
    assert [path.name for path in FILES if BACKENDS & libraries(path, "import")] == []


def test_what_is_imported_with_the_package_is_a_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    known = {requirement.split(">=")[0] for requirement in project["dependencies"]}
    known |= {"keras_lr", *sys.stdlib_module_names}
    undeclared = {path.name: libraries(path, "import") - known for path in FILES}
    assert {name: found for name, found in undeclared.items() if found} == {}


def test_importing_the_package_imports_neither_matplotlib_nor_pandas():
    # Keras itself imports both where they are installed, so its own imports are forgotten first.
    code = """
import sys
import keras

def unwanted():
    return [name for name in sys.modules if name.split(".")[0] in ("matplotlib", "pandas")]

for name in unwanted():
    del sys.modules[name]
import keras_lr
assert not unwanted(), unwanted()
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert result.returncode == 0, result.stderr


def test_every_public_name_exists_and_shows_an_example():
    import keras_lr

    assert sorted(set(keras_lr.__all__)) == sorted(keras_lr.__all__)
    assert [name for name in keras_lr.__all__ if not hasattr(keras_lr, name)] == []
    documented = {name: getattr(keras_lr, name).__doc__ or "" for name in keras_lr.__all__}
    assert [name for name, text in documented.items() if ">>>" not in text] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_module_is_short_enough_to_read(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 450
