"""In which order a config's hooks are called."""

from detectron2.engine.train_loop import HookBase

from tests.engine.conftest import CONFIG
from xray_lazy.config import flatten, get_config, load_config, to_yaml
from xray_lazy.engine.hook_order import build_hooks, put_in_order


def test_a_hook_that_the_command_line_adds_comes_before_the_checkpoint_that_saves_its_state():
    added = "+hooks.best_box={_target_: xray_lazy.engine.hooks.best_checkpoint.BestCheckpoint, metric: bbox/AP}"
    cfg = load_config(CONFIG, [added])
    assert list(cfg.hooks)[-1] == "best_box"
    before, names = flatten(cfg), list(build_hooks(cfg))
    assert names[-3:] == ["best_box", "write_events", "checkpoint"]
    put_in_order(cfg)
    assert list(cfg.hooks) == names and flatten(cfg) == before


def test_an_evaluation_that_is_added_comes_before_what_judges_its_metrics():
    evaluation = "{_target_: xray_lazy.engine.hooks.evaluation.Evaluation, period: 2}"
    average = "{_target_: xray_lazy.engine.hooks.ema.ExponentialMovingAverage, decay: 0.9}"
    added = ["~hooks.evaluation", "~hooks.ema", f"+hooks.mine={evaluation}", f"+hooks.average={average}"]
    cfg = load_config(CONFIG, added)
    names = list(build_hooks(cfg))
    assert names.index("average") < names.index("mine") < names.index("best_checkpoint")
    put_in_order(cfg)
    assert [name for name in cfg.hooks if cfg.hooks[name] is not None] == names


def test_the_config_has_its_hooks_in_the_order_in_which_they_are_called():
    cfg = get_config("common/hooks.py")
    names = list(cfg.hooks)
    put_in_order(cfg)
    assert list(cfg.hooks) == names


def test_one_that_is_left_out_or_refers_to_another_stays_so():
    cfg = load_config(
        CONFIG,
        [
            "hooks.report=null",
            "+hooks.other=${hooks.best_checkpoint}",
            "+hooks.mine={_target_: tests.engine.test_hook_order.made}",
        ],
    )
    put_in_order(cfg)
    judges = ["best_checkpoint", "early_stopping", "other"]
    assert list(cfg.hooks)[-6:] == ["mine", *judges, "write_events", "checkpoint"]
    assert cfg.hooks.report is None and "${hooks.best_checkpoint}" in to_yaml(cfg, references=True)


def test_what_judges_metrics_comes_after_any_hook_that_may_give_one():
    cfg = load_config(CONFIG, ["+hooks.mine={_target_: tests.engine.test_hook_order.made}"])
    names = list(build_hooks(cfg))
    assert names[-5:] == ["mine", "best_checkpoint", "early_stopping", "write_events", "checkpoint"]


def made():
    """A function that makes a hook."""
    return HookBase()
