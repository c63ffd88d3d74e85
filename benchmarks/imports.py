"""What ``import keras_lr`` adds to ``import keras``.

    python -m benchmarks.imports [--small] [--json FILE]

Each ratio is from a process of its own: the time of both imports over that of the first.
"""

from __future__ import annotations

import subprocess
import sys

from benchmarks.measure import PAIRS, Row, main

PROGRAM = """
import time
begun = time.perf_counter()
import keras
between = time.perf_counter()
import keras_lr
print((time.perf_counter() - begun) / (between - begun))
"""


def rows(small: bool) -> list[Row]:
    """Import both, again and again."""
    ratios = []
    for _ in range(1 if small else PAIRS):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True
        )
        ratios.append(float(done.stdout))
    return [Row("import keras; import keras_lr", "import keras", ratios, goal=1.01)]


if __name__ == "__main__":
    main(rows, __doc__)
