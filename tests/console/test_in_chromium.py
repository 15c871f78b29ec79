"""The console as somebody sees it who opens it in a browser."""

from __future__ import annotations

import json
import re
from itertools import pairwise

import pytest
from browser import Browser
from scene import Scene, doing

#: By the formula of WCAG 2.1: contrast of every text with the ground that it stands on.
CONTRASTS = """
const part = (value) => value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
const light = (colour) => {
  const [r, g, b] = colour.match(/[0-9.]+/g).slice(0, 3).map((value) => part(value / 255));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ground = (element) => {
  for (; element; element = element.parentElement) {
    const colour = getComputedStyle(element).backgroundColor;
    if (!colour.endsWith(', 0)') && colour !== 'transparent') return colour;
  }
};
return [...document.querySelectorAll('th, td, .hint, .tenant, button, #state, .about')].map((element) => {
  const [most, least] = [light(getComputedStyle(element).color), light(ground(element))].sort((x, y) => y - x);
  return [element.className || element.tagName, (most + 0.05) / (least + 0.05)];
});
"""
TAB, ENTER, SPACE = "\ue004", "\ue007", " "
HOME, RIGHT, ESCAPE = "\ue011", "\ue014", "\ue00c"


#: The card of the stall that the tests provoke; on a crowded machine there are others.
HELD = "[...document.querySelectorAll('.card')].find((card) => card.textContent.includes('render_report'))"
HOLDS = "[...document.querySelectorAll('.card.bad')].find((card) => card.textContent.includes('render_report'))"


@pytest.fixture(scope="module")
def stalled(scene: Scene, window: Browser) -> str:
    """`hog` held the loop for a while; the text of its card while it did."""
    window.open(scene.url)
    window.until("document.querySelectorAll('table tbody tr').length >= 3")
    with doing(lambda: scene.say("hold"), lambda: scene.say("let go")):
        window.until(HOLDS)
        said = str(
            window.run(
                f"const card = {HOLDS}; card.querySelector('details').open = true;"
                "return [document.querySelector('#state').innerText, document.querySelector('#news').textContent,"
                " card.innerText].join('\\n')"
            )
        )
    window.until(f"!{HOLDS}")
    return said


def test_the_stalled_tenant_is_named_while_it_holds_the_loop(stalled: str) -> None:
    """In the heading, for the ear, and on a card with the line that blocks."""
    heading, news, *card = stalled.splitlines()
    assert "hog" in heading
    assert heading.endswith("a loop now")
    assert "hog holds the event loop of billing-agents" in news
    assert "holds the loop for" in "\n".join(card)
    assert any("render_report" in line and "application.py" in line for line in card)


def test_it_shows_tenants_and_who_waited_for_whom(page: Browser, stalled: str) -> None:
    """A row a tenant with figures, curves with words for the ear, and the pair of culprit and victim."""
    page.until("document.querySelectorAll('svg .curve').length > 0")
    assert "hog" in page.run("return document.querySelector('table tbody').innerText")
    assert page.run("return document.querySelector('section > svg').getAttribute('aria-label')").startswith("Share of")
    matrix = page.run("return document.querySelector('.matrix').innerText")
    assert "hog" in matrix
    assert "acme" in matrix


def test_a_tenant_cannot_be_markup(page: Browser) -> None:
    """An id that looks like an element is shown as it is."""
    assert page.run("return document.querySelectorAll('img').length") == 0
    assert "<img src=x" in page.until(
        "document.querySelector('table tbody').innerText.includes('<img') && document.body.innerText"
    )


def test_a_permalink_leads_to_the_stall(page: Browser, scene: Scene, stalled: str) -> None:
    """The address of a stall opens that stall, with its stack, in a window that was not there before."""
    target = page.until(f"{HELD}?.querySelector('.more a').href")
    page.open("about:blank")
    page.open(target)
    page.until("document.querySelectorAll('.card').length === 1 && document.querySelector('.card details').open")
    assert "render_report" in page.run("return document.querySelector('.card').innerText")
    assert page.run("return document.title").startswith("Stall ")


def test_it_works_without_a_mouse(page: Browser) -> None:
    """Tab, Enter and Space reach the views and the switches; what has the focus can be seen."""
    page.press(TAB)
    assert page.run("return document.activeElement.className") == "skip"
    page.press(ENTER)
    assert page.run("return document.activeElement.id") == "main"
    page.run("document.querySelector('nav a').focus()")
    page.press(TAB, ENTER)
    page.until("document.querySelector('nav a[aria-current]').textContent === 'Conversations'")
    assert page.run("return location.hash") == "#/conversations"
    page.run("document.querySelector('#pause').focus()")
    page.press(SPACE)
    assert page.run("return document.querySelector('#pause').getAttribute('aria-pressed')") == "true"
    assert page.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.press(SPACE)


