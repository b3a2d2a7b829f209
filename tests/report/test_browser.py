"""The page in a real browser: nothing loaded, nothing logged, nothing wider than a telephone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rather.report.build import build_report

MakeRun = Callable[..., Path]
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
)

SMALL_TEXT = """
const rgb = text => { const c = document.createElement('canvas').getContext('2d'); c.fillStyle = text;
  c.fillRect(0, 0, 1, 1); return Array.from(c.getImageData(0, 0, 1, 1).data); };
const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
  .map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
const ground = node => { for (; node; node = node.parentElement) {
  const c = rgb(getComputedStyle(node).backgroundColor); if (c[3] === 255) return c; } return [255, 255, 255, 255]; };
const found = {}; const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
for (let text = walk.nextNode(); text; text = walk.nextNode()) {
  const node = text.parentElement;
  if (!text.data.trim() || ['SCRIPT', 'STYLE', 'TITLE', 'DESC', 'title', 'desc'].includes(node.tagName)) continue;
  const style = getComputedStyle(node);
  const ink = rgb(node instanceof SVGElement ? style.fill : style.color), paper = ground(node);
  const [a, b] = [light(ink), light(paper)].sort((x, y) => y - x);
  const key = ink.slice(0, 3) + ' on ' + paper.slice(0, 3);
  found[key] = (a + .05) / (b + .05);
}
return found;
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed (pip install selenium)")
    chromium = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("no chromium with chromedriver on this machine")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=driver))
    found.get("about:blank")  # away from the browser's own first tab, which asks for things of its own
    yield found
    found.quit()


def show(browser: Any, page: Path, *, width: int = 1280, theme: str = "light") -> None:
    """Load a page at this width, as on a telephone when it is narrow, under the system theme."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", features)
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get(page.resolve().as_uri())


def requests(browser: Any) -> list[str]:
    """Addresses of everything that the page asked for since it was loaded; not what the browser's own first tab does."""
    events = (json.loads(entry["message"])["message"] for entry in browser.get_log("performance"))
    sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    return [told["request"]["url"] for told in sent if told["documentURL"].startswith("file:")]


@pytest.fixture
def pages(make_run: MakeRun, picture: bytes) -> list[Path]:
    """A full run, one with pictures and hostile text, and one that has hardly begun."""
    hostile = "<script>document.title = 'broken'; console.error('ran')</script><img src='https://example.org/x.png'>"
    samples = [{"prompt": hostile + "W" * 600, "before": "a.png", "after": hostile}] * 2
    pictured = make_run("pictured", samples=samples, evaluation={"before": {hostile: 1}, "after": {hostile: 2}})
    (pictured / "samples").mkdir()
    (pictured / "samples" / "a.png").write_bytes(picture)
    begun = make_run("begun", run={"status": "running"}, metrics=None, evaluation=None, samples=None)
    return [build_report(folder) for folder in (make_run(), pictured, begun)]


def test_nothing_is_asked_for_and_nothing_goes_wrong(browser: Any, pages: list[Path]) -> None:
    for page in pages:
        show(browser, page)
        assert browser.title != "broken"
        assert browser.get_log("browser") == []
        asked = requests(browser)
        assert asked
        assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


def test_text_from_the_run_stays_text(browser: Any, pages: list[Path]) -> None:
    show(browser, pages[1])
    assert browser.execute_script("return document.querySelectorAll('script').length") == 1
    sources = browser.execute_script("return [...document.images].map(i => [i.src.slice(0, 5), i.naturalWidth])")
    assert sources == [["data:", 24], ["data:", 24]]


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_the_page_is_never_wider_than_the_window(browser: Any, pages: list[Path], width: int) -> None:
    for page in pages:
        show(browser, page, width=width)
        browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
        wide = "const d = document.documentElement; return [innerWidth, d.scrollWidth, d.clientWidth]"
        inner, needed, room = browser.execute_script(wide)
        assert inner == width
        assert needed == room


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_has_contrast(browser: Any, pages: list[Path], theme: str) -> None:
    for page in pages[:2]:
        show(browser, page, theme=theme)
        browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
        found = browser.execute_script(SMALL_TEXT)
        assert len(found) >= 3
        assert min(found.values()) >= 4.5, found


def test_the_theme_follows_the_system_and_the_button(browser: Any, pages: list[Path]) -> None:
    ground = "return getComputedStyle(document.body).backgroundColor"
    show(browser, pages[0], theme="dark")
    dark = browser.execute_script(ground)
    button = browser.find_element("id", "theme")
    assert button.text == "Light theme"
    button.click()
    light = browser.execute_script(ground)
    assert (light, button.text) == ("rgb(255, 255, 255)", "Dark theme")
    assert dark != light
    show(browser, pages[0], theme="light")
    assert browser.execute_script(ground) == light


def test_print_is_light_and_opens_everything(browser: Any, pages: list[Path]) -> None:
    show(browser, pages[0], theme="dark")
    media = {"media": "print", "features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    try:
        assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        hidden = "return [...document.querySelectorAll('details table')].filter(t => !t.checkVisibility()).length"
        browser.execute_script("dispatchEvent(new Event('beforeprint'))")
        assert browser.execute_script(hidden) == 0
        browser.execute_script("dispatchEvent(new Event('afterprint'))")
        assert browser.execute_script("return document.querySelectorAll('details[open]').length") == 0
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_the_keyboard_shows_where_it_is(browser: Any, pages: list[Path]) -> None:
    show(browser, pages[0])
    from selenium.webdriver.common.keys import Keys

    seen = set()
    for _ in range(12):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        outline = "const s = getComputedStyle(document.activeElement); return [s.outlineStyle, s.outlineWidth]"
        assert browser.execute_script(outline) == ["solid", "3px"]
        seen.add(browser.execute_script("return document.activeElement.outerHTML.slice(0, 80)"))
    assert len(seen) >= 10
