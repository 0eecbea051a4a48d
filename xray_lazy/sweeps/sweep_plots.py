"""Figures of a sweep: how it went, what good trials have in common, which parameters matter, the learning curves."""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from xray_lazy.config.override_text import value_text
from xray_lazy.sweeps.axes import Axis, axes_of
from xray_lazy.sweeps.sweep_file import Metric, Sweep
from xray_lazy.sweeps.trials import Trial, best_trial

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from plotly.graph_objects import Figure

# Readable on white and on black. Orange is the best, in all figures.
QUIET, FINISHED, BEST = "#8c9bab", "#3b8bd9", "#f0701a"
SCALE = [[0.0, QUIET], [0.6, FINISHED], [1.0, BEST]]
HEIGHT, FONT = 380, "system-ui, sans-serif"
SLICES_PER_ROW = 4
LOG_FROM = 8
# With fewer trials the importances are those of chance.
FEWEST_FOR_IMPORTANCES = 8


def draw_history(metric: Metric, trials: Sequence[Trial]) -> "Figure":
    """The value of each trial in the order of their starts, and the best so far."""
    from plotly.graph_objects import Figure, Scatter

    finished, pruned = _with_value(trials), [t for t in trials if t.state == "pruned" and t.intermediate_values]
    so_far, best = [], None
    for trial in finished:
        best = trial.value if best is None or metric.is_better(trial.value, best) else best
        so_far.append(best)
    numbers = [trial.number for trial in finished]
    last = trials[-1].number
    line = Scatter(
        x=[*numbers, last], y=[*so_far, best], name="best so far", mode="lines", line={"shape": "hv", "color": BEST}
    )
    dots = Scatter(x=numbers, y=[trial.value for trial in finished], name="finished", mode="markers")
    dots.update(marker=_marker(metric, finished))
    stopped = Scatter(
        x=[trial.number for trial in pruned],
        y=[_last(trial) for trial in pruned],
        name="pruned, last value",
        mode="markers",
        marker={"color": QUIET, "size": 9, "symbol": "circle-open"},
    )
    dots.update(text=_hover_texts(finished), hoverinfo="text+y")
    stopped.update(text=_hover_texts(pruned), hoverinfo="text+y")
    figure = Figure([line, dots, *([stopped] if pruned else [])])
    figure.update_xaxes(title="trial", range=[-0.5, last + 0.5], dtick=1 if last < 20 else None)
    figure.update_yaxes(title=metric.name)
    return _laid_out(figure)


def draw_parallel_coordinates(sweep: Sweep, trials: Sequence[Trial]) -> "Figure":
    """One line per finished trial through the values of its parameters to that of the metric."""
    from plotly.graph_objects import Figure, Parcoords

    finished = _with_value(trials)
    dimensions = [_dimension(axis, finished) for axis in axes_of(sweep.varied, finished)]
    values = [trial.value for trial in finished]
    dimensions.append({"label": sweep.metric.name, "values": values})
    line = {"color": values, "colorscale": SCALE, "reversescale": sweep.metric.goal == "minimize"}
    figure = Figure(Parcoords(dimensions=dimensions, line=line, unselected={"line": {"opacity": 0.08}}))
    figure.update_traces(labelfont_size=13, tickfont_size=12, rangefont_size=12)
    return _laid_out(figure, margin={"l": 80, "r": 80, "t": 80, "b": 40})


