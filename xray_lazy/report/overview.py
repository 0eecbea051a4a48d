"""The story in short: what was trained on what, how far it came, and what stands out."""

import re
from collections.abc import Sequence

from xray_lazy.errors import UserError
from xray_lazy.report.blocks import Block, Cell, Charts, Fact, Facts, Findings, Note, Table
from xray_lazy.report.curve_blocks import curve_blocks
from xray_lazy.report.data import recorded
from xray_lazy.report.image_blocks import typical_image
from xray_lazy.report.outcome import Outcome, common_metric, outcome_of, setting
from xray_lazy.report.readable_numbers import NOTHING, count, difference, duration, number, numeric, share, text, whole
from xray_lazy.report.result_blocks import summary_comparison
from xray_lazy.report.review import Reviews
from xray_lazy.report.run_files import RunFiles
from xray_lazy.report.settings import config_file_of

SLOW_DATA = 0.2  # of a step's time
STILL_RISING = 1.0  # points of AP in the last evaluation
HEADLINES = ("AP", "AP50", "AR100")
_MODEL_SIZE = re.compile(r"(\w+): ([\d.]+) M parameters")


def overview_blocks(runs: Sequence[RunFiles], reviews: Reviews) -> list[Block]:
    blocks = _of_one(runs[0], reviews) if len(runs) == 1 else _of_several(runs)
    for run in runs:
        blocks += [Note(problem, warning=True) for problem in run.problems]
    return [*blocks, *_main_charts(runs), *(typical_image(runs[0], reviews) if len(runs) == 1 else ())]


def headline(runs: Sequence[RunFiles]) -> str:
    """One sentence below the title."""
    if len(runs) > 1:
        return f"{len(runs)} runs side by side; the first, {runs[0].name}, is what the others are compared with."
    run, outcome = runs[0], outcome_of(runs[0])
    model, size = _model(run)
    file, details = (
        config_file_of(run),
        ", ".join(part for part in (model, f"{size} M parameters" if size else "") if part),
    )
    what = f"{file.stem} ({details})" if file and details else file.stem if file else model or "A model"
    on = recorded(run, "train").get("name") or setting(run, "dataloader", "train", "dataset", "names")
    on = on if isinstance(on, str) else None
    times = f"{outcome.done:,} iterations" if outcome.done else "no iteration yet"
    where = "; ".join(run.record.get("devices") or ())
    parts = [f"{what}, trained for {times}", f"on {on}" if on else "", f"with {where}" if where else ""]
    return " ".join(part for part in parts if part) + "."


def _of_one(run: RunFiles, reviews: Reviews) -> list[Block]:
    outcome = outcome_of(run)
    blocks: list[Block] = [Facts(_facts(run, outcome))]
    if outcome.state == "unfinished":
        planned = f" of {outcome.planned:,}" if outcome.planned else ""
        blocks.append(
            Note(
                f"The run is not finished: {outcome.done:,}{planned} iterations are done.",
                "--resume goes on with it",
                True,
            )
        )
    findings = _findings(run, outcome, reviews)
    return [*blocks, Findings("What stands out", findings)] if findings else blocks


def _facts(run: RunFiles, outcome: Outcome) -> list[Fact]:
    best = outcome.best
    facts = []
    if best:
        when = f"after {best.done:,} of {outcome.done:,} iterations"
        facts.append(Fact(f"best {_spoken(best.metric)}", number(best.value), when))
        at_best = run.scores[best.done - 1]
        task = best.metric.partition("/")[0]
        other = task.replace("segm", "bbox") if task.startswith("segm") else task.replace("bbox", "segm")
        for metric in (f"{task}/AP50", f"{other}/AP"):
            if at_best.get(metric) is not None:
                facts.append(Fact(_spoken(metric), number(at_best[metric]), "at the same time"))
    else:
        facts.append(Fact("AP", NOTHING, "no evaluation yet"))
    planned = f"of {outcome.planned:,}" if outcome.planned else ""
    facts.append(Fact("iterations", f"{outcome.done:,}", outcome.state if outcome.state != "unfinished" else planned))
    steps = f"{share(outcome.step_seconds, outcome.wall_seconds)} of it training steps" if outcome.wall_seconds else ""
    facts.append(Fact("duration", duration(outcome.wall_seconds or outcome.step_seconds), steps))
    facts += _data_facts(run)
    return facts


def _data_facts(run: RunFiles) -> list[Fact]:
    facts = []
    for part, label in (("train", "training images"), ("test", "evaluation images")):
        known = recorded(run, part)
        if known.get("pictures"):
            items = count(known.get("annotations"), "item")
            facts.append(
                Fact(
                    label,
                    f"{known['pictures']:,}",
                    f"{items}, {count(len(known.get('classes', ())), 'class', 'classes')}",
                )
            )
    if not facts and run.evaluations and run.evaluations[-1].images:
        facts.append(Fact("evaluation images", f"{run.evaluations[-1].images:,}", run.evaluations[-1].dataset))
    return facts


