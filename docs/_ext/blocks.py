"""Find the fenced blocks of a Markdown page, and run them one after the other.

``tests/test_docs.py`` runs every page with it; the directive `command` shows what a command prints.
"""

from __future__ import annotations

import contextlib
import doctest
import glob
import io
import pathlib
import re
import shlex
import sys
import types
from collections.abc import Iterator, Mapping
from typing import NamedTuple
from unittest import mock

ROOT = pathlib.Path(__file__).parents[2]

FENCE = re.compile(
    r"(?:^ *<!-- (?P<mark>[^\n]*?) -->\n)?"
    r"^(?P<indent> *)(?P<ticks>`{3,})(?P<info>[^`\n]*)\n"
    r"(?P<code>.*?)^(?P=indent)(?P=ticks) *$",
    re.DOTALL | re.MULTILINE,
)
OPTION = re.compile(r":(?P<name>[\w-]+):[ ]*(?P<value>.*)\n")
COMMAND = re.compile(r"(?:python -m keras_lr|keras-lr)\b(?P<rest>.*)")
CONFIGS = (".yaml", ".yml", ".toml", ".json")


class Block(NamedTuple):
    """A fenced block: its language or directive, its lines, and the comment before it."""

    language: str
    code: str
    line: int
    """Number of the first line of the code, from 1."""
    mark: str = ""
    options: Mapping[str, str] = types.MappingProxyType({})


def blocks(text: str, line: int = 1) -> Iterator[Block]:
    """Iterate over the blocks of a page, also those inside a directive such as a note."""
    for match in FENCE.finditer(text):
        code, indent = match["code"], len(match["indent"])
        code = "".join(one[indent:] or "\n" for one in code.splitlines(keepends=True))
        at = line + text.count("\n", 0, match.start("code"))
        name, _, argument = match["info"].strip().partition(" ")
        options = {}
        if name.startswith("{"):
            while option := OPTION.match(code):
                options[option["name"]] = option["value"]
                code, at = code[option.end() :], at + 1
        if name == "{code-block}":
            name = argument
        found = Block(name, code, at, match["mark"] or "", options)
        inside = list(blocks(code, at)) if name.startswith("{") else []
        yield from inside or [found]


class Page:
    """A page whose blocks share one namespace, and one folder that holds ``examples/``."""

    def __init__(self, path: pathlib.Path, folder: pathlib.Path) -> None:
        self.path, self.folder = path, folder
        name = "_".join(("page", *path.relative_to(ROOT).with_suffix("").parts))
        self.module = types.ModuleType(name.replace("-", "_"))
        # Pickle and Keras look for a class in the module that it names.
        sys.modules[self.module.__name__] = self.module
        self.registered: dict[str, object] = {}
        self.blocks = list(blocks(path.read_text(encoding="utf-8")))
        (folder / "examples").symlink_to(ROOT / "examples")

    def run(self, block: Block) -> str:
        """Run a block, and return what its commands print.

        Raises:
            AssertionError: If a doctest or a command fails, or the block has no rule.
            Exception: Whatever Python code raises.
        """
        from keras_lr.config import registry

        kind, _, detail = (part.strip() for part in block.mark.partition(":"))
        self.expect(kind in ("", "file", "no-run"), block, f"there is no such comment: {kind}")
        if kind == "no-run":
            self.expect(bool(detail), block, "the comment must say why it is not run")
            return ""
        with (
            contextlib.chdir(self.folder),
            mock.patch.object(registry, "_registered", self.registered),
            self.importing(),
        ):
            if kind == "file":
                self.write(block, detail)
            elif block.language == "python":
                padded = "\n" * (block.line - 1) + block.code
                exec(compile(padded, str(self.path), "exec"), vars(self.module))
            elif block.language == "pycon":
                self.doctest(block)
            elif block.language in ("bash", "{command}"):
                return self.commands(block)
            else:
                known = block.language.startswith("{") or block.language == "text"
                self.expect(
                    known, block, "nothing runs it; CONTRIBUTING.md says what may stand here"
                )
        return ""

    @contextlib.contextmanager
    def importing(self) -> Iterator[None]:
        """Let modules be imported from the folder, and forget them afterwards."""
        before = set(sys.modules)
        with mock.patch.object(sys, "path", [str(self.folder), *sys.path]):
            try:
                yield
            finally:
                for name in set(sys.modules) - before:
                    # Not by getattr, which would load a lazy module.
                    file = vars(sys.modules[name]).get("__file__")
                    if file and self.folder in pathlib.Path(file).parents:
                        del sys.modules[name]

    def write(self, block: Block, name: str) -> None:
        """Write a file for later blocks; a config that none of them names must load."""
        path = pathlib.Path(name)
        path.write_text(block.code, encoding="utf-8")
        known = re.compile(rf"\b{path.stem if path.suffix == '.py' else re.escape(name)}\b")
        if not any(known.search(one.code) for one in self.blocks if one.line > block.line):
            self.expect(path.suffix in CONFIGS, block, f"no later block uses {name}")
            import keras_lr

            keras_lr.load(path)

    def doctest(self, block: Block) -> None:
        """Check the examples of an interactive session."""
        name, space = self.module.__name__, vars(self.module)
        parser = doctest.DocTestParser()
        test = parser.get_doctest(block.code, space, name, str(self.path), block.line - 1)
        self.expect(bool(test.examples), block, "an interactive session has lines with >>>")
        said = io.StringIO()
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
        failed, _ = runner.run(test, out=said.write, clear_globs=False)
        space.update(test.globs)
        self.expect(not failed, block, said.getvalue())

    def commands(self, block: Block) -> str:
        """Run the lines of a shell block and return what they print."""
        printed = []
        lines = block.code.replace("\\\n", " ").splitlines()
        for line in filter(None, (one.partition("  #")[0].strip() for one in lines)):
            match = COMMAND.fullmatch(line)
            self.expect(match is not None, block, f"nothing runs the command: {line}")
            status, output = command(shlex.split(match["rest"]))
            wanted = int(block.options.get("status", 0))
            self.expect(status == wanted, block, f"{line}: exit status {status}\n{output}")
            printed.append(output)
        return "".join(printed)

    def expect(self, true: bool, block: Block, otherwise: str) -> None:
        """Raise with the place of a block unless ``true``."""
        if not true:
            place = f"{self.path.relative_to(ROOT)}:{block.line}"
            raise AssertionError(f"{place} ({block.language or 'no language'}): {otherwise}")


def command(words: list[str]) -> tuple[int, str]:
    """Run ``keras-lr`` in this process; return its exit status and what it prints."""
    from keras_lr.cli.main import main

    target = None
    if ">" in words:
        at = words.index(">")
        words, (target,) = words[:at], words[at + 1 :]
    found = [sorted(glob.glob(word)) if "*" in word else [word] for word in words]
    # Drawings in ASCII: in few fonts of a browser is Braille as wide as the letters.
    said = io.TextIOWrapper(io.BytesIO(), "ascii", "backslashreplace", write_through=True)
    with (
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(said),
        mock.patch.dict("os.environ", COLUMNS="80"),
    ):
        try:
            status = main([word for some in found for word in some])
        except SystemExit as leaving:
            status = int(leaving.code or 0)
    said.seek(0)
    text = said.read()
    if target is None:
        return status, text
    pathlib.Path(target).write_text(text, encoding="utf-8")
    return status, ""
