"""The texts of charts: names in every script that a font of this machine has."""

import contextlib
import functools
import itertools
import logging
import warnings
from collections.abc import Iterator

logger = logging.getLogger(__name__)

# Of those that are installed the first one that has a letter draws it; the names are those in the fonts' files.
FALL_BACKS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Noto Sans JP", "Noto Sans KR", "Source Han Sans SC"),
    *("WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Droid Sans Fallback", "Microsoft YaHei", "SimHei", "SimSun"),
    *("PingFang SC", "Hiragino Sans GB", "Heiti TC", "Hiragino Sans", "Apple SD Gothic Neo", "Yu Gothic"),
    *("Malgun Gothic", "Arial Unicode MS", "Noto Sans Arabic", "Noto Sans Hebrew", "Noto Sans Devanagari"),
    *("Noto Sans Thai", "Noto Sans Bengali", "Noto Sans Tamil", "Nirmala UI", "Leelawadee UI", "Unifont"),
)
PACKAGE = "fonts-noto-cjk"
_warned = False


@contextlib.contextmanager
def chart_text() -> Iterator[None]:
    """Draw and save charts in it: `$` in a name is no formula, and letters come from whichever font has them.

    Letters that no font has are squares; the first time, one warning says so.
    """
    import matplotlib
    from matplotlib import font_manager

    installed = {font.name for font in font_manager.fontManager.ttflist}
    families = [*matplotlib.rcParams["font.family"], *(name for name in FALL_BACKS if name in installed)]
    with matplotlib.rc_context({"text.parse_math": False, "font.family": families}), _one_warning():
        yield


@functools.cache
def font_files() -> list[tuple[str, int, frozenset[int]]]:
    """File, place in it and known letters of each font that texts are drawn in, the first to ask first."""
    import matplotlib
    from matplotlib import font_manager
    from matplotlib.ft2font import FT2Font

    found = []
    defaults = [matplotlib.rcParams.get(f"font.{kind}", [kind]) for kind in matplotlib.rcParams["font.family"]]
    for family in (*itertools.chain(*defaults), *FALL_BACKS):
        with contextlib.suppress(ValueError):  # it is not installed
            path = font_manager.findfont(family, fallback_to_default=False)
            index = getattr(path, "face_index", 0)
            found.append((str(path), index, frozenset(FT2Font(path).get_charmap())))
    return found


@contextlib.contextmanager
def _one_warning() -> Iterator[None]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    squares = [each for each in caught if "missing from font" in str(each.message)]
    for each in caught:
        if each not in squares:
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
    if squares:
        warn_of_missing_letters()


def warn_of_missing_letters() -> None:
    """Say once that no installed font has the letters of a name."""
    global _warned
    if not _warned:
        _warned = True
        logger.warning(
            "letters of some names are squares in charts and numbers on images, for no installed font has them; fix: "
            "install a font of their script, e.g. apt install %s, and remove matplotlib's list of fonts: "
            "rm ~/.cache/matplotlib/fontlist*",
            PACKAGE,
        )
