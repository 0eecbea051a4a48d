"""A sweep of quick trainings, here or by workers that are processes of their own."""

import multiprocessing
import sys
from pathlib import Path

from omegaconf import OmegaConf

from xray_lazy.sweeps.local_launcher import LocalLauncher
from xray_lazy.sweeps.runner import SweepRunner
from xray_lazy.sweeps.study import SweepStudy
from xray_lazy.sweeps.sweep_console import SweepConsole
from xray_lazy.sweeps.sweep_file import parse_sweep
from xray_lazy.sweeps.trial_metric import MetricSource
from xray_lazy.sweeps.workers import Worker

TRAINING = Path(__file__).with_name("quick_training.py")


class QuickCommand:
    """The command of a quick training."""

    def of(self, parameters, folder):
        words = [f"{key}={value}" for key, value in {**parameters, "train.output_dir": folder}.items()]
        return [sys.executable, str(TRAINING), *words]


def make_sweep(method="random", **changes):
    document = {"method": method, "metric": {"name": "total_loss"}, "parameters": {"loss": {"min": 1.0, "max": 9.0}}}
    return parse_sweep(document | changes, "quick")


def run_quick(folder, sweep, limit, places=({},), launcher=None):
    """Run trials as one worker; returns the signal that ended it, if any."""
    folder.mkdir(exist_ok=True)
    worker = Worker(folder)
    try:
        with SweepConsole(sweep) as console:
            study = SweepStudy(folder, sweep, worker)
            metric = MetricSource(sweep.metric, OmegaConf.create({"writers": {}}))
            launcher = launcher or LocalLauncher(places)
            return SweepRunner(study, worker, launcher, QuickCommand(), metric, console).run(limit)
    finally:
        worker.close()


def start_worker(folder, sweep, limit, parallel=1):
    """`run_quick` as a process of its own, which prints into `<folder>.txt`."""
    process = multiprocessing.get_context("fork").Process(target=_work, args=(folder, sweep, limit, parallel))
    process.start()
    return process


def _work(folder, sweep, limit, parallel):
    sys.stdout = sys.stderr = open(f"{folder}.txt", "a", buffering=1)  # noqa: SIM115
    ended_by = run_quick(folder, sweep, limit, [{}] * parallel)
    sys.exit(128 + ended_by if ended_by else 0)
