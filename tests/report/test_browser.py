"""The report in a real browser, opened from the disk."""

import pytest

from tests.report.made_run import make_run
from tests.report.test_report import TABS
from tests.report.test_screening import with_false_alarms
from xray_lazy.report.write import write_report

pytestmark = pytest.mark.slow


@pytest.fixture
def open_page(browser):
    """Opens a file; at the end nothing may have gone wrong in it, and nothing been fetched."""
    troubles, contexts = [], []

    def opened(path, width=1280, **options):
        contexts.append(browser.new_context(viewport={"width": width, "height": 800}, **options))
        page = contexts[-1].new_page()
        page.on(
            "console", lambda message: troubles.append(message.text) if message.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: troubles.append(str(error)))
        address = path.resolve().as_uri()
        page.on("request", lambda r: None if r.url.startswith((address, "data:")) else troubles.append(r.url))
        page.goto(address)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not troubles


def shown(page):
    return [part for part in TABS if page.locator(f"#{part}").is_visible()]


def test_each_tab_opens_its_part_by_mouse_and_by_keyboard(run, open_page):
    page = open_page(write_report([run]))
    assert shown(page) == ["overview"]
    for part in TABS:
        page.click(f"#tab-{part}")
        assert shown(page) == [part]
        assert page.evaluate("location.hash") == f"#{part}"
    page.focus("#tab-environment")
    page.keyboard.press("ArrowRight")
    assert shown(page) == ["overview"]
    page.keyboard.press("ArrowLeft")
    assert shown(page) == ["environment"]
    assert page.evaluate("document.activeElement.id") == "tab-environment"


def test_every_chart_is_drawn_and_reads_its_values(run, open_page):
    page = open_page(write_report([run]))
    page.click("#tab-curves")
    charts = page.locator("#curves .chart")
    assert charts.count() > 5
    assert page.locator("#curves .chart:not(:has(svg path))").count() == 0
    loss = charts.filter(has_text="Loss").first
    loss.locator('[role="img"]').focus()
    page.keyboard.press("End")
    assert "40 iterations" in loss.locator(".tip").inner_text()
    page.keyboard.press("ArrowLeft")
    assert "30 iterations" in loss.locator(".tip").inner_text()
    parts = charts.filter(has_text="Parts of the loss")
    before = parts.locator("path").count()
    parts.get_by_role("button", name="loss_cls").click()
    assert parts.locator("path").count() == before - 1


def test_the_theme_follows_the_system_and_can_be_changed(run, open_page):
    report = write_report([run])
    colours = []
    for scheme in ("light", "dark"):
        page = open_page(report, color_scheme=scheme)
        for _ in range(2):
            colours.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
            page.click("#theme")
        page.reload()
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == colours[-2]
    light, dark, *reverse = colours
    assert light != dark and reverse == [dark, light]


def test_a_phone_scrolls_in_one_direction_only(run, tmp_path, monkeypatch, open_page):
    other = make_run(tmp_path / "a_run_with_a_rather_long_name_of_its_folder", monkeypatch, ["optimizer.lr=0.5"])
    page = open_page(write_report([run, other]), width=390)
    for part in TABS:
        page.click(f"#tab-{part}")
        assert page.evaluate("document.documentElement.scrollWidth") == 390, part


def test_the_class_table_is_sorted_by_its_heads(run, open_page):
    page = open_page(write_report([run]))
    page.click("#tab-results")
    classes = page.locator("#results table.sortable").filter(has_text="mask AP75").first
    head = classes.get_by_role("button", name="class")
    orders = []
    for direction in ("ascending", "descending"):
        head.click()
        assert head.locator("xpath=..").get_attribute("aria-sort") == direction
        orders.append(classes.locator("tbody td:first-child").all_inner_texts())
    assert orders[0] == orders[1][::-1] and len(set(orders[0])) == 2


def test_rows_of_the_config_are_found(run, open_page):
    page = open_page(write_report([run]))
    page.click("#tab-config")
    page.get_by_text("The whole config").click()
    rows = page.locator("details tbody tr")
    everything = rows.count()
    page.locator("details .filter").fill("optimizer.lr")
    assert page.locator("details tbody tr:visible").count() == 1 < everything


def test_the_slider_tells_rates_and_bags_at_each_threshold(run, open_page):
    page = open_page(write_report([with_false_alarms(run)]))
    page.click("#tab-screening")
    choice = page.locator("#screening .choice")
    slider, told = choice.locator("input"), choice.locator("output")
    assert "P_FA 0.0 % 0 of 3" in " ".join(told.inner_text().split())
    assert choice.locator(".false li").count() == 0
    slider.focus()
    page.keyboard.press("End")
    assert "P_FA 66.7 % 2 of 3" in " ".join(told.inner_text().split())
    assert choice.locator(".false li").all_inner_texts() == ["bag_3.png, 0.4", "bag_7.png, 0.2"]
    assert choice.locator(".false img").first.evaluate("image => image.complete && image.naturalWidth") > 50
    missed = choice.locator(".missed li").count()
    page.keyboard.press("ArrowLeft")
    assert choice.locator(".false li").all_inner_texts() == ["bag_3.png, 0.4"]
    assert "P_FA 33.3 %" in slider.get_attribute("aria-valuetext")
    page.keyboard.press("Home")
    assert "Missed bags: 9" in choice.inner_text() and choice.locator(".missed li").count() == 9 > missed


def test_a_image_is_enlarged_and_closed_again(run, open_page):
    page = open_page(write_report([run]))
    page.click("#tab-images")
    page.locator("#images .enlarge").first.click()
    assert page.locator("dialog").is_visible()
    assert page.evaluate("document.querySelector('dialog img').naturalWidth") > 100
    page.keyboard.press("Escape")
    assert not page.locator("dialog").is_visible()


def test_all_parts_are_printed(run, open_page):
    page = open_page(write_report([run]))
    page.emulate_media(media="print")
    assert shown(page) == list(TABS)
    assert not page.locator("nav").is_visible()


def test_without_scripts_all_parts_can_be_read(run, open_page):
    page = open_page(write_report([run]), java_script_enabled=False)
    assert shown(page) == list(TABS)
