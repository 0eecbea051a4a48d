"""Loading: files, packaged names, and what an author of a config file is told about errors."""

import builtins
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from detectron2.config import LazyConfig
from omegaconf import DictConfig

from xray_lazy.config import check_config, config_names, get_config, load_config
from xray_lazy.config import load as load_module
from xray_lazy.errors import UserError
from xray_lazy.sweeps.sweep_file import read_sweep

TINY = Path(__file__).parent / "experiments" / "tiny.py"


@pytest.fixture
def experiments(tmp_path):
    """A copy of the example experiments that a test may break."""
    return shutil.copytree(TINY.parent, tmp_path / "experiments", ignore=shutil.ignore_patterns("__pycache__"))


def test_only_config_objects_of_the_file_become_keys(tiny):
    assert set(tiny) == {"model", "dataloader", "optimizer", "train", "hooks"}


def test_a_file_may_import_other_config_files_relative_to_itself(tiny):
    assert tiny.train.output_dir == "output/tiny"
    assert tiny.train.max_iter == 60


def test_threads_load_config_files_one_after_the_other(monkeypatch):
    meeting = threading.Barrier(2, timeout=0.3)
    alone = []

    def load(path):
        try:
            meeting.wait()
        except threading.BrokenBarrierError:
            alone.append(path)
        return DictConfig({"train": {}})

    monkeypatch.setattr(LazyConfig, "load", load)
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(load_config, [TINY, TINY]))
    assert alone == [str(TINY)] * 2


def test_overrides_of_one_load_are_not_seen_by_the_next():
    load_config(TINY, ["train.amp.enabled=true", "dataloader.train.flip=0", "dataloader.train.scanners=[rapiscan]"])
    again = load_config(TINY)
    assert again.train.amp.enabled is False
    assert again.dataloader.train.flip == 0.25
    assert again.dataloader.train.scanners == ["smith"]


def test_a_node_of_an_importable_module_is_not_shared_between_loads(tmp_path, monkeypatch):
    (tmp_path / "house_nodes.py").write_text(
        "from omegaconf import OmegaConf\ntrain = OmegaConf.create({'steps': 1})\n"
    )
    (tmp_path / "experiment.py").write_text("from house_nodes import train\n")
    monkeypatch.syspath_prepend(tmp_path)
    load_config(tmp_path / "experiment.py").train.steps = 2
    assert load_config(tmp_path / "experiment.py").train.steps == 1


def test_a_missing_file_is_reported_with_the_near_ones_in_its_folder():
    with pytest.raises(UserError, match="there is no config file") as caught:
        load_config(TINY.with_name("tinny.py"))
    assert str(TINY) in caught.value.fix


def test_a_missing_folder_is_reported_with_the_place_of_the_packaged_configs(tmp_path):
    with pytest.raises(UserError, match="there is no config file") as caught:
        load_config(tmp_path / "nowhere" / "zzz.py")
    assert "configs" in caught.value.fix


