"""The page in a real browser, with real uploads."""

import base64
import json

import cv2
import numpy as np
import pytest

from tests.prediction.serving.served import serving
from xray_lazy.data.check import check_sets, open_sets
from xray_lazy.data.check.kinds import ERROR, KINDS

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.slow


@pytest.fixture
def page(browser, run_folder, tmp_path):
    """The open page; at the end nothing may have gone wrong in it, and nothing been fetched from elsewhere."""
    troubles = []
    with serving(run_folder, tmp_path, megabytes=1) as address:
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        page = context.new_page()
        page.on("console", lambda one: troubles.append(one.text) if "status of 422" not in one.text else None)
        page.on("pageerror", lambda error: troubles.append(str(error)))
        ours = (address, "blob:", "data:")
        page.on("request", lambda one: None if one.url.startswith(ours) else troubles.append(one.url))
        page.goto(address)
        page.wait_for_selector("#thresholds tr")
        yield page
        context.close()
    assert not troubles


def until_looked_at(page, count):
    sync_api.expect(page.locator("#status")).to_have_text(f"{count} scans looked at", timeout=60_000)


def send(page, *files):
    page.set_input_files("#files", list(map(str, files)))
    until_looked_at(page, len(files))


def pixels(page):
    """What the canvas shows, (H, W, 4)."""
    url = page.evaluate("document.getElementById('canvas').toDataURL()")
    return cv2.imdecode(np.frombuffer(base64.b64decode(url.partition(",")[2]), np.uint8), cv2.IMREAD_UNCHANGED)


def at(page, x, y):
    """Where a pixel of the scan is on the screen."""
    box = page.locator("#canvas").bounding_box()
    left, top = page.evaluate("[shift[0], shift[1]]")
    scale = page.evaluate("scale")
    return box["x"] + left + x * scale, box["y"] + top + y * scale


def drag(page, start, end):
    page.mouse.move(*at(page, *start))
    page.mouse.down()
    page.mouse.move(*at(page, (start[0] + end[0]) / 2, (start[1] + end[1]) / 2))
    page.mouse.move(*at(page, *end))
    page.mouse.up()


def items(page):
    return page.evaluate("current.items.map(one => [one.class, one.bbox, one.moved])")


def test_scans_are_looked_at_and_bad_files_say_why(page, images, tmp_path):
    (tmp_path / "broken.png").write_text("broken")
    (tmp_path / "large.png").write_bytes(b"x" * 2**21)
    send(page, images[0], tmp_path / "broken.png", images[1], tmp_path / "large.png")
    rows = page.locator("#list li").all_inner_texts()
    assert ["found" in row for row in rows] == [True, True, False, False]
    assert "is not an image" in rows[2] and "is larger than 1 MB" in rows[3]
    assert page.locator("#items li").count() > 0
    page.keyboard.press("ArrowRight")
    assert page.locator("#list [aria-current=true]").inner_text() == "bag_1.png"


def test_folders_and_dropped_files_come_in_too(page, tiny_set, images):
    page.set_input_files("#folder", str(tiny_set / "images"))
    until_looked_at(page, len(images))
    assert page.locator("#list li button").first.inner_text() == "images/bag_0.png"
    data = page.evaluate_handle(
        "async ([name, bytes]) => { const data = new DataTransfer();"
        "data.items.add(new File([new Uint8Array(bytes)], name, {type: 'image/png'})); return data; }",
        ["dropped.png", list(images[0].read_bytes())],
    )
    page.dispatch_event("main", "drop", {"dataTransfer": data})
    until_looked_at(page, len(images) + 1)
    assert "found" in page.locator("#list li").last.inner_text()


def test_views_masks_boxes_and_zoom_change_what_is_seen(page, images):
    send(page, images[0])
    seen = [pixels(page)]
    for name in ("grey", "pseudo", "inverse"):
        page.click(f"[data-view={name}]")
        seen.append(pixels(page))
    page.keyboard.press("m")
    assert page.get_attribute("#masks", "aria-pressed") == "false"
    seen.append(pixels(page))
    page.keyboard.press("b")
    seen.append(pixels(page))
    page.click("#in")
    seen.append(pixels(page))
    assert not any(np.array_equal(one, other) for place, one in enumerate(seen) for other in seen[:place])
    page.click("[data-view=grey]")
    blue, green, red, _ = np.moveaxis(pixels(page).astype(int), 2, 0)
    assert np.array_equal(blue, green) and np.array_equal(green, red), "without masks and boxes nothing has colour"
    page.click("#fit")
    page.mouse.move(*at(page, 30, 20))
    before = at(page, 30, 20)
    page.mouse.wheel(0, -300)
    page.wait_for_timeout(100)
    assert at(page, 30, 20) == pytest.approx(before, abs=1), "the place under the mouse stays"


def test_corrections_are_saved_as_a_set_to_train_on(page, images, tiny_set, tmp_path):
    send(page, images[0])
    count = page.locator("#items li").count()
    page.click("#items li:first-child button")
    before = items(page)[0]
    other = {"gun": "knife", "knife": "gun"}[before[0]]
    page.select_option("#class", other)
    x, y, width, height = before[1]
    corner = x + width, y + height
    drag(page, corner, (corner[0] - width / 3, corner[1] - height / 3))
    name, box, moved = items(page)[0]
    assert name == other and moved and box == pytest.approx([x, y, width * 2 / 3, height * 2 / 3], abs=1)
    page.keyboard.press("Control+z")
    assert items(page)[0] == [other, before[1], False]
    for _ in range(count):
        page.click("#items li:first-child button")
        page.keyboard.press("Delete")
    assert items(page) == []
    page.keyboard.press("n")
    drag(page, (10, 8), (30, 28))
    ((_, drawn, _),) = items(page)
    assert drawn == pytest.approx([10, 8, 20, 20], abs=0.5)
    page.select_option("#class", "knife")
    page.keyboard.press("Control+s")
    saved = "saved: the set has 1 images and 1 annotations"
    sync_api.expect(page.locator("#status")).to_have_text(saved)
    folder = tmp_path / "corrections"
    content = json.loads((folder / "annotations.json").read_text())
    assert content["annotations"][0]["bbox"] == pytest.approx([10, 8, 20, 20], abs=0.5)
    ours = [str(folder / "annotations.json"), str(folder / "images")]
    trained_before = [str(tiny_set / "annotations.json"), str(tiny_set / "images")]
    _, report = check_sets(open_sets([*trained_before, *ours])).sets
    assert not [finding for finding in report.findings if KINDS[finding.kind].severity == ERROR]
