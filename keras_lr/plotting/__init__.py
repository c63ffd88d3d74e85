"""Plots of rates, for matplotlib and for a terminal.

matplotlib is imported when something is first drawn with it.
"""

from typing import Any

__all__ = ["close", "gallery", "plot_curves", "plot_panels", "sparkline"]

_LOOKS = {"BLUE", "COLORS", "DARK_BLUE", "FAINT", "INK", "ORANGE", "STYLES"}
"""Colours and line styles of the plots, for other plots that should match them."""

_PARTS = {"count_along", "new_axes", "new_figure", "scale_rates", "title_above"}
"""Functions from which the plots are built."""


def __getattr__(name: str) -> Any:
    if name not in _LOOKS | _PARTS and name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from keras_lr.plotting import curves

    return getattr(curves, name)


def __dir__() -> list[str]:
    return sorted(_LOOKS | _PARTS | {*__all__})
