"""How accurate detectors are after equal processor time: ours, and those that people would pick instead."""

import argparse
import itertools
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.accuracy.job import Job
from benchmarks.accuracy.made_files import made_for
from benchmarks.accuracy.plot import write_csv
from benchmarks.accuracy.protocols import make_split
from benchmarks.accuracy.recipes import HERE
from benchmarks.accuracy.rows import ROWS
from benchmarks.accuracy.table import markdown, place_of, read_results
from xray_lazy.command_line import whole


def main() -> None:
    """Train what is missing, then print the table."""
    options = parse()
    if options.annotations:
        budget = f"{options.iterations} iterations" if options.iterations else f"{options.minutes:g} minutes"
        split = make_split(options.annotations, options.images, options.results / "sets", options.held_out)
        # seeds outside of rows: whenever it is stopped, all rows have about as many
        for seed, row in itertools.product(options.seeds, options.rows):
            folder = place_of(options.results, budget, row, seed)
            if (folder / "training.json").is_file():
                continue
            job = Job(
                images=str(split.images.resolve()),
                train=str((options.train or split.train).resolve()),
                test=str(split.test.resolve()),
                tests={name: str(path.resolve()) for name, path in split.tests.items()},
                folder=str(folder.resolve()),
                seed=seed,
                seconds=60 * options.minutes,
                image_size=options.image_size,
                settings=ROWS[row].settings,
                iterations=options.iterations,
            )
            print(f"{row} seed {seed}", file=sys.stderr, flush=True)
            job.settings = job.settings | {"files": made_for(job.settings.get("overrides", []), split)}
            train(job, row, options.peers_python, options.pretrained)
    results = read_results(options.results)
    print(markdown(results))
    if options.csv:
        write_csv(results, options.csv)


def train(job: Job, row: str, peers_python: str | None, pretrained: Path | None) -> None:
    """Run the row's trainer in one thread; one that fails leaves its log, and the others go on."""
    if ROWS[row].peers and peers_python is None:
        print(f"{row} is left out: --peers-python names no environment of the peers", file=sys.stderr)
        return
    if ROWS[row].pretrained:
        if pretrained is None:
            print(f"{row} is left out: --pretrained names no weights, see the README beside", file=sys.stderr)
            return
        job.settings = job.settings | {"weights": str(pretrained.resolve())}
    path = job.save()
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    with (path.parent / "trainer.log").open("w") as log:
        code = subprocess.run(
            [peers_python if ROWS[row].peers else sys.executable, str(ROWS[row].trainer), str(path)],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | one_thread,
        ).returncode
    if code:
        print(f"{row} failed, see {path.parent / 'trainer.log'}", file=sys.stderr)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__)
    parser.add_argument("--annotations", type=Path, help="COCO file of all images; without it, only the table")
    parser.add_argument("--images", type=Path, help="folder of the images")
    parser.add_argument("--held-out", default="5", help="scanner that is not trained on: first digit of its file names")
    parser.add_argument("--train", type=Path, help="COCO file to train on instead of the split's, over the same images")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, default=10.0, help="processor time of a training, one thread")
    parser.add_argument(
        "--iterations",
        type=whole(least=1),
        default=0,
        help="instead of --minutes: of each training, for parts of one detector",
    )
    parser.add_argument("--image-size", type=int, default=320, help="longest edge, pixels")
    parser.add_argument("--peers-python", help="python of the environment with the peers, see the README beside")
    parser.add_argument("--pretrained", type=Path, help="checkpoint of the backbone, see the README beside")
    parser.add_argument("--results", type=Path, default=Path("output/accuracy"))
    parser.add_argument("--csv", type=Path, help="file to write a line of each finished training to")
    options = parser.parse_args()
    if options.iterations and any(ROWS[row].trainer != HERE / "own.py" for row in options.rows):
        parser.error("--iterations is for rows of our own trainer: name them by --rows")
    if options.annotations and not options.images:
        parser.error("--annotations needs --images, the folder of its images")
    return options


if __name__ == "__main__":
    main()
