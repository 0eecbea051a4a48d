"""A contact sheet of a threat library."""

from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np

from xray_lazy.data.augmentation.threat_library import SHEET, Threat, read_library
from xray_lazy.visualization.montage import contact_sheet, fit_into, with_title
from xray_lazy.visualization.prediction_images import write_image

COLUMNS, CELL, OUTLINE = 8, 180, (200, 0, 200)


def save_threat_sheet(folder: Path) -> Path:
    """Write `sheet.jpg` into a library's folder: a row of items of each class with their outlines."""
    by_class: dict[str, list[Threat]] = defaultdict(list)
    for threat in read_library(folder):
        by_class[threat.class_name].append(threat)
    cells = []
    for name, threats in sorted(by_class.items()):
        chosen = np.linspace(0, len(threats) - 1, min(COLUMNS, len(threats))).round().astype(int)
        row = [with_title(_cell(threats[place]), f"{name} {place + 1} of {len(threats)}", 9) for place in chosen]
        cells += row + [np.zeros_like(row[0])] * (COLUMNS - len(row))
    path = folder / SHEET
    write_image(path, contact_sheet(cells, columns=COLUMNS, cell_width=CELL))
    return path


def _cell(threat: Threat) -> np.ndarray:
    """An item on white, and its mask's outline beside it."""
    outlined = np.full_like(threat.transmission, 255)
    contours, _ = cv2.findContours(threat.bits.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(outlined, contours, -1, OUTLINE, max(1, max(threat.bits.shape) // CELL + 1))
    half = CELL // 2
    cell = np.full((CELL, CELL, 3), 255, np.uint8)
    for place, image in enumerate((threat.transmission, outlined)):
        fitted = fit_into(image, half - 4, CELL - 4)
        top, left = (CELL - fitted.shape[0]) // 2, place * half + (half - fitted.shape[1]) // 2
        cell[top : top + fitted.shape[0], left : left + fitted.shape[1]] = fitted
    return cell
