"""How a tool ends: its exit code, and what a person reads."""

import argparse
import ast
import contextlib
import errno
import os
import pickle
import pwd
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.patience import PATIENCE
from xray_lazy.command_line import is_override, parse_size, path, real, run_tool, whole
from xray_lazy.config.arguments import parse_with_overrides
from xray_lazy.errors import EXIT_FAILURE, RunFailure, UserError
from xray_lazy.utils import interruption
from xray_lazy.utils.atomic_file import write_text


@pytest.fixture(autouse=True)
def own_path(monkeypatch):
    """A tool adds the present folder."""
    monkeypatch.setattr(sys, "path", list(sys.path))


def opened(path):
    """A tool that writes there."""
    return lambda: write_text(path, "")


def raising(error):
    def main():
        raise error

    return main


def end_of(main, **options):
    with pytest.raises(SystemExit) as end:
        run_tool(main, **options)
    return end.value.code


@pytest.mark.parametrize(("answer", "code"), [(None, 0), (0, 0), (1, 1)])
def test_a_tool_that_does_its_work_gives_its_own_code(answer, code):
    assert end_of(lambda: answer) == code


def no_temporary_folder():
    """What `tempfile` raises where it can write nowhere."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(FileNotFoundError) as error:
        patch.setattr(tempfile, "_candidate_tempdir_list", list)
        tempfile._get_default_tempdir()
    return error.value


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (UserError("there is no a.json", "name another"), 2, "error: there is no a.json\n  fix: name another\n"),
        (RunFailure("the loss is not finite"), 1, "error: the loss is not finite\n"),
        (KeyError("x"), 1, "error: KeyError: 'x'\n  fix: run again with --debug to see where it happened\n"),
        (OSError(errno.ENOSPC, "No space"), 1, "error: the disk is full"),
        (FileNotFoundError(errno.ENOENT, "of no path"), 1, "error: FileNotFoundError"),
        (no_temporary_folder(), 2, "error: no folder for temporary files can be used: No usable temporary directory"),
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_an_error_is_one_message_and_a_code(capsys, error, code, text):
    assert end_of(raising(error)) == code
    assert capsys.readouterr().err.startswith(text)


@pytest.fixture(params=["Python's", "W&B's"])
def exit_function(request, monkeypatch):
    """`sys.exit` as it is, and as a run of W&B leaves it."""
    if request.param == "W&B's":
        from wandb.sdk.lib.exit_hooks import ExitHooks

        for name in ("exit", "excepthook"):
            monkeypatch.setattr(sys, name, getattr(sys, name))  # to be put back
        ExitHooks().hook()


@pytest.mark.usefixtures("exit_function")
@pytest.mark.parametrize("code", [0, None, 3])
def test_code_of_others_that_leaves_python_is_a_failure_with_its_file_and_line(capsys, tmp_path, code):
    compiled = compile(f"import sys\nsys.exit({code})", "my_reader.py", "exec")
    assert end_of(lambda: exec(compiled, {"__name__": "my_reader"})) == EXIT_FAILURE
    assert f"error: my_reader.py, line 2 leaves Python before the work is done: SystemExit: {code}\n" in (
        capsys.readouterr().err
    )


@pytest.mark.usefixtures("exit_function")
def test_a_command_line_that_is_refused_while_the_tool_works_keeps_its_code():
    assert end_of(lambda: argparse.ArgumentParser().error("no")) == 2


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("file/below.json", "can't use {}/file: File exists"),
        ("file/far/below.json", "can't use {}/file/far: Not a directory"),
        ("folder", "can't use {}/folder: Is a directory"),
        ("n" * 300 + "/x", "File name too long"),
    ],
)
def test_a_path_that_can_not_be_written_to_is_the_person_s_to_fix(tmp_path, capsys, path, message):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    assert end_of(opened(tmp_path / path)) == 2
    told = capsys.readouterr().err
    assert message.format(tmp_path) in told and "--debug" in told
    with pytest.raises(OSError):
        run_tool(opened(tmp_path / path), debug=True)


@pytest.mark.parametrize("error", [UserError("a", "b"), KeyError("x")], ids=["user error", "any"])
def test_with_debug_an_error_comes_with_its_traceback(error):
    with pytest.raises(type(error)):
        run_tool(raising(error), debug=True)


def test_a_tool_does_its_work_where_the_reader_of_its_output_leaves_early(tmp_path):
    work = (
        f"[print('line\\n' * 100000), sys.stdout.flush(), print('line'), open({str(tmp_path / 'done')!r}, 'w'), 3][-1]"
    )
    code = f"import sys; from xray_lazy.command_line import run_tool; run_tool(lambda: {work})"
    tool = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    tool.stdout.readline()
    tool.stdout.close()
    assert (tool.stderr.read(), tool.wait(PATIENCE)) == ("", 3) and (tmp_path / "done").is_file()
    tool.stderr.close()


def test_python_without_docstrings_is_refused():
    tool = [sys.executable, "-OO", str(ROOT / "tools" / "dataset.py"), "check", "absent"]
    answer = subprocess.run(tool, capture_output=True, text=True, timeout=PATIENCE)
    assert answer.returncode == 2 and "unset PYTHONOPTIMIZE" in answer.stderr


def test_a_tool_that_passes_bytes_on_ends_silently_where_nobody_takes_them():
    work = "[sys.stdout.buffer.write(b'line\\n' * 100000) for _ in range(9)]"
    code = f"import sys; from xray_lazy.command_line import run_tool; run_tool(lambda: {work} and None)"
    tool = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    tool.stdout.readline()
    tool.stdout.close()
    assert (tool.stderr.read(), tool.wait(PATIENCE)) == ("", 1)
    tool.stderr.close()


def test_an_error_keeps_its_fix_on_its_way_between_processes():
    again = pickle.loads(pickle.dumps(RunFailure("a", "b")))
    assert (type(again), again.message, again.fix, again.exit_code) == (RunFailure, "a", "b", 1)


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (whole(1), "0", "0 is less than 1"),
        (whole(1), "a", "invalid integer value: 'a'"),
        (whole(1), "1.5", "invalid integer value: '1.5'"),
        (whole(1, 9), "10", "10 is more than 9"),
        (real(least=0, below=1), "1", "1.0 is not below 1"),
        (real(above=0), "0", "0.0 is not above 0"),
        (real(least=0), "nan", "nan is not a finite number"),
        (real(least=0), "inf", "inf is not a finite number"),
    ],
)
def test_a_number_that_is_out_of_its_range_or_none_is_refused(capsys, kind, text, message):
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=kind)
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args(["--size", text])
    assert message in capsys.readouterr().err


def test_a_size_is_a_width_and_a_height():
    assert parse_size("1920x1080") == parse_size(" 1920X1080 ", least=32) == (1920, 1080)


@pytest.mark.parametrize("text", ["800", "0x4", "axb", "-3x4", "31x800", "1920x1080x3"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(UserError, match="is not an image size") as refused:
        parse_size(text, least=32)
    assert "of at least 32 each" in refused.value.fix


def test_numbers_at_the_ends_of_their_range_are_taken():
    assert [whole(1, 9)(text) for text in ("1", "9")] == [1, 9]
    assert [real(least=0, most=1)(text) for text in ("0", "1")] == [0.0, 1.0]


@pytest.mark.parametrize("tool", sorted(Path(__file__).parents[1].glob("tools/*.py")), ids=lambda path: path.stem)
def test_every_number_of_a_tool_has_a_range(tool):
    """argparse's own `int` and `float` would let through what trains nothing, such as --num-gpus -1."""
    calls = [node for node in ast.walk(ast.parse(tool.read_text())) if isinstance(node, ast.Call)]
    types = [word.value for call in calls for word in call.keywords if word.arg == "type"]
    assert {name.id for name in types if isinstance(name, ast.Name)} & {"int", "float"} == set()


