"""Command lines: flags and overrides in any order."""

import argparse
import itertools

import pytest

from xray_lazy.config import parse_with_overrides


def parser():
    parser = argparse.ArgumentParser(prog="lazy_train.py")
    parser.add_argument("--config-file", required=True)
    parser.add_argument("--num-gpus", type=int, default=1)
    parser.add_argument("--resume", action="store_true")
    return parser


def error_of(capsys, *argv) -> str:
    with pytest.raises(SystemExit) as caught:
        parse_with_overrides(parser(), argv)
    assert caught.value.code == 2
    return capsys.readouterr().err


def test_flags_and_overrides_may_stand_in_any_order():
    pieces = [
        ["--config-file", "a.py"],
        ["--num-gpus=2"],
        ["--resume"],
        ["train.max_iter=5"],
        ["~hooks.ema", "+a.b=-1"],
    ]
    for order in itertools.permutations(pieces):
        argv = list(itertools.chain(*order))
        options, overrides = parse_with_overrides(parser(), argv)
        assert (options.config_file, options.num_gpus, options.resume) == ("a.py", 2, True)
        assert overrides == [item for item in argv if item in ("train.max_iter=5", "~hooks.ema", "+a.b=-1")]


def test_values_with_dashes_spaces_and_equal_signs_arrive_whole():
    wanted = ["lr=-1e-3", "a=--b", "output_dir=x y=z", "++c=-"]
    argv = [*wanted[:2], "--config-file=-a.py", *wanted[2:]]
    options, overrides = parse_with_overrides(parser(), argv)
    assert (options.config_file, overrides) == ("-a.py", wanted)


def test_all_after_two_dashes_is_overrides():
    assert parse_with_overrides(parser(), ["--config-file", "a", "--", "b=1", "c=2"])[1] == ["b=1", "c=2"]


@pytest.mark.parametrize("flag", ["--num-gpu", "--num_gpus", "--num-gpsu=2", "-num-gpus"])
def test_an_unknown_flag_ends_with_the_nearest_one(capsys, flag):
    message = error_of(capsys, "--config-file", "a.py", flag, "2")
    assert f"unknown flag {flag.partition('=')[0]}; did you mean --num-gpus?" in message


def test_a_misspelled_required_flag_is_named_not_called_missing(capsys):
    assert "did you mean --config-file?" in error_of(capsys, "--config-fil", "a.py", "train.max_iter=5")


def test_an_override_with_dashes_is_shown_without(capsys):
    message = error_of(capsys, "--config-file", "a.py", "--train.max_iter=5")
    assert "overrides are written without dashes: train.max_iter=5" in message


def test_help_shows_flags_and_overrides(capsys):
    with pytest.raises(SystemExit) as caught:
        parse_with_overrides(parser(), ["--help"])
    text = capsys.readouterr().out
    assert caught.value.code == 0
    assert text.count("usage:") == 1 and "[KEY=VALUE ...]" in text and "~KEY removes" in text


def test_a_parser_may_be_used_twice():
    shared = parser()
    for _ in range(2):
        assert parse_with_overrides(shared, ["--config-file", "a", "b=1"])[1] == ["b=1"]


@pytest.mark.parametrize("arguments", [["inputs"], ["--inputs"]])
def test_a_parser_that_would_swallow_overrides_is_refused(arguments):
    greedy = argparse.ArgumentParser()
    greedy.add_argument(*arguments, nargs="*")
    with pytest.raises(ValueError, match="swallow"):
        parse_with_overrides(greedy, [])
