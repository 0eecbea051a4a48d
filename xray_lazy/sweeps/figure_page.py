"""One HTML file with figures and tables: nothing is fetched, and it follows the reader's light or dark setting."""

import html
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


@dataclass(frozen=True)
class Section:
    """A part of the page: a heading, a sentence below it, and a figure or a table or neither.

    Attributes:
        table: the header's cells and then the rows' cells, as text.
        least_width: of the figure in pixels; on narrower screens it scrolls sideways.
    """

    title: str
    text: str
    figure: "Figure | None" = None
    table: Sequence[Sequence[str]] | None = None
    least_width: int = 480


def make_page(title: str, summary: str, sections: Sequence[Section]) -> str:
    """The page as HTML text, about 5 MB of which are plotly's program."""
    from plotly.offline import get_plotlyjs

    figures = [section.figure for section in sections if section.figure is not None]
    body, number = [], 0
    for section in sections:
        content = ""
        if section.figure is not None:
            width = f"min-width:{section.least_width}px"
            content, number = f'<div class="wide"><div id="figure{number}" style="{width}"></div></div>', number + 1
        elif section.table is not None:
            content = f'<div class="wide">{_table(section.table)}</div>'
        text = html.escape(section.text)
        body.append(f"<section><h2>{html.escape(section.title)}</h2><p>{text}</p>{content}</section>")
    return _PAGE.format(
        title=html.escape(title),
        summary=html.escape(summary),
        body="\n".join(body),
        style=_STYLE,
        plotly=get_plotlyjs() if figures else "",
        templates=_script_text(_templates()),
        figures=f"[{','.join(_script_text(figure) for figure in figures)}]",
        draw=_DRAW,
    )


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *others = ["".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row) for row, tag in _tagged(rows)]
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(f'<tr>{row}</tr>' for row in others)}</tbody></table>"


def _tagged(rows: Sequence[Sequence[str]]) -> list[tuple[Sequence[str], str]]:
    return [(row, "td" if number else "th") for number, row in enumerate(rows)]


def _script_text(value: object) -> str:
    """JSON that may stand inside a script element: no text in it ends the element."""
    text = value.to_json() if hasattr(value, "to_json") else json.dumps(value)
    return text.replace("</", "<\\/").replace("<!--", "<\\u0021--")


def _templates() -> dict[str, dict]:
    """plotly's light and dark looks, on the page's own background."""
    import plotly.io

    looks = {}
    for name in ("light", "dark"):
        look = plotly.io.templates["plotly_white" if name == "light" else "plotly_dark"].to_plotly_json()
        clear = "rgba(0,0,0,0)"
        layout = {**look["layout"], "paper_bgcolor": clear, "plot_bgcolor": clear, "modebar": {"bgcolor": clear}}
        looks[name] = {"layout": layout}
    return json.loads(plotly.io.json.to_json_plotly(looks))


_STYLE = """
:root { color-scheme: light dark; --text: #1f2933; --quiet: #5b6875; --line: #dfe4ea; --page: #ffffff }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6eaee; --quiet: #9aa6b2; --line: #333c45; --page: #14181c }
}
body { margin: 0; background: var(--page); color: var(--text); font: 15px/1.5 system-ui, sans-serif }
main { max-width: 1100px; margin: 0 auto; padding: 24px 20px 60px }
h1 { font-size: 24px; margin: 0 } h2 { font-size: 18px; margin: 34px 0 2px }
p { margin: 2px 0 10px; color: var(--quiet) }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; white-space: nowrap }
th, td { text-align: left; padding: 4px 14px 4px 0; border-bottom: 1px solid var(--line) }
th { color: var(--quiet); font-weight: 600 }
td:last-child { white-space: normal }
@media (prefers-color-scheme: dark) { .parcoords .axis .domain, .parcoords .axis .tick line { stroke: #9aa6b2 } }
"""

_DRAW = """
const dark = matchMedia("(prefers-color-scheme: dark)");
function draw() {
  figures.forEach((figure, number) => Plotly.react("figure" + number, figure.data,
    {...figure.layout, template: templates[dark.matches ? "dark" : "light"]},
    {responsive: true, displaylogo: false}));
}
dark.addEventListener("change", draw);
draw();
"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
<script>{plotly}</script>
</head>
<body>
<main>
<h1>{title}</h1>
<p>{summary}</p>
{body}
</main>
<script>
const templates = {templates};
const figures = {figures};
{draw}
</script>
</body>
</html>
"""
