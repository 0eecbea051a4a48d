"""What a format's reader makes of one label file, and how it tells of faults."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from xray_lazy.errors import UserError

MOST_SHOWN = 20


@dataclass(frozen=True)
class Instance:
    """One object in a picture.

    Attributes:
        class_name: its class.
        box: [x, y, width, height] in pixels, or None where the mask tells it.
        mask: polygons [[x1, y1, x2, y2, ...], ...], an RLE, or None.
    """

    class_name: str
    box: list[float] | None = None
    mask: list[list[float]] | dict | None = None


@dataclass(frozen=True)
class Label:
    """One label file.

    Attributes:
        path: the file.
        instances: its instances, once the (width, height) of the picture is known.
        picture_name: which picture it says it is for, if it does.
        has_picture: whether the picture itself is inside the file.
    """

    path: Path
    instances: Callable[[tuple[int, int]], list[Instance]]
    picture_name: str | None = None
    has_picture: bool = False


@dataclass
class Reading:
    """What all label files of a conversion are read with.

    Attributes:
        classes: the names in their order where it is given, else None.
        zero_based: whether VOC's pixels are counted from 0, the far edges exclusive.
        faults: what is wrong, one line each.
        left_out: how many shapes of a kind that has no area were passed over.
    """

    classes: tuple[str, ...] | None = None
    zero_based: bool = False
    faults: list[str] = field(default_factory=list)
    left_out: Counter = field(default_factory=Counter)

    def fault(self, where: object, what: str) -> None:
        """Note that something in a file is wrong."""
        self.faults.append(f"{where}: {what}")

    def knows_class(self, where: object, name: str) -> bool:
        """Whether a class may be used; if not, the fault is noted."""
        if self.classes is None or name in self.classes:
            return True
        self.fault(where, f"class {name!r} is not among the given classes {', '.join(self.classes)}")
        return False

    def raise_faults(self) -> None:
        """End here if there are faults.

        Raises:
            UserError: all of them, up to a limit.
        """
        if self.faults:
            shown = self.faults[:MOST_SHOWN]
            more = len(self.faults) - len(shown)
            lines = [*shown, f"... and {more} more"] if more else shown
            count = "1 fault" if len(self.faults) == 1 else f"{len(self.faults)} faults"
            raise UserError(
                "\n  ".join([f"{count} in the labels", *lines]), "correct or delete these, then convert again"
            )
