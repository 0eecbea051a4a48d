"""The page as HTML text: everything is in it, nothing is fetched."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xray_lazy.report.blocks import Tab

TEMPLATES = Path(__file__).with_name("templates")


def render_page(title: str, headline: str, tabs: Sequence[Tab], made: str) -> str:
    """Texts are escaped where the template puts them in; `made` says when and with what the page was written."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["script_json"] = script_json
    environment.globals["asset"] = lambda name: (TEMPLATES / name).read_text(encoding="utf-8")
    return environment.get_template("page.html.jinja").render(title=title, headline=headline, tabs=tabs, made=made)


def script_json(value: Any) -> Any:
    """JSON that may stand inside a script element: no text in it ends the element."""
    import markupsafe

    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return markupsafe.Markup(text)
