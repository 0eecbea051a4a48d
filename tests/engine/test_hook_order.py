"""In which order a config's hooks are called."""

from tests.engine.conftest import CONFIG
from xray_lazy.config import load_config
from xray_lazy.engine.experiment import build_hooks


def test_a_hook_that_the_command_line_adds_comes_before_the_checkpoint_that_saves_its_state():
    added = "+hooks.best_box={_target_: xray_lazy.engine.hooks.best_checkpoint.BestCheckpoint, metric: bbox/AP}"
    cfg = load_config(CONFIG, [added])
    names = list(build_hooks(cfg))
    assert names[-3:] == ["best_box", "write_events", "checkpoint"]
    assert set(names) == set(cfg.hooks)
