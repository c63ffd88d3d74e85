"""Every block of the README and of the pages under ``docs/`` runs as it stands, in order."""

import doctest
import inspect
import re
from pathlib import Path

import config_reference
import numpy as np
import pictures
import pytest
from blocks import Block, Page, blocks
from shapes import Shape

import keras_lr
import keras_lr.schedules
from keras_lr import Schedule
from keras_lr.config.schema import schema

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
BUILT = {"_build", "generated"}
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"] + [
    path for path in sorted(DOCS.rglob("*.md")) if not BUILT & set(path.parts)
]

TRAIN_LONG = {"cookbook.md", "fine-tune.md", "sweep.md"}


@pytest.fixture
def page(tmp_path, monkeypatch):
    """Return a function that makes a page of a text, or of a file."""

    def make(text):
        path = text
        if isinstance(text, str):
            monkeypatch.setattr("blocks.ROOT", tmp_path)
            (tmp_path / "examples").mkdir()
            path = tmp_path / "page.md"
            path.write_text(text)
        folder = tmp_path / "folder"
        folder.mkdir()
        return Page(path, folder)

    return make


def run(page):
    return [page.run(block) for block in page.blocks]


# The pages ----------------------------------------------------------------------------------------


def mark_of(path):
    """Return the mark of a page's test: the default run has the first pages alone."""
    if path in PAGES[:2]:
        return ()
    return pytest.mark.slow if path.name in TRAIN_LONG else pytest.mark.full


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=mark_of(path)) for path in PAGES],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_a_page_runs(page, path):
    run(page(path))


def test_the_readme_has_blocks_that_run():
    found = [block for block in blocks(PAGES[0].read_text(encoding="utf-8")) if not block.mark]
    assert {block.language for block in found} == {"python", "bash"}


def test_the_gallery_shows_every_public_schedule():
    public = {name: getattr(keras_lr, name) for name in keras_lr.__all__}
    schedules = {
        name
        for name, one in public.items()
        if inspect.isclass(one) and issubclass(one, Schedule) and one is not Schedule
    }
    text = (DOCS / "gallery.md").read_text(encoding="utf-8")
    assert re.findall(r"^### (\w+)$", text, re.MULTILINE) == list(pictures.EXAMPLES)
    assert sorted(pictures.EXAMPLES) == sorted(schedules)


def test_the_gallery_lists_every_shape_with_its_arguments():
    text = (DOCS / "gallery.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)(\(.*?\))` \|", text, re.MULTILINE))
    assert list(rows) == list(pictures.SHAPES)
    for name, shown in rows.items():
        written = inspect.signature(eval(f"lambda {shown[1:-1]}: None"))
        known = inspect.signature(getattr(keras_lr, name)).parameters.values()
        assert [(one.name, one.default) for one in written.parameters.values()] == [
            (one.name, one.default) for one in known
        ]


def test_the_readme_is_short_and_begins_with_code():
    text = PAGES[0].read_text(encoding="utf-8")
    assert len(text.split()) <= 700
    assert next(blocks(text)).language == "python"


def test_a_picture_shows_the_schedule_that_it_names():
    for name, code in pictures.EXAMPLES.items():
        made = eval(code, dict(vars(keras_lr)))
        assert type(made) is getattr(keras_lr, name)
        assert pictures.values(code).shape == (pictures.EPOCHS * pictures.STEPS,)


def test_the_api_lists_every_public_name_once():
    text = (DOCS / "api.md").read_text(encoding="utf-8")
    listed = re.findall(r"^   (\w+)$", text, re.MULTILINE)
    # The page of a module lists what the module offers.
    assert "   schedules\n" in text
    listed.remove("schedules")
    elsewhere = set(keras_lr.schedules.__all__) - set(listed)
    assert sorted(listed) == sorted(set(keras_lr.__all__) - elsewhere)


def test_the_page_of_a_schedule_links_to_the_methods_of_all():
    template = (DOCS / "_templates/autosummary/class.rst").read_text(encoding="utf-8")
    (listed,) = re.findall(r"for name in (\[.*?\])", template)
    public = {
        name
        for name, one in vars(Schedule).items()
        if inspect.isfunction(one) and not name.startswith("_")
    }
    hooks = {"set_model", "join_fit"}
    for_authors = {
        "value",
        "length",
        "hyperparameter_schedules",
        "unreached_stages",
        "stage_starts",
    }
    assert sorted(eval(listed)) == sorted(public - hooks - for_authors)


@pytest.mark.parametrize("words", ["discriminative", "early stopping", "wandb", "noam"])
def test_a_search_for_what_people_call_it_finds_a_guide(words):
    guides = [path.read_text(encoding="utf-8").lower() for path in (DOCS / "guides").glob("*.md")]
    assert any(words in text for text in guides)


