"""The page as a browser shows it, at the width of a phone and of a screen, light, dark, printed.

Chromium is the system's (Debian: ``apt-get install chromium``), or the one that ``$CHROMIUM``
names. Playwright drives it without a driver of its own version. axe-core comes within the package
axe-playwright-python, so that its version is pinned like any other, nothing of it is in this
repository, and no second package manager is needed.
"""

import os
import shutil
from pathlib import Path

import pytest
from planted_results import comparison, run

from ppl_vae import BernoulliVAE, ExponentialNormal, compare_elbos, evaluate
from ppl_vae.report import write_report

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium; apt-get install chromium"),
]
WIDTHS = {390: "dark", 1280: "light", 1920: "light"}
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
LUMINANCE = """() => {
  const [r, g, b] = getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number);
  return (r + g + b) / 765;
}"""


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright")
    with playwright.sync_playwright() as driver:
        # Containers run as root, where Chromium's sandbox cannot.
        found = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def opened(browser):
    """Open a page; return it with the list of what went wrong."""
    contexts = []

    def open_page(path, width=1280, scheme="light"):
        size = {"width": width, "height": 900}
        context = browser.new_context(viewport=size, color_scheme=scheme)
        contexts.append(context)
        page, wrong = context.new_page(), []
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: wrong.append(request.url) if is_fetched(request) else 0)
        page.goto(path.resolve().as_uri())
        return page, wrong

    yield open_page
    for context in contexts:
        context.close()


def is_fetched(request):
    """Whether a page asks for anything but itself."""
    return not (request.url.startswith("data:") or request.is_navigation_request())


def measured(folder):
    """What the library writes, not planted."""
    import torch

    found = compare_elbos(
        ExponentialNormal(), torch.tensor([1.2, 0.7]), num_replicates=20, device="cpu"
    )
    found.save(folder)
    return folder


def evaluated(folder):
    pair = BernoulliVAE((1, 4, 4), latent_dim=2, hidden=(8,), seed=0)
    evaluate(pair, pair.sample(40, seed=0), num_samples=50, device="cpu").save(folder)
    return folder


def damaged(folder):
    for name in ("metrics.csv", "evaluation/worst.png"):
        path = run(folder) / name
        path.write_bytes(path.read_bytes()[:-30])
    return folder


def long_names(folder):
    return comparison(folder, name="an-estimator-with-a-name-that-has-no-end-and-no-space" * 2)


KINDS = {
    "measured": lambda path: write_report(measured(path)),
    "evaluated": lambda path: write_report(evaluated(path)),
    "damaged": lambda path: write_report(damaged(path)),
    "long names": lambda path: write_report(long_names(path)),
    "side by side": lambda path: write_report(
        run(path / "a"), run(path / "b", shift=1.0), comparison(path / "c"), out=path / "page.html"
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_whole_and_accessible_at_every_width(kind, opened, tmp_path):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe").Axe()
    path = KINDS[kind](tmp_path)
    for width, scheme in WIDTHS.items():
        page, wrong = opened(path, width, scheme)
        assert page.evaluate(OVERFLOW) == 0
        sizes = page.eval_on_selector_all("img", "all => all.map(i => i.naturalWidth)")
        assert all(sizes)
        names = page.eval_on_selector_all("img", "all => all.map(i => i.alt.length)")
        assert all(length > 10 for length in names)
        assert (page.evaluate(LUMINANCE) > 0.5) == (scheme == "light")
        if width != 1920:  # which differs from 1280 by its margins
            violations = axe.run(page).response["violations"]
            assert not violations, [(v["id"], v["nodes"][0]["html"][:200]) for v in violations]
        assert wrong == []


def test_a_click_or_a_key_sorts_a_table(opened, tmp_path):
    page, wrong = opened(write_report(comparison(tmp_path)))
    names = "table:first-of-type >> nth=0 >> tbody th"
    head = page.locator("table").first.locator("thead th")
    first = page.locator(names).all_inner_texts
    assert first() == ["trace", "dreg", "iwae"]
    head.nth(1).get_by_role("button").click()
    assert first() == ["iwae", "dreg", "trace"]
    assert head.nth(1).get_attribute("aria-sort") == "ascending"
    page.keyboard.press("Enter")
    assert first() == ["trace", "dreg", "iwae"]
    assert head.nth(1).get_attribute("aria-sort") == "descending"
    head.nth(0).get_by_role("button").click()
    assert first() == ["dreg", "iwae", "trace"]
    assert head.nth(1).get_attribute("aria-sort") is None
    assert wrong == []


def test_the_keyboard_reaches_everything(opened, tmp_path):
    page, _ = opened(write_report(comparison(tmp_path)), width=390)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the results"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "top"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "scroll"


def test_the_header_stays_in_sight_in_a_long_table(opened, tmp_path):
    comparison(tmp_path)
    rows = "".join(f"{number},{number}\n" for number in range(60))
    (tmp_path / "long.csv").write_text("a,b\n" + rows)
    page, _ = opened(write_report(tmp_path))
    area = page.locator(".scroll").filter(has_text="long")
    area.evaluate("it => { it.scrollTop = it.scrollHeight }")
    top = area.evaluate("it => it.getBoundingClientRect().top")
    head = area.locator("thead th").first.evaluate("it => it.getBoundingClientRect().top")
    assert abs(head - top) < 2


def test_it_prints_without_scrolling(opened, tmp_path):
    page, _ = opened(write_report(comparison(tmp_path)), scheme="dark")
    page.emulate_media(media="print")
    assert page.evaluate(LUMINANCE) > 0.9
    assert not page.locator("nav").is_visible()
    assert page.locator(".scroll").first.evaluate("it => getComputedStyle(it).overflowX") == (
        "visible"
    )
    printed = Path(tmp_path / "page.pdf")
    page.pdf(path=printed, format="A4")
    assert printed.read_bytes().startswith(b"%PDF")
