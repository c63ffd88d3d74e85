"""Programs that tests start in a process of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent
PATH = os.pathsep.join(
    str(folder) for folder in (TESTS.parent, TESTS, TESTS / "_fit" / "engines", TESTS / "search")
)


def run_program(name, *arguments, timeout=600, **environment):
    """Run a program of `tests/programs` to its end and return what its last line says in JSON."""
    result = subprocess.run(
        [sys.executable, TESTS / "programs" / name, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": PATH} | environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr
    return json.loads(result.stdout.splitlines()[-1])
