"""The few sentences of an analysis that tell where to look first."""

import math
from collections.abc import Iterator, Sequence

from xray_lazy.analysis.analysis_plots import shown_threshold
from xray_lazy.analysis.results import Analysis, ClassResult, Group, TaskResult
from xray_lazy.utils.wording import counted

# Fewer items than this say nothing of a class or a group.
LEAST_ITEMS = 5
# Fewer detections than this say nothing of their scores.
LEAST_SCORES = 20
# Times the calibration error that well calibrated scores have by chance: few lie beyond it.
BEYOND_CHANCE = 2.5


def findings(analysis: Analysis) -> list[str]:
    """Sentences, the most costly matter first; empty where there is nothing to tell."""
    result = analysis.main
    found = [*_nothing(result), *_errors(result), *_weakest_class(result), *_confusion(result)]
    found += [*_weakest_group("size", result.by_size), *_weakest_group("scanner", result.by_scanner)]
    found += [*_weakest_group("overlap by other items", result.by_occlusion), *_scores(result)]
    found += _uncounted(result, analysis.max_detections)
    if result.label_suspects:
        found.append(f"sure detections that contradict the labels: {len(result.label_suspects)}; see label_suspects")
    if 2 * analysis.images_without_detections > analysis.images:
        found.append(
            f"{analysis.images_without_detections} of {counted(analysis.images, 'image')} without a detection: "
            "are these the detections of the whole data set?"
        )
    return found


def most_frequent_error(one: ClassResult) -> str:
    """The kind of error that a class has most of at the score threshold, such as `Loc 20`; `-` for none."""
    name = max(one.errors_shown, key=one.errors_shown.get)
    return f"{name} {one.errors_shown[name]}" if one.errors_shown[name] else "-"


def most_confused(result: TaskResult, place: int) -> tuple[str, int] | None:
    """The class that items of the class at `place` are most often taken for, and how many; None where they are not."""
    row = list(result.confusion.counts[place][:-1])
    row[place] = 0
    other = max(range(len(row)), key=row.__getitem__)
    return (result.confusion.names[other], row[other]) if row[other] else None


def _nothing(result: TaskResult) -> Iterator[str]:
    if result.finds_nothing:
        yield "nothing is found yet: no detection of any score is right at IoU 0.5; train longer"


def _uncounted(result: TaskResult, limit: int) -> Iterator[str]:
    if number := result.uncounted:
        yield (
            f"{counted(number, 'detection')} beyond the {limit} best of a class on an image "
            f"{'is' if number == 1 else 'are'} not counted, and items that only they show are missed: "
            "count more with --max-detections"
        )


def _errors(result: TaskResult) -> Iterator[str]:
    kinds = [kind for kind in result.errors.kinds if kind.lost_ap > 0]
    if kinds:
        worst = max(kinds, key=lambda kind: kind.lost_ap)
        classes = [one for one in result.classes if one.errors_shown[worst.name]]
        most = max(classes, key=lambda one: one.errors_shown[worst.name], default=None)
        of_class = f", most often with {most.name}" if most and len(result.classes) > 1 else ""
        yield f"{worst.name} ({worst.meaning}) costs most: {worst.lost_ap:.1f} points of AP50{of_class}"


def _weakest_class(result: TaskResult) -> Iterator[str]:
    classes = [one for one in result.classes if one.instances >= LEAST_ITEMS]
    if len(classes) > 1 and not result.finds_nothing:
        worst = min(classes, key=lambda one: one.ap)
        yield f"{worst.name} has the lowest AP: {worst.ap:.1f} on {counted(worst.instances, 'item')}"


def _confusion(result: TaskResult) -> Iterator[str]:
    pairs = [(place, most_confused(result, place)) for place in range(len(result.classes))]
    pairs = [(place, *other) for place, other in pairs if other]
    if pairs:
        place, other, count = max(pairs, key=lambda pair: pair[2])
        total = sum(result.confusion.counts[place])
        yield f"{result.classes[place].name} is taken for {other} in {count} of {total} cases"


def _weakest_group(of_what: str, groups: Sequence[Group]) -> Iterator[str]:
    groups = [group for group in groups if group.instances >= LEAST_ITEMS and not math.isnan(group.found)]
    if len(groups) > 1:
        best, worst = (choose(groups, key=lambda group: group.found) for choose in (max, min))
        if best.found - worst.found > 0.1:
            items = counted(worst.instances, "item is", "items are")
            yield (f"{of_what} {worst.name}: {worst.found:.0%} of {items} found; {best.name}: {best.found:.0%}")


def _scores(result: TaskResult) -> Iterator[str]:
    bins = [one for one in result.calibration.bins if one.count]
    ece = result.calibration.ece
    total = sum(one.count for one in bins)
    if total >= LEAST_SCORES and ece > 0.05 + BEYOND_CHANCE * result.calibration.ece_by_chance:
        excess = sum(one.count * (one.mean_score - one.share_right) for one in bins) / total
        if abs(excess) > ece / 2:
            direction = "higher" if excess > 0 else "lower"
            yield f"scores are {abs(excess):.2f} {direction} than the share that is right (ECE {ece:.2f})"
        else:
            yield f"scores are higher than the share that is right in some ranges and lower in others (ECE {ece:.2f})"
    if result.curve.best_f1 > 0:
        yield (
            f"the best score threshold for all classes is {shown_threshold(result.curve.best_threshold)} "
            f"(F1 {result.curve.best_f1:.2f})"
        )
