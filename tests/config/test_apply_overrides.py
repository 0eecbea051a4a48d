"""Overrides: Hydra's grammar, keys that must exist, values that must fit."""

import pwd
import shlex

import pytest
from omegaconf import OmegaConf

from xray_lazy.config import apply_overrides, flatten, load_config
from xray_lazy.config.override_grammar import parse_override
from xray_lazy.errors import UserError


def refused(config, *overrides) -> UserError:
    """The error that the overrides end in; the config must be untouched by them."""
    before = OmegaConf.to_container(config, resolve=False)
    with pytest.raises(UserError) as caught:
        apply_overrides(config, overrides)
    assert OmegaConf.to_container(config, resolve=False) == before
    return caught.value


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("train.max_iter=5", "train.max_iter", 5),
        ("train.max_iter=5e3", "train.max_iter", 5000),
        ("train.max_iter=1_000", "train.max_iter", 1000),
        ("optimizer.lr=1", "optimizer.lr", 1.0),
        ("optimizer.lr=1e-3", "optimizer.lr", 1e-3),
        ("train.amp.enabled=True", "train.amp.enabled", True),
        ("train.seed=7", "train.seed", 7),
        ("train.output_dir=out/a=b/c=d", "train.output_dir", "out/a=b/c=d"),
        ("train.output_dir='a, b'", "train.output_dir", "a, b"),
        ("train.output_dir=", "train.output_dir", ""),
        ("train.output_dir=null", "train.output_dir", None),
        ("train.output_dir=None", "train.output_dir", None),
        ("train.max_iter=${hooks.early_stopping.patience}", "train.max_iter", 5),
        ("dataloader.train.scanners=[smith,rapiscan]", "dataloader.train.scanners", ["smith", "rapiscan"]),
        ("dataloader.test.sizes=[[48], [0.5]]", "dataloader.test.sizes", [[48], [0.5]]),
        ("dataloader.train.scanners[0]=astrophysics", "dataloader.train.scanners", ["astrophysics"]),
        ("+dataloader.train.scanners.1=smith", "dataloader.train.scanners", ["smith", "smith"]),
        ("dataloader.test.sizes.1=[96]", "dataloader.test.sizes", [[32], [96]]),
        ("model.net.num_classes=5", "model.net.num_classes", 5),
        ("model.net._target_=a.b.Net", "model.net._target_", "a.b.Net"),
        ("model.activation=torch.nn.GELU", "model.activation", "torch.nn.GELU"),
        ("+hooks.ema.decay=0.999", "hooks.ema.decay", 0.999),
        ("++train.max_iter=many", "train.max_iter", "many"),
        ("++train.new=1", "train.new", 1),
    ],
)
def test_an_override_sets_the_value(tiny, override, key, value):
    found = flatten(apply_overrides(tiny, [override]))[key]
    assert found == value and type(found) is type(value)


def test_a_removed_key_is_gone(tiny):
    assert "early_stopping" not in apply_overrides(tiny, ["~hooks.early_stopping"]).hooks
    assert apply_overrides(tiny, ["~dataloader.train.scanners.0"]).dataloader.train.scanners == []


def test_a_group_is_replaced_as_a_whole(tiny):
    changed = apply_overrides(tiny, ["hooks={best: {metric: segm/AP}}"])
    assert changed.hooks == {"best": {"metric": "segm/AP"}}


def test_the_last_override_of_a_key_counts(tiny):
    assert apply_overrides(tiny, ["train.max_iter=5", "train.max_iter=6"]).train.max_iter == 6


def test_overrides_may_refer_to_keys_that_later_ones_add(tiny):
    assert apply_overrides(tiny, ["train.max_iter=${train.steps}", "+train.steps=8"]).train.max_iter == 8


def test_derived_values_follow_an_override(tiny):
    assert apply_overrides(tiny, ["model.num_classes=4"]).model.net.num_classes == 4


@pytest.mark.parametrize("value", ["xray_smith_val", "[a_val,b_val]", "{json_file: a.json, image_root: a}"])
@pytest.mark.parametrize("before", ["one", ["one", "two"], {"json_file": "one.json", "image_root": "."}])
def test_data_sets_may_be_one_or_several_whichever_was_there(value, before):
    cfg = OmegaConf.create({"test": {"dataset": {"names": before}}})
    assert (
        apply_overrides(cfg, [f"test.dataset.names={value}"]).test.dataset.names == parse_override(f"a={value}").value
    )
    for wrong in ("5", "[1,2]", "true"):
        with pytest.raises(UserError, match="doesn't fit"):
            apply_overrides(cfg, [f"test.dataset.names={wrong}"])


