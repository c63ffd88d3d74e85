"""Measure what ``import keras_lr`` adds to ``import keras``.

    python -m benchmarks.imports [--small] [--pairs N] [--json FILE]

Each ratio comes from a new process: the time of both imports over that of the first. All modules
are already compiled, as they are after installing a package.
"""

from __future__ import annotations

import os
import subprocess
import sys

from benchmarks.measure import PAIRS, Effort, Row, main

PROGRAM = """
import time
begun = time.perf_counter()
import keras
between = time.perf_counter()
import keras_lr
print((time.perf_counter() - begun) / (between - begun))
"""


def rows(effort: Effort) -> list[Row]:
    """Import both, several times."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}

    def ratio() -> float:
        program = [sys.executable, "-c", PROGRAM]
        done = subprocess.run(program, env=environment, check=True, capture_output=True, text=True)
        return float(done.stdout)

    ratio()  # compiles what is not
    ratios = [ratio() for _ in range(effort.pairs(PAIRS))]
    return [Row("import keras; import keras_lr", "import keras", ratios, goal=1.01)]


if __name__ == "__main__":
    main(rows, __doc__)
