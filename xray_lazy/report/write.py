"""Write the report of one run, or of several side by side."""

import datetime
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from xray_lazy.errors import UserError
from xray_lazy.report.blocks import Block, Note, Tab
from xray_lazy.report.curve_blocks import curve_blocks
from xray_lazy.report.data import data_blocks
from xray_lazy.report.environment import environment_blocks
from xray_lazy.report.error_blocks import error_blocks
from xray_lazy.report.image_blocks import image_blocks
from xray_lazy.report.overview import headline, overview_blocks
from xray_lazy.report.page import render_page
from xray_lazy.report.result_blocks import result_blocks
from xray_lazy.report.review import Reviews
from xray_lazy.report.run_files import RunFiles, read_run
from xray_lazy.report.screening_blocks import screening_blocks
from xray_lazy.report.settings import settings_blocks
from xray_lazy.report.speed import speed_blocks
from xray_lazy.run_folder import RunFolder
from xray_lazy.utils.atomic_file import write_text
from xray_lazy.utils.results_place import check_result_file

MADE_BY = "tools/report.py on"  # in each report, as it stands in HTML

logger = logging.getLogger(__name__)


def write_report(folders: Sequence[str | Path], output: str | Path | None = None) -> Path:
    """Write one HTML file about the runs in `folders`; the first is what the others are compared with.

    Args:
        output: by default `report.html` in the first folder, where it replaces an older one.

    What a run has not (an evaluation, its images) is said in the page, a damaged file as a warning, too.

    Raises:
        UserError: a folder is not that of a training, or the page may not be written there.
        OSError: the disk is full.
    """
    folders = list(dict.fromkeys(Path(folder) for folder in folders))
    path = Path(output) if output else RunFolder(folders[0]).report
    check_result_file(path, lambda file: MADE_BY.encode() in file.read_bytes(), "a report")
    runs = [read_run(folder) for folder in folders]
    for problem in (problem for run in runs for problem in run.problems):
        logger.warning("%s", problem)
    _name_apart(runs)
    title = runs[0].name if len(runs) == 1 else " and ".join([", ".join(r.name for r in runs[:-1]), runs[-1].name])
    made = f"Made by xray-lazy's {MADE_BY} {datetime.datetime.now().astimezone():%d %B %Y, %H:%M %Z}."
    text = render_page(title, headline(runs), make_tabs(runs), made)
    write_text(path, text)
    return path


def make_tabs(runs: Sequence[RunFiles]) -> list[Tab]:
    """All parts of the page that have something; one that fails says so, and the others are there all the same."""
    reviews = Reviews()
    makers: list[tuple[str, str, Callable[[], list[Block]]]] = [
        ("overview", "Overview", lambda: overview_blocks(runs, reviews)),
        ("curves", "Curves", lambda: curve_blocks(runs)),
        ("results", "Results", lambda: result_blocks(runs, reviews)),
        ("errors", "Errors", lambda: error_blocks(runs, reviews)),
        ("screening", "Screening", lambda: screening_blocks(runs, reviews)),
        ("images", "Images", lambda: image_blocks(runs, reviews)),
        ("data", "Data", lambda: data_blocks(runs)),
        ("speed", "Speed", lambda: speed_blocks(runs)),
        ("config", "Config", lambda: settings_blocks(runs)),
        ("environment", "Environment", lambda: environment_blocks(runs)),
    ]
    tabs = [Tab(name, title, _made(title, make)) for name, title, make in makers]
    return [tab for tab in tabs if tab.blocks]


def _made(title: str, make: Callable[[], list[Block]]) -> list[Block]:
    try:
        return make()
    except UserError as error:
        return [Note(error.message, error.fix, warning=True)]
    except Exception as error:
        logger.warning("the report's part %s failed", title, exc_info=logger.isEnabledFor(logging.DEBUG))
        return [Note(f"This part could not be made: {type(error).__name__}: {error}", warning=True)]


def _name_apart(runs: Sequence[RunFiles]) -> None:
    """Runs in folders of the same name get as much of their paths as tells them apart."""
    names = [run.name for run in runs]
    paths = [run.folder.resolve().parts for run in runs]
    for run, path in zip(runs, paths, strict=True):
        alike = [other for other, name in zip(paths, names, strict=True) if name == run.name and other != path]
        length = next((n for n in range(1, len(path)) if all(o[-n:] != path[-n:] for o in alike)), len(path))
        run.name = "/".join(path[-length:])
