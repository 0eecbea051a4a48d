"""`make bench`: our parts beside their peers, on generated data, on this machine."""

import argparse
import tempfile
from pathlib import Path

from benchmarks import (
    data_reading,
    evaluation,
    inference,
    mixing,
    proposal_sources,
    sparse_rcnn_step,
    start_up,
    trainer_overhead,
    training_step,
    whole_models,
)
from benchmarks.pairs import report

SUITES = {
    "data": data_reading.compare_all,
    "mixing": mixing.compare_all,
    "evaluation": evaluation.compare_all,
    "inference": inference.compare_all,
    "training": training_step.compare_all,
    "whole_models": whole_models.compare_all,
    "start_up": start_up.compare_all,
    "overhead": trainer_overhead.compare_all,
    "sparse_rcnn": sparse_rcnn_step.compare_all,
    "proposal_sources": proposal_sources.compare_all,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suites", nargs="*", choices=[*SUITES, []], help=f"of {', '.join(SUITES)} (default: all)")
    parser.add_argument("--output", type=Path, default=Path("output/benchmarks.json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = [result for name in options.suites or SUITES for result in SUITES[name](Path(folder))]
    report(results, options.output)


if __name__ == "__main__":
    main()
