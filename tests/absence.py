"""Ways to let a library call something differently, as another version of it might."""

import sys
import types


def hide(monkeypatch, kind, name):
    """Let the objects of a class keep an attribute where this package does not find it.

    Their own library still finds it. What the package sets under the name, it alone sees.
    """
    other, method = f"{name}_of_another_version", getattr(kind, name, None)

    def get(self):
        attributes = vars(self)
        if _is_called_by_package():
            if name in attributes:
                return attributes[name]
            raise AttributeError(name)
        if other in attributes:
            return attributes[other]
        if method is None:
            raise AttributeError(name)
        return method.__get__(self) if hasattr(method, "__get__") else method

    def put(self, value):
        vars(self)[name if _is_called_by_package() else other] = value

    def remove(self):
        del vars(self)[name if _is_called_by_package() else other]

    monkeypatch.setattr(kind, name, property(get, put, remove), raising=False)


def _is_called_by_package():
    return sys._getframe(2).f_globals["__name__"].partition(".")[0] == "keras_lr"


def rename(monkeypatch, function, name):
    """Give a function, its variable of a name, or a function inside it another name."""
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    monkeypatch.setattr(function, "__code__", _renamed(function.__code__, name))


def _renamed(code, name):
    def new(old):
        return f"{old}_of_another_version" if old == name else old

    names = {
        kind: tuple(map(new, getattr(code, kind)))
        for kind in ("co_varnames", "co_cellvars", "co_freevars")
    }
    inner = tuple(
        _renamed(one, name) if isinstance(one, types.CodeType) else one for one in code.co_consts
    )
    return code.replace(co_name=new(code.co_name), co_consts=inner, **names)
