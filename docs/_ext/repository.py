"""Links to files and papers, names of files, and short signatures."""

from __future__ import annotations

import inspect
import pathlib
import re
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxRole
from sphinx.util.inspect import stringify_signature
from sphinx.util.typing import ExtensionMetadata

ROOT = pathlib.Path(__file__).parents[2]
ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")
FILE = re.compile(r"^( *)<!-- file: (\S+) -->\n *```(\w+)\n", re.MULTILINE)


class Source(SphinxRole):
    """``{source}`examples/imagenet.yaml``` links to the file; a folder is shown by its name."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        path = ROOT / self.text
        if not path.exists():
            message = self.inliner.reporter.warning(
                f"The repository has no {self.text}", line=self.lineno
            )
            return [nodes.problematic(self.rawtext, self.rawtext)], [message]
        shown = nodes.literal("", self.text)
        if path.is_dir():
            return [shown], []
        target = pathlib.PurePosixPath("..", self.text)
        return [addnodes.download_reference("", "", shown, reftarget=f"/{target}")], []


def name_files(app: Sphinx, docname: str, content: list[str]) -> None:
    """Turn ``<!-- file: lr.yaml -->`` before a block into its caption."""
    content[0] = FILE.sub(r"\1```{code-block} \3\n\1:caption: \2\n", content[0])


def link_papers(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Make ``arXiv:1608.03983`` in a docstring a link."""
    lines[:] = [ARXIV.sub(r"`\g<0> <https://arxiv.org/abs/\1>`__", line) for line in lines]


def short_signature(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, arguments: str, result: str
) -> tuple[str, str] | None:
    """Show types as the source writes them; for a class, whose ``Args`` explain them, show none."""
    if not arguments:
        return None
    signature = inspect.signature(obj)
    known = list(signature.parameters.values())
    if what == "class":
        known = [one.replace(annotation=inspect.Parameter.empty) for one in known]
        signature = signature.replace(return_annotation=inspect.Signature.empty)
    elif what == "method":
        known = [one for one in known if one.name not in ("self", "cls")]
    text = stringify_signature(signature.replace(parameters=known))
    shown, _, returned = text.partition(" -> ")
    return shown, returned


def public_bases(app: Sphinx, name: str, obj: type, options: Any, bases: list[Any]) -> None:
    """Show the public class behind a private base."""
    bases[:] = [base if base.__name__[0] != "_" else base.__base__ for base in bases]


def setup(app: Sphinx) -> ExtensionMetadata:
    """Add the role and the hooks."""
    app.add_role("source", Source())
    app.connect("source-read", name_files)
    app.connect("autodoc-process-docstring", link_papers)
    app.connect("autodoc-process-signature", short_signature)
    app.connect("autodoc-process-bases", public_bases)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
