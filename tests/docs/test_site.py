"""The site's parts that its strict build does not look at."""

import re
from pathlib import Path

import generated_pages
import pytest
from mkdocs.config import load_config
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def config():
    return generated_pages.on_config(load_config(str(DOCS / "site" / "mkdocs.yml")))


def pages_of(nav):
    for entry in nav:
        value = next(iter(entry.values()))
        yield from [value] if isinstance(value, str) else pages_of(value)


def test_every_page_that_a_person_wrote_is_in_the_navigation(config):
    assert {path.name for path in DOCS.glob("*.md")} <= set(pages_of(config.nav))


def test_every_package_has_its_api_page_and_stands_in_the_architecture(config):
    packages = {path.parent.name for path in (ROOT / "xray_lazy").glob("*/__init__.py")}
    assert {f"api/{package}.md" for package in packages} <= set(pages_of(config.nav))
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    assert [package for package in sorted(packages) if f"(../xray_lazy/{package})" not in page] == []


def test_nothing_is_loaded_from_elsewhere(config):
    """Fonts, scripts and styles are the site's own: it is read from a folder on a machine without a network."""
    assert config.theme["font"] is False
    scripts = [str(script) for script in [*config.extra_javascript, *config.extra["polyfills"]]]
    assert [name for name in [*scripts, *config.extra_css] if re.match(r"(https?:)?//", name)] == []
    assert all((DOCS / name).is_file() for name in [*scripts, *config.extra_css])


@pytest.mark.parametrize(
    ("page", "link", "path"),
    [
        ("training.md", "../tools/plain_train.py", "tools/plain_train.py"),
        ("training.md", "extending.md", None),
        ("tutorial.md", "tutorial.ipynb", "docs/tutorial.ipynb"),
        ("training.md", "../no/such.py", None),
        ("projects/sparse_rcnn.md", "sparse_rcnn/detector.py", "projects/sparse_rcnn/sparse_rcnn/detector.py"),
        ("projects/sparse_rcnn.md", "../../docs/benchmarks.md", "docs/benchmarks.md"),
    ],
)
def test_links_out_of_the_docs_are_found_in_the_repository(page, link, path):
    assert generated_pages.repository_path(page, link) == path


@pytest.mark.parametrize(
    ("link", "page"),
    [
        ("[keys](../configs/common)", "[keys](reference/config.md)"),
        ("[notebook](tutorial.ipynb)", "[notebook](notebook.md)"),
        ("[`data`](../xray_lazy/data)", "[`data`](api/data.md)"),
        ("[train](training.md#epochs)", "[train](training.md#epochs)"),
    ],
)
def test_what_the_site_has_a_page_for_is_linked_there(config, link, page):
    files = Files([File("tutorial.md", str(DOCS), str(ROOT), use_directory_urls=False)])
    tutorial = Page(None, files.get_file_from_path("tutorial.md"), config)
    assert generated_pages.on_page_markdown(link, tutorial, config, files) == page


def test_all_links_lead_to_something_in_the_repository_too():
    """Many read the pages where the repository lies, and not in the site."""
    for page in [*ROOT.glob("*.md"), *DOCS.glob("*.md"), *ROOT.glob("projects/*/README.md")]:
        text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        links = re.findall(r"\]\((?!https?://|#|mailto:)([^)\s#]+)", text)
        assert [link for link in links if not (page.parent / link).exists()] == [], page.name
