"""The site builds without a warning, its links lead somewhere, and a browser shows it without a complaint."""

import importlib.util
import os
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from test_architecture import _public_objects

ROOT = Path(__file__).resolve().parent.parent
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
LOOKED_AT = (
    "index.html",
    "guides/small-sets.html",
    "gallery/index.html",
    "gallery/compare_two_models.html",
    "reference/shape_models.ShapeBasis.html",
    "reference/shape_models.html",
)


class Page(HTMLParser):
    """The links of a page, and what they may lead to."""

    def __init__(self, path):
        super().__init__()
        self.links, self.anchors = [], {""}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.anchors |= {attrs[key] for key in ("id", "name") if attrs.get(key)}
        self.links += [attrs[key] for key in ("href", "src") if attrs.get(key)]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    for name in ("sphinx", "furo", "myst_parser", "latex2mathml", "torch"):
        pytest.importorskip(name, reason=f"the site needs {name}")
    build = tmp_path_factory.mktemp("site")
    env = {**os.environ, "DOCS_PYTHON": sys.executable, "DOCS_BUILD": str(build)}
    command = ["sh", str(ROOT / "tests" / "docs.sh"), "--run", "compare_two_models"]
    out = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert out.returncode == 0, out.stdout[-2000:] + out.stderr[-4000:]
    return build / "site"


def test_every_link_leads_somewhere(site):
    pages = {path.resolve(): Page(path) for path in site.rglob("*.html")}
    assert len(pages) > 300
    wrong = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme in ("http", "https", "data"):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists():
                wrong.append(f"{path.relative_to(site.resolve())}: {link}")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                wrong.append(f"{path.relative_to(site.resolve())}: {link} has no such place")
    assert not wrong, "\n".join(sorted(set(wrong))[:40])


def test_every_public_name_has_a_page(site):
    stems = {path.stem for path in (site / "reference").glob("*.html")}
    titles = {stem.rpartition(".")[2] for stem in stems}
    missing = [path for path, thing in _public_objects() if thing.__name__ not in titles]
    assert not missing


def test_guides_gallery_and_cards_are_there(site):
    for folder, sources in (
        ("guides", (ROOT / "examples" / "guides").glob("*.md")),
        ("gallery", (ROOT / "examples").glob("[a-z]*.py")),
        ("models", [*(ROOT / "shape_models/models").glob("*.md"), *(ROOT / "asmnet/weights").glob("*.md")]),
    ):
        for source in sources:
            assert (site / folder / f"{source.stem}.html").is_file(), source
    assert "compare_two_models.png" in (site / "gallery" / "compare_two_models.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None or importlib.util.find_spec("playwright") is None:
        pytest.skip("no Chromium or no playwright: the site is not opened")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        started = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_shows_it(site, browser, width, scheme):
    """No error, nothing missing, nothing from elsewhere, nothing wider than a phone, dark where dark is asked for."""
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    page, problems = context.new_page(), []
    page.on("console", lambda m: problems.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("requestfailed", lambda request: problems.append(f"failed: {request.url}"))
    page.on("request", lambda r: None if r.url.startswith(("file:", "data:")) else problems.append(f"asks {r.url}"))
    for name in LOOKED_AT:
        page.goto((site / name).as_uri())
        assert page.locator("h1").first.is_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{name} scrolls sideways"
        broken = "[...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
        assert page.evaluate(broken) == []
        brightness = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3)")
        assert (sum(map(int, brightness)) < 200) == (scheme == "dark"), brightness
    context.close()
    assert not problems, problems


def test_the_search_finds_a_name(site, browser):
    page = browser.new_page()
    page.goto((site / "search.html").as_uri() + "?q=generalized_procrustes")
    page.locator("#search-results li a").first.wait_for()
    assert "generalized_procrustes" in page.locator("#search-results").inner_text()
    page.close()