def test_the_schedule_of_contributing_is_one():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    code, row = (block.code for block in blocks(text) if block.language == "python")
    # In another module, so that Keras does not confuse it with a class of the package.
    space = vars(keras_lr.schedules) | {"__name__": "contributing"}
    exec(code, space)
    cls = space["HalvingDecay"]
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner()
    found = [runner.run(test) for test in finder.find(cls, "HalvingDecay", globs=space)]
    assert sum(one.attempted for one in found) > 0
    assert sum(one.failed for one in found) == 0
    (shape,) = eval(f"{{{row}}}", {"Shape": Shape, "HalvingDecay": cls}).values()
    values = shape.make().values(epochs=30, steps_per_epoch=7)
    assert values[0] == shape.first
    assert np.all((shape.low <= values) & (values <= shape.high))


def test_the_config_reference_says_what_every_argument_accepts():
    text = config_reference.page(schema())
    section = re.search(r"^### OneCycle\n(.*?)^###", text, re.DOTALL | re.MULTILINE)[1]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", section, re.MULTILINE))
    assert rows["max_lr"] == "a number above 0"
    assert rows["over"] == (
        'a number of epochs above 0, `"2000 steps"`, `"5 epochs"`, `"30%"` or `"rest"`'
    )
    assert rows["momentum"] == "a list of 2 (each a number of at least 0 and below 1) or `null`"
    assert rows["shape"] == '`"cosine"` or `"linear"`'
    headings = re.findall(r"^### (.*)", text, re.MULTILINE)
    assert {"Sequence", "LRHistory", "ParamScheduler", "LRRangeTest"} <= set(headings)


# The rules ----------------------------------------------------------------------------------------


def test_blocks_are_found_with_their_lines():
    text = """\
# A page

```python
a = 1
```

<!-- file: lr.yaml -->
```yaml
x: 1
```

- in a list

  ```bash
  keras-lr list
  ```

````{note}
:class: tip
```pycon
>>> a
1
```
````

```{command}
:status: 1
keras-lr check lr.yaml
```
"""
    assert list(blocks(text)) == [
        Block("python", "a = 1\n", 4),
        Block("yaml", "x: 1\n", 9, "file: lr.yaml"),
        Block("bash", "keras-lr list\n", 15),
        Block("pycon", ">>> a\n1\n", 21),
        Block("{command}", "keras-lr check lr.yaml\n", 28, options={"status": "1"}),
    ]


def test_blocks_share_names_and_files(page):
    text = """\
```python
from keras_lr import Constant, save

save(Constant(0.25), "lr.json")
```
<!-- file: more.yaml -->
```yaml
callbacks:
- Constant: {lr: 0.5}
```
```pycon
>>> from keras_lr import load
>>> load("lr.json") + load("more.yaml")
[Constant(lr=0.25), Constant(lr=0.5)]
```
```bash
python -m keras_lr check *.json more.yaml  # both
keras-lr check more.yaml > said.txt
```
```pycon
>>> open("said.txt").read()
'more.yaml: 1 callback, no errors\\n'
```
"""
    said = "lr.json: 1 callback, no errors\nmore.yaml: 1 callback, no errors\n"
    assert run(page(text)) == ["", "", "", said, ""]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("```pycon\n>>> 1 + 1\n3\n```\n", "Expected:\n    3\nGot:\n    2"),
        ("```pycon\n1 + 1\n```\n", "page.md:2 (pycon): an interactive session has lines with >>>"),
        ("```bash\nrm -r /\n```\n", "page.md:2 (bash): nothing runs the command: rm -r /"),
        ("```bash\nkeras-lr check none.yaml\n```\n", "exit status 1"),
        ("```{command}\n:status: 1\nkeras-lr list\n```\n", "exit status 0"),
        ("```sh\nls\n```\n", "page.md:2 (sh): nothing runs it"),
        ("```\nls\n```\n", "page.md:2 (no language): nothing runs it"),
        ("<!-- no-run -->\n```python\n1\n```\n", "must say why"),
        ("<!-- no-run: -->\n```python\n1\n```\n", "must say why"),
        ("<!-- maybe: not -->\n```python\n1\n```\n", "there is no such comment"),
        ("<!-- file: a.py -->\n```python\n1\n```\n", "no later block uses a.py"),
        ("<!-- file: a.yaml -->\n```yaml\ncallbacks: [Constat: {lr: 1}]\n```\n", "`Constant`"),
    ],
)
def test_what_fails_fails(page, text, message):
    with pytest.raises((AssertionError, keras_lr.ConfigError)) as failure:
        run(page(text))
    assert message in str(failure.value)


def test_an_error_of_python_code_tells_the_line_of_the_page(page):
    with pytest.raises(ZeroDivisionError) as failure:
        run(page("# A\n\n```python\n1 / 0\n```\n"))
    last = failure.traceback[-1]
    assert (last.path.name, last.lineno + 1) == ("page.md", 4)


def test_what_a_page_registers_stays_in_it(page):
    text = "```python\nimport keras_lr\n@keras_lr.register\ndef f(epoch):\n    return 0.1\n```\n"
    text += "```pycon\n>>> keras_lr.from_config({'Function': {'fn': 'f'}})\nFunction(...)\n```\n"
    run(page(text))
    with pytest.raises(keras_lr.ConfigError):
        keras_lr.from_config({"Function": {"fn": "f"}})


def test_a_marked_block_is_not_run(page):
    assert run(page("<!-- no-run: it installs -->\n```bash\npip install x\n```\n")) == [""]