def draw_slices(sweep: Sweep, trials: Sequence[Trial]) -> "Figure":
    """The metric over each parameter by itself, one panel each."""
    from plotly.graph_objects import Scatter
    from plotly.subplots import make_subplots

    finished = _with_value(trials)
    axes = axes_of(sweep.varied, finished)
    columns = min(len(axes), SLICES_PER_ROW)
    rows = -(-len(axes) // columns)
    figure = make_subplots(rows=rows, cols=columns, shared_yaxes=True, vertical_spacing=0.3 / rows)
    for number, axis in enumerate(axes):
        row, column = number // columns + 1, number % columns + 1
        places = [axis.place(trial.parameters[axis.key]) for trial in finished]
        dots = Scatter(x=places, y=[t.value for t in finished], mode="markers")
        dots.update(
            marker=_marker(sweep.metric, finished), text=_hover_texts(finished), hoverinfo="text+y", showlegend=False
        )
        figure.add_trace(dots, row, column)
        figure.update_xaxes(_scale(axis), title=axis.name, row=row, col=column)
        figure.update_yaxes(title=sweep.metric.name if column == 1 else None, row=row, col=column)
    return _laid_out(figure, height=60 + 260 * rows)


def draw_importances(sweep: Sweep, trials: Sequence[Trial]) -> "Figure":
    """How much of the difference between good and other trials each parameter makes (PED-ANOVA, shares of 1).

    `can_tell_importances` says whether there are trials enough.
    """
    from plotly.graph_objects import Bar, Figure

    shares = sorted(_importances(sweep, _with_value(trials)).items(), key=lambda item: item[1])
    names, values = [name for name, _ in shares], [share for _, share in shares]
    texts = [f"{share:.2f}" for share in values]
    bars = Bar(x=values, y=names, text=texts, orientation="h", textposition="outside", cliponaxis=False)
    figure = Figure(bars.update(marker={"color": FINISHED}, hoverinfo="skip"))
    figure.update_xaxes(title="share of the difference", range=[0, 1])
    return _laid_out(figure, height=110 + 40 * len(names), bargap=0.4)


def can_tell_importances(sweep: Sweep, trials: Sequence[Trial]) -> bool:
    """Whether there are enough finished trials, with different values, and more than one parameter."""
    values = [trial.value for trial in _with_value(trials)]
    return len(values) >= FEWEST_FOR_IMPORTANCES and len(set(values)) > 1 and len(sweep.varied) > 1


def draw_learning_curves(metric: Metric, trials: Sequence[Trial]) -> "Figure":
    """The metric over the iterations of each trial; the best trial is orange, pruned ones end early."""
    from plotly.graph_objects import Figure, Scatter

    best = best_trial(metric, trials)
    figure = Figure()
    for trial in sorted(with_curve(trials), key=lambda trial: trial is best):
        color = BEST if trial is best else QUIET if trial.state == "pruned" else FINISHED
        curve = Scatter(
            x=[iteration + 1 for iteration in trial.intermediate_values],
            y=list(trial.intermediate_values.values()),
            name=f"{trial.number} {trial.state}",
            mode="lines+markers",
            line={"color": color, "width": 3 if trial is best else 1.5},
            opacity=1.0 if trial is best else 0.7,
        )
        figure.add_trace(
            curve.update(marker={"size": 5}, text=_hover_text(trial), hoverinfo="text+y", showlegend=False)
        )
    figure.update_xaxes(title="iterations")
    figure.update_yaxes(title=metric.name, type="log" if _spreads(metric, trials) else "linear")
    return _laid_out(figure)


def with_curve(trials: Sequence[Trial]) -> list[Trial]:
    """The trials with more than one value of the metric."""
    return [trial for trial in trials if len(trial.intermediate_values) > 1]


def _with_value(trials: Sequence[Trial]) -> list[Trial]:
    return [trial for trial in trials if trial.state == "finished" and trial.value is not None]


def _spreads(metric: Metric, trials: Sequence[Trial]) -> bool:
    """Whether what is to be small was so large at times that small differences wouldn't show."""
    values = [value for trial in trials for value in trial.intermediate_values.values()]
    return metric.goal == "minimize" and min(values) > 0 and max(values) > LOG_FROM * min(values)


def _marker(metric: Metric, finished: Sequence[Trial]) -> dict:
    best = best_trial(metric, finished)
    return {"color": [BEST if trial is best else FINISHED for trial in finished], "size": 9}


def _last(trial: Trial) -> float:
    return trial.intermediate_values[max(trial.intermediate_values)]


def _laid_out(figure: "Figure", **layout) -> "Figure":
    default = {"height": HEIGHT, "margin": {"l": 70, "r": 30, "t": 30, "b": 55}}
    legend = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}
    return figure.update_layout({**default, "legend": legend, **layout}, font={"size": 13, "family": FONT})


def _dimension(axis: Axis, trials: Sequence[Trial]) -> dict:
    places = [axis.place(trial.parameters[axis.key]) for trial in trials]
    return {"label": axis.name, "values": places, "range": axis.span, **(axis.ticks() or {})}


def _scale(axis: Axis) -> dict:
    """The whole range of the search and some air, so that a best value at its edge shows."""
    low, high = axis.span
    air = 0.5 if axis.categories is not None else 0.06 * (high - low) or 0.5
    return {"range": [low - air, high + air], **(axis.ticks() or {})}


def _hover_texts(trials: Sequence[Trial]) -> list[str]:
    return [_hover_text(trial) for trial in trials]


def _hover_text(trial: Trial) -> str:
    """plotly reads this as HTML of its own kind, in which only `<` has a meaning."""
    lines = [f"trial {trial.number}", *(f"{key}={value_text(value)}" for key, value in trial.parameters.items())]
    return "<br>".join(line.replace("<", "&lt;") for line in lines)


def _importances(sweep: Sweep, trials: Sequence[Trial]) -> dict[str, float]:
    """By short name, from a study that Optuna holds in memory."""
    import optuna

    axes = axes_of(sweep.varied, trials)
    distributions = {axis.name: _distribution(axis) for axis in axes}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction=sweep.metric.goal)
    for trial in trials:
        places = {axis.name: axis.place(trial.parameters[axis.key]) for axis in axes}
        study.add_trial(optuna.trial.create_trial(value=trial.value, params=places, distributions=distributions))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        return optuna.importance.get_param_importances(study, evaluator=evaluator)


def _distribution(axis: Axis) -> "BaseDistribution":
    """Optuna's distribution of the places on an axis."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if axis.categories is not None:
        return CategoricalDistribution(tuple(map(float, range(len(axis.categories)))))
    return FloatDistribution(*axis.span)
