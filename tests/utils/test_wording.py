"""Names from outside in what tools print."""

import io
import json
import shlex
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.data.coco_sets import write_set
from xray_lazy.data.check import check_sets, open_sets
from xray_lazy.data.check.check_console import print_report
from xray_lazy.data.datasets import load_datasets
from xray_lazy.data.split.plan import plan_split
from xray_lazy.data.split.scanner_export import read_export
from xray_lazy.data.split.split_console import print_plan
from xray_lazy.utils.wording import clean_what_is_printed, for_console, printable, tool_command

NAME = "gun\x1b]0;owned\x07\nerror: \u202efake\x9b2J"
SHOWN = r"gun\x1b]0;owned\x07\nerror: \u202efake\x9b2J"


def test_a_name_is_shown_in_one_line_without_what_a_terminal_obeys():
    assert printable(NAME) == SHOWN
    assert printable("刀 é\tknife") == r"刀 é\tknife"


@pytest.mark.parametrize(("is_terminal", "colour"), [(True, "\x1b[31mred\x1b[0m\x1b[2K"), (False, r"\x1b[31mred")])
def test_lines_of_a_console_keep_their_form_and_a_terminals_its_colours(is_terminal, colour):
    text = for_console(f"a\tb\n\x1b[31mred\x1b[0m\x1b[2K {NAME}", is_terminal)
    assert text.startswith(f"a\tb\n{colour}") and text.endswith(SHOWN.replace(r"\n", "\n"))


def test_a_command_can_be_typed_whatever_the_names():
    words = ["check", "my set's.json", "a;b/$c"]
    assert shlex.split(tool_command("dataset", *words)) == ["python", "tools/dataset.py", *words]


def test_a_stream_is_cleaned_once():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    for _ in range(2):
        clean_what_is_printed(stream)
    print("\x1b[2J刀", end="", file=stream, flush=True)
    assert stream.buffer.getvalue() == rb"\x1b[2J\u5200"


def test_class_names_reach_no_console_as_they_are(tmp_path):
    write_set(tmp_path, classes=(NAME, "knife"))
    source = {"json_file": str(tmp_path / "annotations.json"), "image_root": str(tmp_path / "images"), "name": "own"}
    assert load_datasets(source).class_names == (SHOWN, "knife")


def test_an_error_of_a_tool_tells_a_name_without_what_a_terminal_obeys():
    command = [sys.executable, str(ROOT / "tools" / "dataset.py"), "check", "no\x1b[2J.json", "images"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 2 and r"no\x1b[2J.json" in answer.stderr


def test_a_table_of_findings_has_a_file_name_in_one_line(tmp_path, capsys):
    content = write_set(tmp_path)
    content["images"][0]["file_name"] = "no\nerror: fake.png"
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    print_report(check_sets(open_sets([str(tmp_path / "annotations.json"), str(tmp_path / "images")], None)))
    assert r"no\nerror: fake.png" in "".join(line.strip() for line in capsys.readouterr().out.splitlines())


def test_a_table_of_findings_tells_images_from_instances_and_ids_in_one_line(tmp_path, capsys):
    content = write_set(tmp_path)
    for image in content["images"]:
        image["id"] = f"bag\n{image['id']}"
    for annotation in content["annotations"]:
        annotation["image_id"] = f"bag\n{annotation['image_id']}"
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    print_report(check_sets(open_sets([str(tmp_path / "annotations.json"), str(tmp_path / "images")], None)))
    assert r"images bag\n10, bag\n11, bag\n12, bag\n13; instances 100, 101, 102" in capsys.readouterr().out


def test_a_table_of_a_split_has_a_class_name_in_one_line(tmp_path, capsys):
    write_set(tmp_path, count=3, classes=(NAME, "knife"))
    export = read_export("smith", tmp_path / "annotations.json", tmp_path / "images")
    print_plan(plan_split(export, (0.4, 0.3, 0.3)))
    assert f"no {SHOWN} in " in capsys.readouterr().out
