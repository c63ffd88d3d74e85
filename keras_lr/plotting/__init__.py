"""Pictures of rates, for matplotlib and for a terminal.

matplotlib is imported when something is first drawn with it.
"""

from typing import Any

__all__ = ["close", "gallery", "plot_curves", "plot_panels", "sparkline"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from keras_lr.plotting import curves

    return getattr(curves, name)


def __dir__() -> list[str]:
    return __all__