def test_the_tree_of_a_conversation(page: Browser) -> None:
    """From the list to the tree: a message that caused another, one below the other, of the same tenant."""
    page.run("location.hash = '#/conversations'")
    page.until("[...document.querySelectorAll('tbody tr')].find(row => row.children[4].innerText === '2')")
    page.run(
        "[...document.querySelectorAll('tbody tr')].find(row => row.children[4].innerText === '2')"
        ".querySelector('a').click()"
    )
    page.until("document.querySelectorAll('.tree tbody tr').length === 2")
    classes = page.run("return [...document.querySelectorAll('.tree details')].map(each => each.className)")
    assert classes == ["depth0", "depth1"]
    page.run("document.querySelector('.tree details').open = true")
    assert "autogen.message.outcome" in page.run("return document.querySelector('.tree dl').innerText")


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_both_themes_can_be_read(page: Browser, theme: str) -> None:
    """Text stands out from its ground by 4.5 to 1 or more, in tables, hints and tenants' names."""
    if page.run("return document.documentElement.dataset.theme") != theme:
        page.run("document.querySelector('#theme').click()")
    pairs = page.run(CONTRASTS)
    assert pairs
    assert [pair for pair in pairs if pair[1] < 4.5] == []


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("chosen", ["dark", "light", None])
def test_the_door_looks_like_the_house(scene: Scene, window: Browser, theme: str, chosen: str | None) -> None:
    """The page to sign in at has the system's theme, or the one that was chosen inside; it can be read in each."""
    stranger = scene.url.partition("?")[0].replace("127.0.0.1", "localhost")  # whose cookies are others
    window.prefers(theme)
    window.open(stranger)
    window.run("arguments[0] ? localStorage.setItem('theme', arguments[0]) : localStorage.removeItem('theme')", chosen)
    window.open(stranger)
    ground = window.run("return getComputedStyle(document.body).backgroundColor")
    assert ground == {"dark": "rgb(16, 19, 25)", "light": "rgb(255, 255, 255)"}[chosen or theme]
    pairs = window.run(CONTRASTS.replace("'th, td,", "'h1, h2, p, label, input,"))
    assert len(pairs) > 5
    assert [pair for pair in pairs if pair[1] < 4.5] == []
    window.run("localStorage.removeItem('theme')")
    window.prefers("light")


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("view", ["", "conversations", "alerts", "tenants/hog"])
def test_nothing_sticks_out(page: Browser, width: int, view: str) -> None:
    """At either width the page does not scroll sideways; wide tables scroll in their own box."""
    page.size(width, 900)
    page.run(f"location.hash = '#/{view}'")
    page.until("document.querySelectorAll('section').length > 0")
    assert page.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0


