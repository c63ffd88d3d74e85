"""The directive ``{command}``: command lines and what they print.

They run after the page's earlier blocks, in the folder of its files.
"""

from __future__ import annotations

import pathlib
import re
import tempfile
from typing import Any, ClassVar

import blocks
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

FOLDER = "generated/commands"
NEXT = re.compile(r"(?<=[^\\]\n)")
"""The start of a command that does not continue the line before it."""


class Session:
    """Runs a page block by block while Sphinx reads it."""

    def __init__(self, path: pathlib.Path) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.page = blocks.Page(path, pathlib.Path(self.folder.name))
        self.left = iter(self.page.blocks)

    def until(self, code: str) -> str:
        """Run the blocks up to the next command with this code; return what that prints."""
        for block in self.left:
            printed = self.page.run(block)
            if block.language == "{command}" and block.code.strip() == code:
                return printed
        raise LookupError(f"the page has no such block: {code}")


class Command(SphinxDirective):
    """Shows a session: each command after a prompt, its output, and the picture that it writes."""

    has_content = True
    option_spec: ClassVar[dict[str, Any]] = {
        "status": directives.nonnegative_int,
        "image": directives.unchanged_required,
        "alt": directives.unchanged_required,
    }

    def run(self) -> list[nodes.Node]:
        known = self.env.temp_data
        path = pathlib.Path(self.env.doc2path(self.env.docname))
        session = known.setdefault("command_session", None) or Session(path)
        known["command_session"] = session
        code = "\n".join(self.content).strip()
        try:
            printed = session.until(code)
        except Exception as error:
            # Report whatever a block of the page raises with its place in the page.
            raise self.error(f"{type(error).__name__}: {error}") from error
        text = f"$ {NEXT.sub('$ ', code)}\n{printed}".rstrip()
        found: list[nodes.Node] = [nodes.literal_block(text, text, language="console")]
        if "image" in self.options:
            name = self.options["image"]
            target = pathlib.Path(self.env.srcdir, FOLDER, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((session.page.folder / name).read_bytes())
            alt = self.options.get("alt", name)
            found.append(nodes.image(uri=f"/{FOLDER}/{name}", alt=alt, classes=["drawn"]))
        return found


def setup(app: Sphinx) -> ExtensionMetadata:
    """Add the directive."""
    app.add_directive("command", Command)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