def _findings(run: RunFiles, outcome: Outcome, reviews: Reviews) -> list[str]:
    """What a reader should not miss."""
    return [*_rising(run, outcome), *_slow_data(outcome), *_weaknesses(run, reviews)]


def _rising(run: RunFiles, outcome: Outcome) -> list[str]:
    values = [scores[outcome.metric] for scores in run.scores.values() if scores.get(outcome.metric) is not None]
    if len(values) < 2 or outcome.best is None:
        return []
    gain = values[-1] - values[-2]
    if values[-1] == max(values) and gain >= STILL_RISING:
        return [
            f"The last evaluation is the best one, {gain:.1f} points above the one before: longer training may help."
        ]
    if values[-1] < max(values) - STILL_RISING:
        lost = max(values) - values[-1]
        return [f"{_spoken(outcome.metric)} fell by {lost:.1f} points after its best, which model_best.pth has."]
    return []


def _slow_data(outcome: Outcome) -> list[str]:
    if not outcome.step_seconds or (outcome.data_seconds or 0.0) < SLOW_DATA * outcome.step_seconds:
        return []
    part = share(outcome.data_seconds, outcome.step_seconds)
    return [f"Steps wait for data during {part} of their time: more dataloader.train.num_workers would make it faster."]


def _weaknesses(run: RunFiles, reviews: Reviews) -> list[str]:
    try:
        result = reviews[run].analysis.main
    except UserError:
        return []
    sentences = []
    present = sorted((c for c in result.classes if c.instances and c.ap == c.ap), key=lambda c: c.ap)
    if result.finds_nothing:
        sentences.append("Nothing is found yet: no detection is right at IoU 0.5. Train longer.")
    elif len(present) > 1:
        low, high = present[0], present[-1]
        sentences.append(
            f"The hardest class is {low.name} with an AP of {low.ap:.1f} ({count(low.instances, 'item')}), "
            f"the easiest {high.name} with {high.ap:.1f}."
        )
    worst = max(result.errors.kinds, key=lambda kind: kind.lost_ap, default=None)
    if worst and worst.lost_ap > 0:
        meaning = worst.meaning.rstrip(".")
        sentences.append(
            f"The most costly errors, with {worst.lost_ap:.1f} points of AP50, are of the kind: {meaning}."
        )
    return sentences


def _of_several(runs: Sequence[RunFiles]) -> list[Block]:
    metric = common_metric(runs)
    outcomes = [outcome_of(run, metric) for run in runs]
    base = outcomes[0]
    rows = []
    for run, outcome in zip(runs, outcomes, strict=True):
        best, size = outcome.best, _model(run)[1]
        state = outcome.state if outcome.state != "unfinished" else f"unfinished, of {count(outcome.planned)}"
        same_metric = base.best and best and best.metric == base.best.metric and run is not runs[0]
        rows.append(
            [
                text(run.name),
                numeric(best.value if best else None, 1, 100),
                difference(best.value, base.best.value) if same_metric else Cell("", tone="quiet"),
                text(_spoken(best.metric) if best else NOTHING),
                whole(best.done if best else None),
                whole(outcome.done),
                text(state),
                Cell(
                    duration(outcome.wall_seconds or outcome.step_seconds), outcome.wall_seconds or outcome.step_seconds
                ),
                numeric(float(size) if size else None),
            ]
        )
    columns = ["run", "best", "±", "metric", "at iteration", "iterations", "", "duration", "M parameters"]
    return [Table("Runs", columns, rows, sortable=True), summary_comparison(runs, HEADLINES)]


def _main_charts(runs: Sequence[RunFiles]) -> list[Block]:
    learning = next((block for block in curve_blocks(runs) if isinstance(block, Charts)), None)
    if learning is None:
        return []
    loss = [chart for chart in learning.charts if chart.title == "Loss"]
    first = "Box AP" if (common_metric(runs) or "").startswith("bbox") else "Mask AP"
    score = [chart for chart in learning.charts if chart.title in ("Mask AP", "Box AP")]
    score.sort(key=lambda chart: chart.title != first)
    return [Charts([*score[:1], *loss[:1]])] if score or loss else []


def _spoken(metric: str) -> str:
    """`segm_EMA/AP50` as `mask AP50 (EMA)`."""
    task, _, figure = metric.rpartition("/")
    base, _, suffix = task.partition("_")
    return f"{ {'segm': 'mask', 'bbox': 'box'}.get(base, base) } {figure}" + (f" ({suffix})" if suffix else "")


def _model(run: RunFiles) -> tuple[str, str]:
    """The model's class and its size in millions of parameters, as the log tells."""
    found = _MODEL_SIZE.search(run.log)
    target = setting(run, "model", "_target_")
    name = str(target).rpartition(".")[2] if target else ""
    return (found[1], found[2]) if found else (name, "")