@pytest.mark.parametrize("tool", sorted(Path(__file__).parents[1].glob("tools/*.py")), ids=lambda path: path.stem)
def test_what_may_be_left_out_is_not_called_required(tool):
    """argparse names an argument of any number of words where another is missing, unless it has a default."""
    calls = [node for node in ast.walk(ast.parse(tool.read_text())) if isinstance(node, ast.Call)]
    words = [{word.arg: getattr(word.value, "value", word.value) for word in call.keywords} for call in calls]
    assert [of_call for of_call in words if of_call.get("nargs") == "*" and "default" not in of_call] == []


# Of flags and arguments whose values are texts, and no paths.
NO_PATHS = {
    "NAME",
    "N|NAMES",
    "FORM",
    "EXT",
    "REGEX",
    "KEY=VALUE",
    "WxH",
    "ID",
    "URL",
    "CLASS",
    "KIND",
    "WHAT",
    "RANGE",
}


@pytest.mark.parametrize("tool", sorted(Path(__file__).parents[1].glob("tools/*.py")), ids=lambda path: path.stem)
def test_every_path_of_a_tool_knows_the_home_folder(tool):
    calls = [node for node in ast.walk(ast.parse(tool.read_text())) if isinstance(node, ast.Call)]
    for call in calls:
        if getattr(call.func, "attr", "") == "add_argument":
            words = {word.arg: getattr(word.value, "value", word.value) for word in call.keywords}
            is_text = not {"type", "choices"} & set(words) and words.get("action", "append") == "append"
            assert not is_text or words.get("metavar") in NO_PATHS or call.args[0].value == "--device", ast.unparse(
                call
            )


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("~/scans/*.png", "HOME/scans/*.png"),
        ("~", "HOME"),
        ("~root", "ROOT"),
        ("~root/x.png", "ROOT/x.png"),
        ("~nobody_here/x", "~nobody_here/x"),
        ("~hooks.early_stopping", "~hooks.early_stopping"),
        ("a~/b", "a~/b"),
        ("https://host/~name/a.pth", "https://host/~name/a.pth"),
    ],
)
def test_a_path_in_the_home_folder_is_written_out(monkeypatch, tmp_path, text, known):
    monkeypatch.setenv("HOME", str(tmp_path))
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", type=path)
    known = known.replace("HOME", str(tmp_path)).replace("ROOT", pwd.getpwnam("root").pw_dir)
    assert parser.parse_args([f"--output={text}"]).output == known
    flags, words = parse_with_overrides(parser, [f"--output={text}", text, "~hooks.ema"])
    word = text if text == "~root" else known  # as a word of its own it removes a key
    assert (flags.output, words) == (known, [word, "~hooks.ema"])


