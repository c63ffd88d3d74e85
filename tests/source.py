"""What the files of the package do, read off their syntax: imports, private names, assignments."""

import ast
import functools
import re
import sys
from pathlib import Path
from typing import Literal, NamedTuple

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "keras_lr"
FILES = sorted(PACKAGE.rglob("*.py"))

When = Literal["import", "call", "never"]
PRIVATE = re.compile(r"_(?!_|keras_lr_)\w*[A-Za-z]\w*|__\w+(?<!__)")
IMPORTERS = {"__import__", "import_module", "importlib.import_module"}
SETTERS = {"setattr", "delattr", "object.__setattr__", "object.__delattr__"}
OURS = ("keras_lr", "__future__", "None.")
CHANGERS = {"update", "pop", "popitem", "setdefault", "clear"}
# Names of variables and attributes that hold an object of Keras.
KERAS_OBJECTS = re.compile(
    r"(\w*_)?(model|optimizer|optimizers|inner|group|groups|callback_list|container|layer|layers)"
)
# What Keras lets a callback set.
PUBLIC_SETTINGS = {"learning_rate", "stop_training"}


class Import(NamedTuple):
    module: str
    names: tuple[str, ...]
    when: When


@functools.cache
def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def short(path):
    """Return the path of a file inside the package."""
    return path.relative_to(PACKAGE).as_posix()


def module_name(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(path, root=ROOT):
    """Return every import in a file, and when it runs.

    One in a function runs with a call and one under ``TYPE_CHECKING`` never does.
    """
    package = path.relative_to(root).parent.parts if path.is_relative_to(root) else ()
    found = []

    def visit(node, when):
        if isinstance(node, ast.Import):
            found.extend(Import(alias.name, (), when) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            outer = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*outer, *filter(None, [node.module])])
            found.append(Import(module, tuple(alias.name for alias in node.names), when))
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in IMPORTERS:
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

    visit(tree(path), "import")
    return found


def imported_modules(path, modules, *when):
    """Return the modules of the package that a file imports, told apart from names in them."""
    return {
        f"{item.module}.{name}" if f"{item.module}.{name}" in modules else item.module
        for item in imports(path)
        if item.when in when and item.module in modules
        for name in item.names or ("",)
    }


def libraries(path, *when):
    return {item.module.split(".")[0] for item in imports(path) if item.when in when}


def defined_names(path):
    """Return the private names of functions, classes, variables, attributes and keys in a file."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            if isinstance(node, ast.Name):
                found.add(node.id)
            elif is_own(node.value):
                found.add(node.attr)
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__slots__":
            found.update(ast.literal_eval(node.value))
        elif isinstance(node, ast.Dict):
            found.update(key.value for key in node.keys if isinstance(key, ast.Constant))
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
            key = getattr(node.slice, "value", None)
            found.add(None if owner_of_namespace(node.value) else key)
    return {name for name in found if isinstance(name, str) and PRIVATE.fullmatch(name)}


def owner_of_namespace(node):
    """Return the object of ``vars(object)`` or ``object.__dict__``."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "vars" and node.args:
        return node.args[0]
    is_dict = isinstance(node, ast.Attribute) and node.attr == "__dict__"
    return node.value if is_dict else None


def is_own(node):
    """Return whether an expression is the object or class that a method belongs to."""
    return isinstance(node, ast.Name) and node.id in {"self", "cls"}


def private_uses(path, defined):
    """Yield what names a private thing that is not the file's own, nor inherited.

    Args:
        path: The file.
        defined: The private names that each file defines, by file.

    An attribute is the file's own when the file defines the name; on ``self`` also when another
    file does, because a base class may stand there. So is a string that names one, as for
    ``getattr``. Names that begin with ``_keras_lr_`` are the package's own wherever they stand.
    """
    own, anywhere = defined[path], set().union(*defined.values())
    standard = libraries(path, "import", "call") & set(sys.stdlib_module_names)
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Attribute) and PRIVATE.fullmatch(node.attr):
            known = own | anywhere if is_own(node.value) else own
            if node.attr not in known and ast.unparse(node.value) not in standard:
                yield ast.unparse(node)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if PRIVATE.fullmatch(node.value) and node.value not in anywhere:
                yield repr(node.value)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{name}" for name in names]
            foreign = [name for name in names if not name.startswith(OURS)]
            parts = {part for name in foreign for part in name.split(".")}
            if any(PRIVATE.fullmatch(part) or part == "src" for part in parts):
                yield ast.unparse(node)


def replacements(path, keras_names=frozenset()):
    """Yield what replaces or deletes something on an object that is not the file's own.

    Args:
        path: The file.
        keras_names: Names of attributes of Keras's objects; one of them counts on any object.
    """
    foreign_roots = libraries(path, "import", "call", "never") - set(sys.stdlib_module_names)
    foreign_roots |= {alias for alias, module in aliases(path) if module in foreign_roots}

    def is_keras(node):
        name = getattr(node, "attr", getattr(node, "id", ""))
        root = ast.unparse(node).split(".")[0]
        return bool(
            KERAS_OBJECTS.fullmatch(name)
            or (root in foreign_roots - {"keras_lr"})
            or (isinstance(node, ast.Call) and ast.unparse(node.func) == "type")
        )

    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del):
            if is_own(node.value) or node.attr in PUBLIC_SETTINGS:
                continue
            if is_keras(node.value) or node.attr in keras_names:
                yield ast.unparse(node)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in SETTERS:
            if not is_own(node.args[0]):
                yield ast.unparse(node)
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
            if (owner := owner_of_namespace(node.value)) is not None and is_keras(owner):
                yield ast.unparse(node)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = owner_of_namespace(node.func.value)
            if node.func.attr in CHANGERS and owner is not None and is_keras(owner):
                yield ast.unparse(node)


def aliases(path):
    """Return the other name and the library of each ``import ... as ...``."""
    return [
        (alias.asname, alias.name.split(".")[0])
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.asname
    ]
