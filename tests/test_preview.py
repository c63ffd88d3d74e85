"""The gallery's preview, in a browser: its curves are those of `Schedule.values()`."""

import os
import random
import shutil
from pathlib import Path

import numpy as np
import pictures
import pytest
from blocks import blocks

import keras_lr

DOCS = Path(__file__).parents[1] / "docs"
BROWSER = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
"""A Chromium; without one, that of Playwright is tried."""

PHONE = {"width": 360, "height": 740}
SETTINGS = 8
"""Settings of the controls that are tried for each schedule."""


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    # As root Chromium has no sandbox; without the others it asks for pages of Google's.
    flags = ["--no-sandbox", "--disable-background-networking", "--disable-component-update"]
    with sync_api.sync_playwright() as playwright:
        try:
            opened = playwright.chromium.launch(executable_path=BROWSER, args=flags)
        except sync_api.Error as error:
            if BROWSER:
                raise
            pytest.skip(f"no Chromium: {error}")
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def html():
    """The preview as it stands in the gallery, in a page of nothing else."""
    (block,) = [one for one in blocks(pictures.GALLERY) if one.language == "{raw}"]
    style = f'<link rel="stylesheet" href="{DOCS.as_uri()}/_static/style.css">'
    place = 'name="viewport" content="width=device-width"'
    body = block.code.replace("_static/", f"{DOCS.as_uri()}/_static/")
    return f"<!doctype html><meta charset=utf-8><meta {place}>{style}<body>{body}"


@pytest.fixture
def page(browser, html, tmp_path):
    """Return a function that opens the preview, and fails on an error of its script."""
    path = tmp_path / "preview.html"
    path.write_text(html, encoding="utf-8")
    errors, opened = [], []

    def make(**options):
        made = browser.new_page(**options)
        made.on("pageerror", lambda error: errors.append(str(error)))
        made.goto(path.as_uri())
        made.wait_for_selector(".preview-curve")
        opened.append(made)
        return made

    yield make
    for one in opened:
        one.close()
    assert not errors


def shown(page):
    """Return the schedule that the page says, and the curve that it has."""
    curve = page.evaluate("document.querySelector('.preview').curve")
    return page.inner_text(".preview-code"), np.array(curve)


def set_all(page, choose):
    """Set each control to one of its places, as ``choose(count)`` picks it, as by a hand."""
    controls = page.locator(".preview fieldset :is(input, select)")
    for number in range(controls.count()):
        control = controls.nth(number)
        if control.get_attribute("type") == "range":
            control.fill(str(choose(int(control.get_attribute("max")) + 1)))
        elif control.get_attribute("type") == "checkbox":
            control.set_checked(bool(choose(2)))
        else:
            control.select_option(index=choose(control.locator("option").count()))


def test_every_shape_of_the_gallery_is_there_with_its_arguments(page):
    preview = page()
    names = preview.locator("#preview-schedule option").all_inner_texts()
    assert names == list(pictures.SHAPES)
    said, _ = shown(preview)
    assert said == "CosineDecay(0.1)"


@pytest.mark.parametrize("name", pictures.SHAPES)
def test_its_curves_are_those_of_values(name, page):
    preview, choices = page(), random.Random(name)
    preview.select_option("#preview-schedule", name)
    said = set()
    ways = [lambda count: 0, lambda count: count - 1] + [choices.randrange] * SETTINGS
    for choose in [None, *ways]:
        if choose:
            set_all(preview, choose)
        written, curve = shown(preview)
        said.add(written)
        schedule = eval(written, dict(vars(keras_lr)))
        expected = schedule.values(epochs=pictures.EPOCHS, steps_per_epoch=pictures.STEPS)
        np.testing.assert_allclose(curve, expected, rtol=1e-9, atol=1e-15, err_msg=written)
    assert len(said) > SETTINGS / 2