BUSY_MODULE = """
import sys, time
print("importing", flush=True)
try:
    time.sleep(600)
except BaseException:
    raise ImportError("lost") from None
"""


def ended_when_it_prints(number, *command, environment):
    """Exit code and stderr of a command that gets a signal at its first line."""
    # a process inherits what its parent ignores, as these tests do under nohup
    own = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        tool = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | environment
        )
    finally:
        signal.signal(signal.SIGHUP, own)
    tool.stdout.readline()
    tool.send_signal(number)
    _, errors = tool.communicate(timeout=PATIENCE)
    return tool.returncode, errors


@pytest.mark.parametrize(
    ("module", "number", "answer"),  # before and after a tool has read its command line
    [
        ("difflib", signal.SIGINT, (130, "error: interrupted\n")),
        ("omegaconf", signal.SIGINT, (130, "error: interrupted\n")),
        ("omegaconf", signal.SIGTERM, (143, "error: ended by SIGTERM\n")),
    ],
)
def test_a_signal_while_a_tool_imports_what_it_needs_ends_it_with_one_line(tmp_path, module, number, answer):
    """Also where the import would make another error of it, or forget it."""
    tool = Path(__file__).parents[1] / "tools" / "lazy_train.py"
    (tmp_path / f"{module}.py").write_text(BUSY_MODULE)
    command = [sys.executable, str(tool), "--config-file", "any.py", "--debug"]
    assert ended_when_it_prints(number, *command, environment={"PYTHONPATH": str(tmp_path)}) == answer


HALF_A_FILE = """
import os, sys, time
sys.modules["__main__"].__file__ = "TOOL"
from xray_lazy.command_line import run_tool
from xray_lazy.utils.atomic_file import atomic_writer

def work():
    with atomic_writer("results.json") as stream:
        stream.write(b"half")
        try:
            print("writing", flush=True)
            time.sleep(600)
        finally:
            DEAFNESS

run_tool(work, debug=True)
"""


def half_a_file(deafness="pass"):
    """A tool that writes for long, and says so; with what it does before it ends."""
    return HALF_A_FILE.replace("TOOL", str(ROOT / "tools" / "predict.py")).replace("DEAFNESS", deafness)


@pytest.mark.parametrize(
    ("number", "answer"),
    [
        (signal.SIGINT, (130, "error: interrupted\n")),
        (signal.SIGTERM, (143, "error: ended by SIGTERM\n")),
        (signal.SIGHUP, (129, "error: ended by SIGHUP\n")),
    ],
)
def test_a_signal_while_a_tool_writes_leaves_no_half_file(tmp_path, monkeypatch, number, answer):
    monkeypatch.chdir(tmp_path)
    Path("results.json").write_text("earlier")
    code = half_a_file()
    assert ended_when_it_prints(number, sys.executable, "-c", code, environment={"PYTHONPATH": str(ROOT)}) == answer
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"results.json": "earlier"}


