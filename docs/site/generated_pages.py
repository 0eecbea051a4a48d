"""An MkDocs hook: pages that are made from the repository while the site is built.

- reference/config.md, the config reference;
- api/<package>.md for each public package, which mkdocstrings fills;
- projects/<name>.md, the README of each project;
- notebook.md, the tutorial's notebook with its outputs;
- source/<path>.md for each file outside of docs/ that a page links to: no link leads out of the site.
"""

import json
import posixpath
import re
from pathlib import Path

import config_page
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
API_PACKAGES = sorted(path.parent.name for path in (ROOT / "xray_lazy").glob("*/__init__.py"))
PROJECTS = sorted(path.parent.name for path in ROOT.glob("projects/*/README.md"))
# what a reader of the repository is sent to, and the page that the site has in its place
SITE_PAGES = {
    "configs/common": "reference/config.md",
    "docs/tutorial.ipynb": "notebook.md",
    **{f"xray_lazy/{package}": f"api/{package}.md" for package in API_PACKAGES},
}
API_MODULES = ("command_line", "env", "errors", "install_detectron2")
LANGUAGES = {".py": "python", ".yaml": "yaml", ".sh": "bash", ".toml": "toml", ".json": "json"}

_LINK = re.compile(r"(?<=\]\()(?!https?://|#|mailto:)([^)\s#]+)(#[^)\s]*)?(?=\))")
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    reference = next(entry["Reference"] for entry in config.nav if "Reference" in entry)
    entry = next(entry for entry in reference if "API" in entry)
    names = [*API_PACKAGES, *PROJECTS]
    entry["API"] = [{name: f"api/{name}.md"} for name in names] + [{"root modules": "api/modules.md"}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    pages = {"reference/config.md": config_page.render(), "notebook.md": notebook_page(ROOT / "docs/tutorial.ipynb")}
    pages |= {f"api/{package}.md": api_page(f"xray_lazy.{package}") for package in API_PACKAGES}
    pages["api/modules.md"] = "# xray_lazy\n\n" + "\n\n".join(f"::: xray_lazy.{name}" for name in API_MODULES)
    for name in PROJECTS:
        readme = ROOT / "projects" / name / "README.md"
        pages[f"projects/{name}.md"] = readme.read_text(encoding="utf-8")
        pages[f"api/{name}.md"] = api_page(name)
        for image in (*readme.parent.glob("*.svg"), *readme.parent.glob("*.png"), *readme.parent.glob("*.jpg")):
            files.append(File.generated(config, f"projects/{image.name}", content=image.read_bytes()))
    for uri, text in pages.items():
        files.append(File.generated(config, uri, content=text))
    for file in list(files.documentation_pages()):
        for target in sorted(_outside(file.src_uri, file.content_string, files)):
            if files.get_file_from_path(source_uri(target)) is None:
                files.append(File.generated(config, source_uri(target), content=source_page(target)))
    return files


def on_page_markdown(markdown: str, page, config: MkDocsConfig, files: Files) -> str:
    """Links to files of the repository become links to their pages in the site."""

    def replaced(match: re.Match) -> str:
        path = repository_path(page.file.src_uri, match[1])
        site_page = None if path is None else site_uri(path, files)
        if site_page is None:
            return match[0]
        return posixpath.relpath(site_page, posixpath.dirname(page.file.src_uri) or ".") + (match[2] or "")

    return _LINK.sub(replaced, markdown)


def api_page(name: str) -> str:
    return f"# {name}\n\n::: {name}\n    options:\n      show_root_heading: false\n      show_root_toc_entry: false\n"


def source_uri(path: str) -> str:
    return f"source/{path.rstrip('/')}.md"


def source_page(path: str) -> str:
    """A file as it is, or what is in a folder."""
    source = ROOT / path
    if source.is_dir():
        names = sorted(p.name + "/" * p.is_dir() for p in source.iterdir() if not p.name.startswith(("_", ".")))
        return f"# {path}\n\n" + "\n".join(f"- `{name}`" for name in names)
    return f"# {path}\n\n````{LANGUAGES.get(source.suffix, 'text')}\n{source.read_text(encoding='utf-8')}\n````\n"


def repository_path(page: str, link: str) -> str | None:
    """The file of the repository that a page's link means, if there is one that is no page of docs/."""
    folder = posixpath.dirname(page)
    if page.startswith("projects/"):  # a README that lies in its project
        folder = f"../projects/{Path(page).stem}"
    path = posixpath.normpath(posixpath.join("docs", folder, link))
    inside = path.startswith("docs/") and path not in SITE_PAGES and not page.startswith("projects/")
    return None if inside or path.startswith("../") or not (ROOT / path).exists() else path


def site_uri(path: str, files: Files) -> str | None:
    """Where the site has a file of the repository."""
    if path in SITE_PAGES:
        return SITE_PAGES[path]
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    readme = re.fullmatch(r"projects/(\w+)(?:/README\.md)?", path)
    if readme:
        return f"projects/{readme[1]}.md"
    image = re.fullmatch(r"projects/\w+/([\w.]+\.(?:svg|png|jpg))", path)
    if image:
        return f"projects/{image[1]}"
    return source_uri(path) if files.get_file_from_path(source_uri(path)) else None


def _outside(page: str, markdown: str, files: Files) -> set[str]:
    links = (match[1] for match in _LINK.finditer(_FENCE.sub("", markdown)))
    paths = {path for link in links if (path := repository_path(page, link)) is not None}
    return {path for path in paths if site_uri(path, files) is None}


def notebook_page(notebook: Path) -> str:
    """The notebook's cells in order, code with what it printed and drew."""
    parts = []
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        parts += [_output(output) for output in cell.get("outputs", ())]
    return "\n\n".join(filter(None, parts))


def _output(output: dict) -> str:
    data = output.get("data", {})
    for kind in ("image/png", "image/jpeg"):
        if kind in data:
            return f"![What the cell above shows](data:{kind};base64,{''.join(data[kind]).strip()})"
    text = "".join(output.get("text", data.get("text/plain", "")))
    return f"```text\n{text.rstrip()}\n```" if text.strip() else ""