def test_data_can_be_copied(page: Browser) -> None:
    """The button gives what the section shows, as JSON."""
    page.run("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
    page.run("document.querySelector('button.copy').click()")
    rows = json.loads(page.until("window.copied"))
    assert {row["tenant"] for row in rows} >= {"hog", "acme"}


def test_it_opens_quickly(page: Browser) -> None:
    """Nothing is fetched from anywhere but here, and little: less than 100 kB."""
    entries = page.run(
        "return performance.getEntriesByType('resource').filter((each) => !each.name.includes('/api/'))"
        ".map((each) => [each.name, each.decodedBodySize])"
    )
    assert all(name.startswith("http://127.0.0.1:") for name, _ in entries)
    assert sum(size for _, size in entries) < 100_000


def test_a_moment_can_be_read_without_a_mouse(page: Browser, stalled: str) -> None:
    """The arrow keys move through a chart's time: the legend, and what a screen reader hears, are of that moment."""
    page.until("document.querySelectorAll('svg .curve').length > 0")
    page.run("document.querySelector('#pause').click(); document.querySelector('section > svg').focus()")
    value = "return document.querySelector('section > svg').getAttribute('aria-valuetext')"
    assert page.run(value).startswith("Now: ")
    page.press(HOME)
    assert page.run("return document.querySelector('section > svg').getAttribute('aria-valuenow')") == "0"
    assert page.run(value).startswith("At ")
    page.press(RIGHT)
    assert page.run("return document.querySelector('section > svg').getAttribute('aria-valuenow')") == "1"
    assert page.run("return document.querySelectorAll('section > svg .mark').length") == 1
    page.press(ESCAPE)
    assert page.run(value).startswith("Now: ")
    page.run("document.querySelector('#pause').click()")


def test_the_card_of_a_stall_names_when_and_where_at_once(page: Browser, stalled: str) -> None:
    """Without opening it: the time of day, and the innermost line that is the application's own."""
    page.until(HELD)
    assert page.run(f"return {HELD}.querySelector('summary').innerText").startswith("in Clerk.render_report, ")
    about = page.run(f"return {HELD}.querySelector('.about').innerText")
    assert re.match(r"\d\d:\d\d:\d\d, billing-agents", about)


def test_a_stack_that_was_opened_stays_open(page: Browser, scene: Scene) -> None:
    """A new look at the sidecar, or a newer stack of the same stall, does not close what somebody reads."""
    page.until("document.querySelector('.card details')")
    with doing(lambda: scene.say("hold"), lambda: scene.say("let go")):
        page.until(HOLDS)
        page.run(f"{HOLDS}.querySelector('details').open = true")
        said = page.run(f"return {HOLDS}.querySelector('h3').innerText")
        page.until(f"{HOLDS}.querySelector('h3').innerText !== arguments[0]", said)
        assert page.run(f"return {HOLDS}.querySelector('details').open")
    page.until(f"!{HOLDS}")


def test_an_alert_that_is_over_is_one_card(page: Browser, stalled: str) -> None:
    """Raised and resolved are one incident; it does not look as if it still burned."""
    page.run("location.hash = '#/alerts'")
    page.until("document.querySelectorAll('.card .status.resolved').length > 0")
    cards = page.run("return [...document.querySelectorAll('.card')].map((each) => each.innerText)")
    found = [card for card in cards if card.startswith("hog EventLoopStalled")]
    assert found
    assert all(card.startswith("hog EventLoopStalled resolved") for card in found)
    assert len(found) == page.run(
        "const now = await (await fetch('/api/now')).json();"
        "const hogs = now.alerts.filter((each) => each.name === 'EventLoopStalled' && each.labels.tenant_id === 'hog');"
        "return new Set(hogs.map((each) => each.starts_at)).size"
    )


def test_a_stall_that_nobody_remembers(page: Browser, scene: Scene) -> None:
    """A permalink to one says so, and not that all is well."""
    page.run("location.hash = '#/stalls/99999'")
    assert "no stall 99999" in page.until("document.querySelector('.none:not([hidden])')?.innerText")


def test_a_tree_fits_a_phone(page: Browser) -> None:
    """At 390 pixels a span's name and how long it took are seen without scrolling sideways."""
    page.size(390, 900)
    page.run("location.hash = '#/conversations'")
    page.until("document.querySelector('tbody tr a')")
    page.run("document.querySelector('tbody tr a').click()")
    page.until("document.querySelector('.tree .number')")
    box = "const box = document.querySelector('.scroll'); return box.scrollWidth - box.clientWidth"
    assert page.run(box) <= 0


def test_headings_and_regions_have_names(page: Browser, stalled: str) -> None:
    """Each section is labelled by its heading, each table has a caption, each picture and button has words."""
    page.until("document.querySelector('.matrix')")
    unnamed = page.run(
        "return [...document.querySelectorAll('section, table, svg, button, nav, [role=region]')].filter((each) => {"
        " const label = each.getAttribute('aria-label') || each.querySelector('caption')?.textContent"
        " || document.getElementById(each.getAttribute('aria-labelledby'))?.textContent || each.textContent;"
        " return !label.trim(); }).map((each) => each.outerHTML)"
    )
    assert unnamed == []
    levels = page.run("return [...document.querySelectorAll('h1, h2, h3')].map((each) => Number(each.tagName[1]))")
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_single_messages_do_not_hide_conversations(page: Browser) -> None:
    """Traces of one span are counted and left out until somebody wants them; the keyboard reaches the switch."""
    page.run("location.hash = '#/conversations'")
    page.until("document.querySelector('tbody tr')")
    spans = "return [...document.querySelectorAll('tbody tr')].map((row) => Number(row.children[4].innerText))"
    assert min(page.run(spans)) > 1
    assert page.until(r"/Single messages too \([1-9][\d,]*\)/.test(document.querySelector('.choice').innerText)")
    page.run("document.querySelector('.choice input').focus()")
    page.press(SPACE)
    assert 1 in page.run(spans)
