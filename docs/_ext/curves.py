"""Directives that draw schedules while the documentation is built.

``{curves}`` draws the schedules that its lines make in one picture, ``{schedule} Constant(0.1)``
presents the class of its example, and ``{shapes}`` shows all of them as small pictures.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import pathlib
import re
from typing import Any, ClassVar

import keras
import matplotlib.pyplot as plt
import pictures
import yaml
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

import keras_lr
from keras_lr import plotting

FOLDER = "generated/curves"
ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")


def statements(text: str) -> dict[str, Any]:
    """Return the value of each expression of a text, by its source or by the name it is given."""
    space = {**vars(keras_lr), "keras": keras}
    made = {}
    for one in ast.parse(text).body:
        match one:
            case ast.Assign(targets=[ast.Name(name)], value=value):
                label = name.replace("_", " ")
            case ast.Expr(value=value):
                label = " ".join((ast.get_source_segment(text, value) or "").split())
            case _:
                raise ValueError(f"line {one.lineno} is neither an expression nor a name = one")
        made[label] = eval(compile(ast.Expression(value), "<curves>", "eval"), space)
    return made


class Drawing(SphinxDirective):
    """Base of the directives that draw a picture."""

    def image(self, figure: Any, key: str, alt: str, *classes: str) -> nodes.image:
        """Write a picture and return the node that shows it."""
        name = hashlib.sha256(key.encode()).hexdigest()[:16]
        path = pathlib.Path(self.env.srcdir, FOLDER, f"{name}.svg")
        path.parent.mkdir(parents=True, exist_ok=True)
        with plt.rc_context({"svg.hashsalt": name}):
            plotting.close(figure, path)
        return nodes.image(uri=f"/{FOLDER}/{name}.svg", alt=alt, classes=["drawn", *classes])


class Curves(Drawing):
    """Draws the schedules of the body, all in one picture or each in a panel."""

    has_content = True
    option_spec: ClassVar[dict[str, Any]] = {
        "epochs": directives.positive_int,
        "steps-per-epoch": directives.positive_int,
        "columns": directives.positive_int,
        "title": directives.unchanged_required,
        "alt": directives.unchanged_required,
    }

    def run(self) -> list[nodes.Node]:
        epochs = self.options.get("epochs", pictures.EPOCHS)
        steps = self.options.get("steps-per-epoch", pictures.STEPS)
        text = "\n".join(self.content)
        try:
            made = {
                label: one.values(epochs=epochs, steps_per_epoch=steps)
                for label, one in statements(text).items()
            }
        except Exception as error:
            # Report whatever a schedule raises with its place in the page.
            raise self.error(f"{type(error).__name__}: {error}") from error
        if columns := self.options.get("columns"):
            figure = plotting.gallery(made, steps, columns)
        else:
            figure = plotting.plot_curves(made, steps, title=self.options.get("title")).figure
        alt = self.options.get("alt", f"Learning rate over {epochs} epochs: {', '.join(made)}")
        return [self.image(figure, repr((text, self.options)), alt)]


class Schedule(Drawing):
    """Presents a class by its docstring and a picture; the body says when to use it."""

    required_arguments = 1
    final_argument_whitespace = True
    has_content = True
    option_spec: ClassVar[dict[str, Any]] = {"no-config": directives.flag}

    def run(self) -> list[nodes.Node]:
        code = self.arguments[0]
        (made,) = statements(code).values()
        name = type(made).__name__
        summary, formula, rest, source = described(type(made))
        fences = [f"```python\n{code}\n```"]
        if "no-config" not in self.options:
            config = keras_lr.to_config(made)
            text = yaml.safe_dump(config, default_flow_style=None, sort_keys=False, width=40)
            fences.append(f"```yaml\n{text}```")
        after = [
            f"```python\n{formula}\n```" if formula else "",
            rest,
            "**Use it** " + "\n".join(self.content),
            f"**Source:** {source}" if source else "",
            f"**API:** {{class}}`~keras_lr.{name}`; in a config: "
            f"[{name}](generated/config-reference.md#{name.lower()})",
        ]
        alt = f"{code} over {pictures.EPOCHS} epochs"
        left, right = nodes.container(), nodes.container()
        left += self.image(panel(code), f"panel {code}", alt)
        right += self.parse_text_to_nodes("\n\n".join(fences))
        return [
            *self.parse_text_to_nodes(summary),
            nodes.container("", left, right, classes=["schedule"]),
            *self.parse_text_to_nodes(ARXIV.sub(arxiv_link, "\n\n".join(filter(None, after)))),
        ]


class Shapes(Drawing):
    """Shows every schedule as a small picture that links to its section of the page."""

    def run(self) -> list[nodes.Node]:
        whole = nodes.container(classes=["shapes"])
        for name, code in pictures.EXAMPLES.items():
            figure = plotting.sparkline(pictures.values(code), width=2.0, height=0.7)
            image = self.image(figure, f"small {code}", "", "no-scaled-link")
            place = f"#{name.lower()}"
            link = nodes.reference("", "", image, nodes.caption("", name), refuri=place)
            whole += nodes.container("", nodes.paragraph("", "", link))
        return [whole]


def panel(code: str) -> Any:
    """Draw the picture of a schedule for its section."""
    figure = plotting.gallery({code: pictures.values(code)}, pictures.STEPS, columns=1)
    figure.set_size_inches(4, 2.6)
    figure.axes[0].set_title("")
    return figure


def described(cls: type) -> tuple[str, str, str, str]:
    """Return a docstring's first paragraph, formula, explanation and source."""
    text = inspect.getdoc(cls) or ""
    summary, _, rest = text.partition("\n\n")
    found = re.search(r"^Source: (.*?)(?:\n\n|\Z)", text, re.DOTALL | re.MULTILINE)
    source = found[1] if found else ""
    rest = re.split(r"^(?:Args:|>>> )", rest, maxsplit=1, flags=re.MULTILINE)[0]
    formula = re.match(r"``(value\(t\) = .*?)``", rest, re.DOTALL)
    if formula:
        rest = rest[formula.end() :]
    return (
        " ".join(summary.split()),
        " ".join(formula[1].split()) if formula else "",
        rest.strip(),
        " ".join(source.split()),
    )


def arxiv_link(match: re.Match[str]) -> str:
    """Return a Markdown link to a paper."""
    return f"[{match[0]}](https://arxiv.org/abs/{match[1]})"


def setup(app: Sphinx) -> ExtensionMetadata:
    """Add the directives."""
    app.add_directive("curves", Curves)
    app.add_directive("schedule", Schedule)
    app.add_directive("shapes", Shapes)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
