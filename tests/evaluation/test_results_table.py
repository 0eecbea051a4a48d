"""What a person reads after an evaluation."""

import math

from xray_lazy.evaluation.results_table import format_results

RESULTS = {
    "bbox": {"AP": 51.26, "AP50": 80.0, "APs": math.nan, "AR100": 60.0, "AP-gun": 55.5, "AP-knife": math.nan},
    "segm": {"AP": 47.0, "AP50": 77.7, "APs": math.nan, "AR100": 58.0, "AP-gun": 44.4, "AP-knife": math.nan},
}


def test_summary_and_classes_stand_side_by_side():
    lines = [line.split() for line in format_results(RESULTS, {"gun": 12}).splitlines()]
    assert lines[0] == ["AP", "AP50", "APs", "AR100"]
    assert ["bbox", "51.3", "80.0", "-", "60.0"] in lines
    assert ["segm", "47.0", "77.7", "-", "58.0"] in lines
    assert ["class", "instances", "bbox", "AP", "segm", "AP"] in lines
    assert ["gun", "12", "55.5", "44.4"] in lines
    assert ["knife", "0", "-", "-"] in lines


def test_without_classes_there_is_one_table():
    assert "class" not in format_results({"bbox": {"AP": 1.0}})


def test_no_results_say_so():
    assert format_results({}) == "no results"
