"""Text on images: OpenCV's own letters, and for names in other scripts those of an installed font."""

import functools
import re

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from xray_lazy.utils.wording import printable
from xray_lazy.visualization.chart_text import font_files, warn_of_missing_letters

FONT = cv2.FONT_HERSHEY_SIMPLEX


def text_size(text: str, text_height: int) -> tuple[int, int, int]:
    """Width, height above the baseline and depth below it, in pixels."""
    text = printable(text)
    if (font := _font_for(text, text_height)) is None:
        (width, height), depth = cv2.getTextSize(_readable(text), FONT, _scale(text_height), _stroke(text_height))
        return width, height, depth
    _, top, right, bottom = font.getbbox(text, anchor="ls")
    return max(1, round(right)), max(1, round(-top)), max(0, round(bottom))


def draw_text(canvas: np.ndarray, text: str, baseline: tuple[int, int], ink: tuple, text_height: int) -> None:
    """Draw a text on a BGR image, its baseline beginning at `baseline` (x, y)."""
    text = printable(text)
    if (font := _font_for(text, text_height)) is None:
        scale, stroke = _scale(text_height), _stroke(text_height)
        cv2.putText(canvas, _readable(text), baseline, FONT, scale, ink, stroke, cv2.LINE_AA)
        return
    # only the strip that the text covers goes through Pillow
    width, height, depth = text_size(text, text_height)
    x, y = baseline
    top, bottom, left, right = y - height, y + depth + 1, x, x + width + 1
    top, left = max(0, top), max(0, left)
    strip = canvas[top:bottom, left:right]
    if strip.size:
        image = Image.fromarray(np.ascontiguousarray(strip))
        ImageDraw.Draw(image).text((x - left, y - top), text, fill=tuple(ink), font=font, anchor="ls")
        strip[:] = np.asarray(image)


def _font_for(text: str, text_height: int) -> ImageFont.FreeTypeFont | None:
    """A font that has all letters of a text; None for ASCII, and where no installed one has them."""
    if text.isascii():
        return None
    letters = frozenset(ord(letter) for letter in text if not letter.isspace())
    for file, index, known in font_files():
        if letters <= known:
            return _sized(file, index, text_height)
    warn_of_missing_letters()
    return None


@functools.lru_cache(maxsize=64)
def _sized(file: str, index: int, text_height: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(file, max(6, round(1.35 * text_height)), index=index)


def _readable(text: str) -> str:
    """What OpenCV draws in any of its versions: other letters are their numbers, such as `U+67AA`."""
    return re.sub(r"[^\x00-\x7f]", lambda letter: f"U+{ord(letter[0]):04X} ", text).rstrip()


def _scale(text_height: int) -> float:
    return cv2.getFontScaleFromHeight(FONT, text_height, _stroke(text_height))


def _stroke(text_height: int) -> int:
    return max(1, round(text_height / 12))