@pytest.mark.parametrize(
    ("rank", "told"),
    [({"RANK": "1"}, ""), ({"SLURM_PROCID": "3", "RANK": ""}, ""), ({"RANK": "0"}, "error: ended by SIGTERM\n")],
)
def test_of_the_processes_of_a_group_one_tells_the_signal_that_all_get(tmp_path, monkeypatch, rank, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "omegaconf.py").write_text(BUSY_MODULE)
    importing = [sys.executable, str(ROOT / "tools" / "lazy_train.py"), "--config-file", "any.py"]
    for command, place in ((importing, tmp_path), ([sys.executable, "-c", half_a_file()], ROOT)):
        assert ended_when_it_prints(signal.SIGTERM, *command, environment=rank | {"PYTHONPATH": str(place)}) == (
            143,
            told,
        )


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_tool_works_where_its_streams_are_closed_and_prints_into_no_file(tmp_path, monkeypatch, closed):
    monkeypatch.chdir(tmp_path)
    code = half_a_file().replace(
        "time.sleep(600)", "print(sys.stdout.isatty(), file=sys.stderr); os.system('echo out')"
    )
    command = ["sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, code]
    ended = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=PATIENCE)
    assert ended.returncode == 0 and Path("results.json").read_text() == "half"


def test_a_second_ctrl_c_ends_a_tool_that_takes_long_to_leave_with_no_half_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    again = "time.sleep(1.2); os.kill(os.getpid(), 2); time.sleep(600)"
    command = [sys.executable, "-c", half_a_file(again)]
    answer = ended_when_it_prints(signal.SIGINT, *command, environment={"PYTHONPATH": str(ROOT)})
    assert answer == (130, "error: interrupted\n") and not list(tmp_path.iterdir())


def test_the_echo_of_a_signal_does_not_disturb_the_orderly_end(tmp_path, monkeypatch):
    """As `timeout` sends it to the process, and to its group."""
    monkeypatch.chdir(tmp_path)
    command = [sys.executable, "-c", half_a_file("os.kill(os.getpid(), 15); open('left', 'w').close()")]
    answer = ended_when_it_prints(signal.SIGTERM, *command, environment={"PYTHONPATH": str(ROOT)})
    assert answer == (143, "error: ended by SIGTERM\n") and [path.name for path in tmp_path.iterdir()] == ["left"]


def test_work_that_ends_in_order_takes_the_echo_of_a_signal_for_no_second_one(monkeypatch):
    came = []
    with interruption.heard(interruption.ENDING, lambda number, frame: came.append(number)):
        for seconds, numbers in ((1e9, (signal.SIGTERM, signal.SIGTERM, signal.SIGINT)), (0, (signal.SIGTERM,))):
            monkeypatch.setattr(interruption, "ECHO_SECONDS", seconds)
            for number in numbers:
                os.kill(os.getpid(), number)
    assert came == [signal.SIGTERM, signal.SIGINT, signal.SIGTERM]


STALLED_TOOL = """
import atexit, os, sys
sys.modules["__main__"].__file__ = "TOOL"
from xray_lazy.command_line import run_tool
from xray_lazy.errors import UserError
from xray_lazy.utils.atomic_file import atomic_writer, write_text
from xray_lazy.utils.interruption import ENDING, heard

def ends():
    with atomic_writer("results.json"):
        os.write(told, b".")
        print("line", flush=True)

def works_on():
    with heard(ENDING, lambda number, frame: came.append(number)):
        os.write(told, b".")
        while not came:
            print("line", flush=True)
        print("finished", flush=True)
    write_text("results.json", "whole")

def fails():
    print("line")
    atexit.register(os.write, told, b".")
    raise UserError("wrong", "mend it")

told, came = int(sys.argv[1]), []
run_tool(WORK)
"""


