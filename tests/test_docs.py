"""The README's Python runs as it stands, in order, each block after the ones before it."""

import re
import sys
import types
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
BLOCK = re.compile(
    r"^(?P<skip><!-- no-run -->\s*)?^```python\n(?P<code>.*?)^```", re.DOTALL | re.MULTILINE
)


def blocks(text):
    """Yield each block that is to run, preceded by as many empty lines as stand above it."""
    for match in BLOCK.finditer(text):
        if not match["skip"]:
            yield "\n" * text.count("\n", 0, match.start("code")) + match["code"]


def test_a_block_marked_no_run_is_left_out():
    parts = ["```python\na\n```\n", "<!-- no-run -->\n```python\nb\n```\n", "```sh\nc\n```\n"]
    text = "".join([*parts, "```python\nd\n```\n"])
    assert list(blocks(text)) == ["\na\n", "\n" * 11 + "d\n"]


def test_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    readme = types.ModuleType("readme")
    monkeypatch.setitem(sys.modules, "readme", readme)
    found = list(blocks(README.read_text(encoding="utf-8")))
    assert found
    for block in found:
        exec(compile(block, str(README), "exec"), vars(readme))