def test_the_line_is_the_curve(page):
    preview = page()
    preview.select_option("#preview-schedule", "TriangularCLR")
    _, curve = shown(preview)
    line = preview.get_attribute(".preview-curve", "d")
    x, y = np.array([point.split() for point in line[1:].split("L")], float).T
    assert len(x) == len(curve)
    np.testing.assert_allclose(np.diff(x), (x[-1] - x[0]) / (len(x) - 1), atol=0.11)
    bottom, top = y.max(), y.min()
    share = (bottom - y) / (bottom - top)
    expected = (curve - curve.min()) / np.ptp(curve)
    np.testing.assert_allclose(share, expected, atol=1e-3)


def test_it_is_used_by_keyboard(page):
    """Tab goes from the schedule to its arguments; arrows move them, and say what they are now."""
    preview = page()
    preview.focus("#preview-schedule")
    preview.keyboard.press("Tab")
    focused = "document.activeElement.labels[0].textContent"
    assert preview.evaluate(focused) == "initial_lr"
    preview.keyboard.press("ArrowRight")
    spoken = "document.activeElement.getAttribute('aria-valuetext').trim()"
    assert (shown(preview)[0], preview.evaluate(spoken)) == ("CosineDecay(0.15)", "0.15")
    preview.keyboard.press("End")
    assert shown(preview)[0] == "CosineDecay(1)"
    seen = [preview.evaluate(focused)]
    for _ in range(5):
        preview.keyboard.press("Tab")
        seen.append(preview.evaluate(focused))
    assert seen == ["initial_lr", "final_lr", "over", "endpoint", ".warmup(...)", ".per_epoch()"]
    preview.keyboard.press("Space")
    assert shown(preview)[0] == "CosineDecay(1).per_epoch()"


def test_what_cannot_be_is_not_offered(page):
    preview = page()
    preview.select_option("#preview-schedule", "TriangularCLR")
    low = preview.locator("#preview-argument-base_lr")
    low.fill(low.get_attribute("max"))
    assert shown(preview)[0] == "TriangularCLR(0.1, 0.1)"
    assert low.get_attribute("aria-valuetext").strip() == "0.1"


def test_every_control_has_a_name_and_the_picture_says_what_it_shows(page):
    preview = page()
    for name in pictures.SHAPES:
        preview.select_option("#preview-schedule", name)
        controls = ":is(input, select)"
        unnamed = f"[...document.querySelectorAll('{controls}')].filter((one) => !one.labels[0])"
        assert preview.evaluate(f"{unnamed}.length") == 0
        twice = "(ids => ids.length - new Set(ids).size)([...document.querySelectorAll('[id]')]"
        assert preview.evaluate(f"{twice}.map((one) => one.id))") == 0
    preview.select_option("#preview-schedule", "LinearDecay")
    label = preview.get_attribute(".preview svg", "aria-label")
    assert label.startswith("Learning rate over 30 epochs: from 0.1 to")


def test_a_phone_shows_it_all_in_its_width(page):
    preview = page(viewport=PHONE)
    for name in pictures.SHAPES:
        preview.select_option("#preview-schedule", name)
        set_all(preview, lambda count: count - 1)
        assert preview.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    letters = "parseFloat(getComputedStyle(document.querySelector('.preview text')).fontSize)"
    drawn = "document.querySelector('.preview svg').getBoundingClientRect().width"
    shown_as = "document.querySelector('.preview svg').viewBox.baseVal.width"
    scale = preview.evaluate(f"{drawn} / {shown_as}")
    assert preview.evaluate(letters) * scale >= 11


def test_it_follows_the_width_of_the_window(page):
    preview = page(viewport={"width": 1200, "height": 800})
    wide = preview.get_attribute(".preview svg", "viewBox")
    preview.set_viewport_size(PHONE)
    preview.wait_for_function(
        f"document.querySelector('.preview svg').getAttribute('viewBox') !== '{wide}'"
    )


def test_without_a_script_it_says_what_it_needs(browser, html, tmp_path):
    path = tmp_path / "preview.html"
    path.write_text(html, encoding="utf-8")
    preview = browser.new_page(java_script_enabled=False)
    preview.goto(path.as_uri())
    assert preview.inner_text(".preview") == "The preview needs JavaScript."
    preview.close()