@pytest.mark.parametrize(
    ("work", "is_error_read", "code", "errors", "left"),
    [
        ("ends", False, 143, "", {}),
        ("works_on", False, 0, "", {"results.json": "whole"}),
        ("fails", True, 143, "error: wrong\n  fix: mend it\nerror: ended by SIGTERM\n", {}),
    ],
)
def test_one_signal_is_enough_where_nobody_reads_what_is_printed(
    tmp_path, monkeypatch, work, is_error_read, code, errors, left
):
    """As in a pager that is left open, or a log collector that hangs."""
    monkeypatch.chdir(tmp_path)
    (unread, full), (told, tell) = os.pipe(), os.pipe()
    os.set_blocking(full, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(full, b"." * 4096)
    os.set_blocking(full, True)
    program = STALLED_TOOL.replace("TOOL", str(ROOT / "tools" / "predict.py")).replace("WORK", work)
    tool = subprocess.Popen(
        [sys.executable, "-c", program, str(tell)],
        stdout=full,
        stderr=subprocess.PIPE if is_error_read else full,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""},
        pass_fds=[tell],
        text=True,
    )
    os.read(told, 1)
    tool.send_signal(signal.SIGTERM)
    said = tool.communicate(timeout=PATIENCE)[1] or ""
    for number in (unread, full, told, tell):
        os.close(number)
    assert (tool.returncode, said) == (code, errors)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == left


def test_nohup_lets_a_tool_live_on(tmp_path):
    code = half_a_file().replace("time.sleep(600)", "time.sleep(0.5)")
    command = ["nohup", sys.executable, "-c", f"import os; os.chdir({str(tmp_path)!r})\n{code}"]
    answer = ended_when_it_prints(signal.SIGHUP, *command, environment={"PYTHONPATH": str(ROOT)})
    assert answer[0] == 0 and (tmp_path / "results.json").read_text() == "half"


def test_ctrl_c_that_became_another_error_on_its_way_is_told_as_what_it_is(capsys):
    def main():
        try:
            raise KeyboardInterrupt
        finally:
            raise AttributeError("what a library's clean-up says of an object that is half made")

    assert end_of(main) == end_of(main, debug=True) == 130
    assert capsys.readouterr().err == "error: interrupted\n" * 2


def test_ctrl_c_of_which_a_library_makes_another_error_is_told_as_what_it_is(capsys, monkeypatch):
    monkeypatch.setattr(interruption, "_came", 0)
    monkeypatch.setattr(interruption, "_came_at", 0.0)

    def main():
        try:
            interruption._end(signal.SIGINT, sys._getframe())
        except KeyboardInterrupt:
            error = SystemError("returned a result with an exception set")
        raise error

    assert end_of(main) == 130
    assert capsys.readouterr().err == "error: interrupted\n"


@pytest.mark.parametrize("words", [["--output="], ["--output", " "], [""], ["--output=x", "--", ""]])
def test_an_empty_path_is_refused_and_not_taken_for_this_folder(capsys, words):
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", type=path)
    with pytest.raises(SystemExit, match="2"):
        parse_with_overrides(parser, words)
    assert "an empty argument" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("tool", "words"),
    [
        ("dataset", ["split", "a.json", "a", "--scanner", "a", "--group-by", ""]),
        ("dataset", ["repair", "a.json", "--size="]),
        ("analyze", ["model", "a", "--size", ""]),
        ("visualize", ["data", "--size", ""]),
        ("export", ["a", "--size="]),
        ("evaluate_checkpoints", ["a", "--job="]),
    ],
)
def test_an_empty_word_is_refused_and_not_taken_for_a_flag_that_is_not_given(run_tool_here, tool, words):
    answer = run_tool_here(ROOT / "tools" / f"{tool}.py", *words)
    assert answer.returncode == 2 and "an empty argument" in answer.stderr


@pytest.mark.parametrize("tool", ["visualize.py data", "visualize.py features x bag.png", "predict.py x bag.png"])
def test_an_override_may_be_longer_than_a_file_s_name(tool):
    name, *words = tool.split()
    answer = subprocess.run(
        [sys.executable, str(ROOT / "tools" / name), *words, f"model.a=[{'1,' * 200}1]"], capture_output=True, text=True
    )
    assert answer.returncode == 2 and "Traceback" not in answer.stderr
    assert "File name too long" not in answer.stderr


def test_a_file_s_name_may_look_like_an_override(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_override("bag=1.png") and is_override("~bag") and not is_override("bag.png")
    (tmp_path / "bag=1.png").touch()
    assert not is_override("bag=1.png")


def test_a_folder_that_was_deleted_is_told(tmp_path, monkeypatch, capsys):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert end_of(lambda: None) == 2
    monkeypatch.chdir(tmp_path)
    assert "was deleted" in capsys.readouterr().err