def test_a_file_that_is_no_config_is_refused(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("x = 5\n")
    with pytest.raises(UserError, match="defines no config"):
        load_config(script)
    with pytest.raises(UserError, match="no config file"):
        load_config(tmp_path / "weights.pth")


def test_a_syntax_error_is_reported_with_file_and_line(experiments):
    (experiments / "common" / "train.py").write_text("train = dict(\n    max_iter=5,,\n)\n")
    with pytest.raises(UserError, match=r"common/train\.py has syntax error, line 2: .*max_iter=5,,"):
        load_config(experiments / "tiny.py")


def test_an_exception_is_reported_with_the_file_and_line_of_the_config(experiments):
    with (experiments / "common" / "train.py").open("a") as file:
        file.write("train['max_itr'] += 1\n")
    with pytest.raises(UserError, match=r"common/train\.py, line 4: KeyError: 'max_itr'"):
        load_config(experiments / "tiny.py")


def test_an_import_of_a_missing_config_file_is_reported_with_near_names(experiments):
    (experiments / "other.py").write_text("from .common.trian import train\n")
    with pytest.raises(UserError, match=r"other\.py, line 1: there is no config file .*trian\.py") as caught:
        load_config(experiments / "other.py")
    assert "train.py" in caught.value.fix


def test_an_import_of_a_package_that_is_not_there_is_reported_with_what_to_do(experiments):
    (experiments / "experiment.py").write_text("import nothere_mod\ntrain = dict(max_iter=1)\n")
    with pytest.raises(UserError, match="No module named 'nothere_mod'") as caught:
        load_config(experiments / "experiment.py")
    assert "install it, or put its folder on PYTHONPATH" in caught.value.fix


def test_an_environment_variable_that_is_not_set_is_reported_with_its_name(experiments):
    (experiments / "experiment.py").write_text("train = dict(folder='${oc.env:XRAY_NOT_SET}')\n")
    faults = check_config(load_config(experiments / "experiment.py"))
    assert [fault.fix for fault in faults if "XRAY_NOT_SET" in fault.fix]


def test_an_import_of_a_missing_node_is_reported_with_near_names(experiments):
    (experiments / "other.py").write_text("from .common.nodes import optimiser\n")
    with pytest.raises(UserError, match=r"other\.py, line 1: .*nodes\.py has no optimiser") as caught:
        load_config(experiments / "other.py")
    assert caught.value.fix == "did you mean optimizer?"


@pytest.mark.parametrize("code", ["0", "", "'bye'"])
def test_a_file_that_ends_python_is_an_error_whatever_its_code(experiments, code):
    with (experiments / "common" / "train.py").open("a") as file:
        file.write(f"raise SystemExit({code})\n")
    with pytest.raises(UserError, match=r"common/train\.py, line 4: SystemExit: "):
        load_config(experiments / "tiny.py")


def test_files_that_import_each_other_are_named(experiments):
    (experiments / "one.py").write_text("from .two import train\n")
    (experiments / "two.py").write_text("from .one import train\n")
    with pytest.raises(UserError, match=r"in a circle: .*one\.py -> .*two\.py -> .*one\.py\n") as caught:
        load_config(experiments / "one.py")
    assert "third file" in caught.value.fix


def test_a_file_with_a_null_byte_is_reported_without_a_line(experiments):
    (experiments / "other.py").write_bytes(b"x = 1\0\n")
    with pytest.raises(UserError, match=r"other\.py has syntax error: [^:]*null bytes\n"):
        load_config(experiments / "other.py")


def test_a_yaml_file_of_endless_depth_is_an_error(tmp_path):
    (tmp_path / "config.yaml").write_text("a: " + "[" * 5000 + "]" * 5000)
    with pytest.raises(UserError, match="deeper than any config"):
        load_config(tmp_path / "config.yaml")


def test_a_failed_load_leaves_imports_as_they_were(experiments):
    before = builtins.__import__
    (experiments / "other.py").write_text("raise RuntimeError('no')\n")
    with pytest.raises(UserError, match="RuntimeError: no"):
        load_config(experiments / "other.py")
    assert builtins.__import__ is before


def test_an_older_yacs_config_is_named_as_such(tmp_path):
    file = tmp_path / "mask_rcnn.yaml"
    file.write_text("_BASE_: ../Base-RCNN-FPN.yaml\nMODEL:\n  MASK_ON: true\n")
    with pytest.raises(UserError, match="yacs"):
        load_config(file)


def test_packaged_configs_are_found_by_name(experiments, monkeypatch):
    monkeypatch.setattr(load_module, "config_folder", lambda: experiments)
    assert config_names() == ["tiny.py"]
    config = get_config("tiny.py", ["train.max_iter=7"])
    assert isinstance(config, DictConfig) and config.train.max_iter == 7
    assert get_config("common/train.py").train.max_iter == 90
    with pytest.raises(UserError, match=r"no config tny\.py") as caught:
        get_config("tny.py")
    assert caught.value.fix == "did you mean tiny.py?"


def test_a_path_that_is_a_packaged_name_is_answered_with_its_place(experiments, monkeypatch):
    monkeypatch.setattr(load_module, "config_folder", lambda: experiments)
    monkeypatch.chdir(experiments.parent)
    with pytest.raises(UserError, match="there is no config file") as caught:
        load_config("tiny.py")
    assert caught.value.fix == "did you mean experiments/tiny.py?"


def test_importing_the_package_imports_nothing_heavy():
    heavy = "print([m for m in ('torch', 'omegaconf', 'hydra', 'detectron2', 'yaml') if m in sys.modules])"
    code = f"import sys, xray_lazy.config, xray_lazy.config.arguments; {heavy}"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_loading_a_saved_config_of_plain_values_needs_no_torch(tmp_path):
    (tmp_path / "config.yaml").write_text("train:\n  max_iter: 5\n")
    code = "import sys; from xray_lazy.config import load_config; c = load_config('config.yaml', ['train.max_iter=6'])"
    command = [sys.executable, "-c", f"{code}; print(c.train.max_iter, 'torch' in sys.modules)"]
    assert subprocess.run(command, capture_output=True, text=True, cwd=tmp_path).stdout.split() == ["6", "False"]


@pytest.mark.parametrize("read", [load_config, read_sweep])
def test_a_file_in_another_encoding_is_told_what_to_do(tmp_path, read):
    file = tmp_path / "own.yaml"
    file.write_bytes("name: café\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"own.yaml is not UTF-8 text") as caught:
        read(file)
    assert caught.value.fix == "save it as UTF-8"


@pytest.mark.parametrize("imported", [False, True])
@pytest.mark.parametrize(
    ("encoding", "message", "fix"),
    [
        ("latin-1", "is not UTF-8", "save it as UTF-8"),
        ("utf-16", "is not UTF-8", "save it as UTF-8"),
        ("utf-16-le", "null bytes|not UTF-8", "save it as UTF-8"),
        ("utf-8-sig", "syntax error, line 1", "byte order mark"),
    ],
)
def test_a_file_in_another_encoding_is_told_how_to_save_it(experiments, encoding, message, fix, imported):
    (experiments / "odd.py").write_bytes("train = dict(name='Gepäck')\n".encode(encoding))
    (experiments / "other.py").write_text("from .odd import train\n")
    with pytest.raises(UserError, match=rf"odd\.py .*({message})") as caught:
        load_config(experiments / ("other.py" if imported else "odd.py"))
    assert fix in caught.value.fix


def test_a_folder_is_no_missing_file(tmp_path):
    (tmp_path / "run.py").mkdir()
    with pytest.raises(UserError, match="is a folder") as caught:
        load_config(tmp_path / "run.py")
    assert "did you mean" not in caught.value.fix
    (tmp_path / "run.py" / "config.yaml").write_text("train: {max_iter: 1}\n")
    with pytest.raises(UserError, match="is a folder") as caught:
        load_config(tmp_path / "run.py")
    assert caught.value.fix == f"give {tmp_path}/run.py/config.yaml"
