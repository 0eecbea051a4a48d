"""A model on paper of training on 8 to 64 GPUs: what communication, reading and evaluation would cost.

    python -m benchmarks.scaling_model --gpu-seconds 0.2 --read-ms 9

Nothing here is measured but what is given as an argument. The gradient is averaged by a ring all-reduce inside a
machine and one between machines, each of which moves 2 (n - 1) / n of it through every member's link; a part of it
hides behind the backward pass. The slowest process sets the pace, so that images of different size cost waiting.
"""

import argparse
from dataclasses import dataclass


@dataclass(frozen=True)
class Cluster:
    """Links in GB/s that a collective reaches, not their nominal speed."""

    gpus_per_machine: int = 8
    inside_gb_per_second: float = 200.0  # NVLink of an A100 or H100 board
    between_gb_per_second: float = 20.0  # one 200 Gb/s InfiniBand or RoCE link per machine
    cores_per_gpu: int = 12


@dataclass(frozen=True)
class Work:
    """One training: of a model, an image's cost, and a set to evaluate."""

    parameters_millions: float
    gpu_seconds: float  # forward, backward and optimizer for one GPU's images
    pictures_per_gpu: int
    read_ms: float  # of one image on one core
    evaluated_images: int
    inference_seconds: float  # of one image on a GPU
    hidden: float = 0.7  # share of the all-reduce behind the backward pass
    waiting: float = 0.05  # for the slowest process, of a step, per doubling of their number


def step_seconds(work: Work, cluster: Cluster, gpus: int) -> dict[str, float]:
    """Parts of a step, in seconds."""
    gigabytes = work.parameters_millions * 4e-3
    inside = min(gpus, cluster.gpus_per_machine)
    machines = -(-gpus // cluster.gpus_per_machine)
    reduce = _ring(inside) * gigabytes / cluster.inside_gb_per_second
    reduce += _ring(machines) * gigabytes / cluster.between_gb_per_second
    compute = work.gpu_seconds
    waiting = compute * work.waiting * (gpus.bit_length() - 1)
    reading = work.pictures_per_gpu * work.read_ms / 1e3 / cluster.cores_per_gpu
    exposed = reduce * (1 - work.hidden)
    return {
        "compute": compute,
        "waiting": waiting,
        "all-reduce": reduce,
        "exposed": exposed,
        "reading": reading,
        "step": max(compute + waiting + exposed, reading),
    }


def table(work: Work, cluster: Cluster, counts: tuple[int, ...] = (1, 8, 16, 32, 64)) -> list[dict[str, float]]:
    """A row for each number of GPUs."""
    alone = work.pictures_per_gpu / step_seconds(work, cluster, 1)["step"]
    rows = []
    for gpus in counts:
        parts = step_seconds(work, cluster, gpus)
        speed = gpus * work.pictures_per_gpu / parts["step"]
        rows.append(
            {
                "GPUs": gpus,
                "step ms": 1e3 * parts["step"],
                "all-reduce ms": 1e3 * parts["all-reduce"],
                "exposed ms": 1e3 * parts["exposed"],
                "waiting ms": 1e3 * parts["waiting"],
                "cores busy per GPU": cluster.cores_per_gpu * parts["reading"] / parts["step"],
                "images/s": speed,
                "efficiency": speed / (gpus * alone),
                "evaluation s": work.evaluated_images * work.inference_seconds / gpus,
            }
        )
    return rows


def _ring(members: int) -> float:
    return 2 * (members - 1) / members


def main() -> None:
    from tabulate import tabulate

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parameters", type=float, default=44.0, help="millions (default: Mask R-CNN R50, 44)")
    parser.add_argument("--gpu-seconds", type=float, default=0.2, help="of a step of one GPU (default: %(default)s)")
    parser.add_argument("--pictures-per-gpu", type=int, default=2, help="default: %(default)s")
    parser.add_argument("--read-ms", type=float, default=10.0, help="of an image on a core (default: %(default)s)")
    parser.add_argument("--evaluated", type=int, default=5000, help="images of the validation set (default: 5000)")
    parser.add_argument("--inference-seconds", type=float, default=0.04, help="of an image (default: %(default)s)")
    options = parser.parse_args()
    work = Work(
        options.parameters,
        options.gpu_seconds,
        options.pictures_per_gpu,
        options.read_ms,
        options.evaluated,
        options.inference_seconds,
    )
    print(tabulate(table(work, Cluster()), headers="keys", floatfmt=".2f"))


if __name__ == "__main__":
    main()
