"""Run the benchmarks, each in a new process, on every Keras backend that is installed.

python -m benchmarks [--small] [--pairs N] [--markdown FILE] [NAME ...]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import Effort, Row, table

BACKENDS = ("tensorflow", "jax", "torch")
MANY = {
    "fits": "The cost of a callback per training step",
    "layer_rates": "The cost of a rate for each part of a model, per training step",
    "range_test_cost": "The cost of a range test and of a snapshot",
    "population": "A population, against fixed rates",
    "sweep": "A sweep, against a new model for each rate",
    "sweep_ray": "A sweep on workers of Ray",
}
ONE = {
    "curves": "A curve of a million steps, against PyTorch's schedulers",
    "imports": "The import",
    "records": "A record of ten million steps",
}


def measured(name: str, backend: str, effort: Effort) -> list[Row]:
    """Run one benchmark in a new process."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.json"
        command = [sys.executable, "-m", f"benchmarks.{name}", "--json", str(path)]
        environment = os.environ | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
        subprocess.run(
            command + effort.arguments(),
            check=True,
            env=environment,
            stdout=subprocess.DEVNULL,
        )
        return [Row(**row) for row in json.loads(path.read_text())]


def main() -> None:
    """Run the benchmarks that were asked for, and print and write their tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join([*MANY, *ONE]))
    Effort.options(parser)
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables to a file")
    options = parser.parse_args()
    effort = Effort.of(options)
    unknown = set(options.names) - {*MANY, *ONE}
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}. Known: {', '.join([*MANY, *ONE])}")
    installed = [backend for backend in BACKENDS if importlib.util.find_spec(backend)]
    texts = []
    for name, title in (MANY | ONE).items():
        if options.names and name not in options.names:
            continue
        if name == "curves" and "torch" not in installed:
            print(f"{title}: left out, PyTorch is not installed", file=sys.stderr)
            continue
        if name == "sweep_ray" and not importlib.util.find_spec("ray"):
            print(f"{title}: left out, Ray is not installed", file=sys.stderr)
            continue
        for backend in installed if name in MANY else installed[:1]:
            heading = f"{title}: {backend}" if name in MANY else title
            rows = measured(name, backend, effort)
            print(f"\n{heading}\n\n{table(rows)}", flush=True)
            texts.append(f"## {heading}\n\n{table(rows, markdown=True)}\n")
    if options.markdown:
        options.markdown.write_text("\n".join(texts), encoding="utf-8")


if __name__ == "__main__":
    main()
