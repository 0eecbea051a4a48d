"""The learning-rate range test: train with a rate that grows at each step, and look at the loss."""

import copy
import csv
import io
import logging
import math
from dataclasses import dataclass, field
from pathlib import Path

from detectron2.engine.train_loop import HookBase
from omegaconf import DictConfig

from xray_lazy.engine.experiment import build_model, build_trainer, load_initial_weights
from xray_lazy.errors import RunFailure, UserError
from xray_lazy.utils.atomic_file import atomic_writer, write_text

SMOOTHING = 0.9  # of the running mean: the loss of a batch is mostly noise
EXPLOSION = 4.0  # times the lowest loss, and nothing more will be learnt
LEAST_RATES = 20  # twice the length of the running mean: with fewer its lowest place is chance
SAFETY = 10.0  # below the rate of the lowest loss, where training is at its edge

logger = logging.getLogger(__name__)


@dataclass
class RangeTest:
    """Rates, as `optimizer.lr` would give them, and the total loss of the step with each; `smoothed` is its mean."""

    rates: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    smoothed: list[float] = field(default_factory=list)

    def add(self, rate: float, loss: float) -> None:
        """Take in one step; the running mean is corrected for its start at 0, as Adam's."""
        n = len(self.losses)
        before = self.smoothed[-1] * (1 - SMOOTHING**n) if n else 0.0
        self.rates.append(rate)
        self.losses.append(loss)
        self.smoothed.append((SMOOTHING * before + (1 - SMOOTHING) * loss) / (1 - SMOOTHING ** (n + 1)))

    @property
    def exploded(self) -> bool:
        """Whether the loss has grown beyond what a higher rate could mend."""
        return not math.isfinite(self.losses[-1]) or self.smoothed[-1] > EXPLOSION * min(self.smoothed)

    @property
    def suggestion(self) -> float | None:
        """A tenth of the rate with the lowest smoothed loss; None where the loss never fell, or of too few rates."""
        if len(self.rates) < LEAST_RATES:
            return None
        lowest = self.smoothed.index(min(self.smoothed))
        return self.rates[lowest] / SAFETY if self.smoothed[lowest] < self.smoothed[0] else None


def run_range_test(
    cfg: DictConfig, device: str, lowest: float = 1e-6, highest: float = 1.0, iterations: int = 100
) -> RangeTest:
    """Train the config's model for some iterations, each with a higher rate; nothing is kept of it.

    After Smith, "Cyclical Learning Rates for Training Neural Networks", WACV 2017, section 3.3, with rates that grow
    exponentially. Weights, data, optimizer, clipping and the parts' own factors of the rate are the config's. It ends
    early where the loss explodes or is not finite.

    Args:
        cfg: the checked config.
        device: "cuda" or "cpu".
        lowest, highest: rates, in terms of `optimizer.lr`.
        iterations: of the whole test.

    Raises:
        UserError: the rates are no range, or there are fewer than 2 iterations; or what loading weights may raise.
        RunFailure: not one step had a loss.
    """
    if not (0 < lowest < highest and iterations > 1):
        message = f"{iterations} rates from {lowest:g} to {highest:g} are no range"
        raise UserError(message, "give 2 or more, and 0 < lowest < highest")
    if not cfg.optimizer.lr:
        raise UserError("optimizer.lr is 0, which parts' own rates are told by", "set it to any number above 0")
    cfg = copy.deepcopy(cfg)
    cfg.hooks, cfg.writers = {}, {}
    model = build_model(cfg, device)
    trainer = build_trainer(cfg, model, device)
    load_initial_weights(cfg, trainer.checkpointer)
    sweep = _GrowingRate(lowest, highest, cfg.optimizer.lr)
    trainer.register_hooks([sweep])
    try:
        trainer.train(0, iterations)
    except RunFailure as failure:
        if not sweep.result.rates:
            raise
        logger.info("ended by a loss or gradient that is not finite (%s)", failure.message.split(" with ")[0])
    return sweep.result


def save_range_test(result: RangeTest, folder: Path) -> list[Path]:
    """Write `learning_rate.csv` and the plot `learning_rate.png`; returns their paths."""
    table, plot = folder / "learning_rate.csv", folder / "learning_rate.png"
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["learning_rate", "loss", "smoothed_loss"])
    writer.writerows(zip(result.rates, result.losses, result.smoothed, strict=True))
    write_text(table, text.getvalue())
    with atomic_writer(plot) as stream:
        _draw(result).savefig(stream, format="png", dpi=120)
    return [table, plot]


class _GrowingRate(HookBase):
    """Rates from lowest to highest over the run, and the loss with each."""

    def __init__(self, lowest: float, highest: float, configured: float):
        self.lowest, self.highest, self.configured = lowest, highest, configured
        self.result = RangeTest()

    def before_train(self) -> None:
        # a group's factor: that of its part, and that of train.scale_lr
        groups = self.trainer.optimizer.param_groups
        self._factors = [group["lr"] / self.configured for group in groups]

    def before_step(self) -> None:
        progress = self.trainer.iter / (self.trainer.max_iter - 1)
        self._rate = self.lowest * (self.highest / self.lowest) ** progress
        for group, factor in zip(self.trainer.optimizer.param_groups, self._factors, strict=True):
            group["lr"] = self._rate * factor

    def after_step(self) -> None:
        self.result.add(self._rate, self.trainer.last_losses["total_loss"])
        done, total = self.trainer.iterations_done, self.trainer.max_iter
        if done % max(total // 10, 1) == 0:
            logger.info("[%d/%d]  rate %.2e  loss %.4g", done, total, self._rate, self.result.smoothed[-1])
        if self.result.exploded:
            self.trainer.request_stop(f"the loss exploded at a rate of {self._rate:.2e}")


def _draw(result: RangeTest):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot(
        xscale="log", xlabel="learning rate (optimizer.lr)", ylabel="total loss", title="Learning-rate range test"
    )
    axes.plot(result.rates, result.losses, color="0.8", label="of a batch")
    axes.plot(result.rates, result.smoothed, color="tab:blue", label="running mean")
    finite = [loss for loss in result.losses if math.isfinite(loss)]
    axes.set_ylim(0, 1.1 * min(max(finite), EXPLOSION * min(result.smoothed)))
    if result.suggestion:
        axes.axvline(result.suggestion, color="tab:orange", linestyle="--", label=f"suggestion {result.suggestion:.2g}")
    axes.legend()
    return figure