@pytest.mark.parametrize(
    ("override", "suggestion"),
    [
        ("train.max_itr=5", "train.max_iter"),
        ("max_iter=5", "train.max_iter"),
        ("cfg.train.max_iter=5", "train.max_iter"),
        ("train.outputdir=x", "train.output_dir"),
        ("~hooks.early_stoping", "hooks.early_stopping"),
        ("dataloader.train.flips=1", "dataloader.train.flip"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest(tiny, override, suggestion):
    error = refused(tiny, override)
    assert "there is no key" in error.message
    assert f"did you mean {suggestion}?" in error.fix


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.max_iter=abc", ["str", "int"]),
        ("train.max_iter=5.5", ["float", "int"]),
        ("train.max_iter=true", ["bool", "int"]),
        ("train.max_iter=null", ["null", "int"]),
        ("train.max_iter=[5]", ["list", "int"]),
        ("train.max_iter=${train.output_dir}", ["str", "int"]),
        ("optimizer.lr=fast", ["str", "float"]),
        ("train.amp.enabled=1", ["int", "bool", "true or false"]),
        ("train.amp.enabled=yes", ["str", "bool"]),
        ("train.output_dir=2024", ["int", "str", 'train.output_dir="2024"']),
        ("train.output_dir={a:1}", ["group", "str"]),
        ("dataloader.train.scanners=smith", ["str", "list", "[smith]"]),
        ("dataloader.train.scanners=[1]", ["int", "str"]),
        ("dataloader.test.sizes=[64]", ["int", "list"]),
        ("train.amp=true", ["group with keys enabled", "bool"]),
        ("train=5", ["group with keys output_dir, max_iter", "int"]),
        ("model.net={depth: 50}", ["_target_"]),
        ("model.net._target_=5", ["dotted name"]),
        ("model.activation=torch.nn.GLEU", ["torch.nn.GELU"]),
        ("train.max_iter=${train.max_itr}", ["train.max_itr", "train.max_iter"]),
    ],
)
def test_a_value_that_does_not_fit_is_refused(tiny, override, words):
    error = refused(tiny, override)
    assert all(word in str(error) for word in [override, *words]), str(error)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.max_iter", ["KEY=VALUE"]),
        ("=5", ["not a key"]),
        ("train max_iter=5", ["joined by dots"]),
        ("train/max_iter=5", ["joined by dots"]),
        ("train.max_iter@package=5", ["joined by dots"]),
        ("train.output_dir=/data/é", ["""'train.output_dir="/data/é"'"""]),
        ("train.output_dir='a", ["close each quote"]),
        ("train.max_iter=1,2", ["sweep", "tools/submit.py"]),
        ("train.max_iter=range(3)", ["sweep", "tools/submit.py"]),
        ("train.max_iter=choice(1,2)", ["sweep", "tools/submit.py"]),
        ("+train.max_iter=5", ["exists", "write train.max_iter=5"]),
        ("train.max_iter.x=5", ["not a group"]),
        ("dataloader.train.scanners.first=a", ["list of 1 item"]),
        ("dataloader.train.scanners.3=a", ["there is no key"]),
        ("+dataloader.train.scanners.3=a", ["the list has 1 item"]),
        ("~train.max_iter=5", ["is 60, not 5"]),
    ],
)
def test_what_cannot_be_read_or_done_is_explained(tiny, override, words):
    error = refused(tiny, override)
    assert all(word in str(error) for word in [override, *words]), str(error)


@pytest.mark.parametrize("prefix", ["", "+", "++"])
def test_a_key_behind_a_reference_names_the_key_to_set_instead(tiny, prefix):
    error = refused(tiny, f"{prefix}dataloader.evaluator.dataset.names=mine")
    assert "dataloader.evaluator.dataset is ${..test.dataset}" in error.message
    assert "set dataloader.test.dataset.names" in error.fix


def test_all_wrong_overrides_are_reported_together(tiny):
    message = refused(tiny, "train.max_itr=5", "optimizer.lr=0.1", "train.amp.enabled=1").message
    assert "2 overrides" in message and "train.max_itr" in message and "train.amp.enabled" in message


def test_a_path_in_the_home_folder_is_written_out_in_overrides_and_files(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    source = "train = dict(output_dir='~/run', log='${.output_dir}/log', other='a~/b')"
    (tmp_path / "experiment.py").write_text(source)
    config = load_config(tmp_path / "experiment.py")
    assert (config.train.output_dir, config.train.log) == (f"{tmp_path}/run", f"{tmp_path}/run/log")
    root = pwd.getpwnam("root").pw_dir
    for written, meant in (("~/second", f"{tmp_path}/second"), ("~", str(tmp_path)), ("~root/x", f"{root}/x")):
        changed = apply_overrides(config, [f"train.output_dir='{written}'"])
        assert (changed.train.output_dir, changed.train.other) == (meant, "a~/b")


def test_a_file_in_the_folder_of_nobody_is_not_there():
    with pytest.raises(UserError, match=r"there is no config file ~nobody_here/x\.py"):
        load_config("~nobody_here/x.py")


@pytest.mark.parametrize(
    ("value", "written"), [("~/x", "HOME/x"), ("~", "HOME"), ("[~/x,~/y]", "'train.freeze=[HOME/x,HOME/y]'")]
)
def test_a_home_folder_without_quotes_is_refused_with_what_to_write(tiny, monkeypatch, value, written):
    monkeypatch.setenv("HOME", "/home/anna")
    fix = refused(tiny, f"train.freeze={value}").fix
    assert written.replace("HOME", "/home/anna") in fix and "no shell" in fix


def test_a_number_that_is_taken_away_is_told_what_may_stand_there(tiny):
    assert refused(tiny, "train.max_iter=null").fix == (
        "write a whole number; ++train.max_iter=null where it may be left open"
    )


def test_the_override_that_sets_it_whatever_the_type_can_be_pasted_into_a_shell():
    config = OmegaConf.create({"names": "xray_smith_train"})
    fix = refused(config, "names={name: a, json_file: a.json}").fix
    assert shlex.split(fix)[0] == "++names={name: a, json_file: a.json}"
