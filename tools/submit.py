#!/usr/bin/env python
"""Train on a SLURM cluster, or in the background of this machine: submit, follow, status, cancel, resubmit."""

import argparse
import dataclasses
import sys

from xray_lazy.cluster.cluster_profile import add_profile_flags, given_flags, load_profile
from xray_lazy.command_line import path, run_tool
from xray_lazy.config.arguments import parse_with_overrides

EPILOG = """commands on jobs that were submitted, by their output folders or that of their array:
  %(prog)s status FOLDER...     how they fare
  %(prog)s follow FOLDER        the live log of one, until its end
  %(prog)s wait FOLDER...       until all are over
  %(prog)s cancel FOLDER...
  %(prog)s resubmit FOLDER...   from the last checkpoint; flags of the profile change it

Several values of a key are an array of jobs: optimizer.lr=0.001,0.002 'train.seed=range(3)' is six.
Exit codes: 0 done, 1 a job or SLURM failed, 2 something for you to fix."""


def submit_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--config-file", required=True, type=path, metavar="FILE", help="a LazyConfig, or a run's config.yaml"
    )
    parser.add_argument(
        "--preset", action="append", dest="presets", default=[], metavar="NAME", help="as lazy_train.py"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the output folder's last checkpoint, if any")
    parser.add_argument("--overwrite", action="store_true", help="let another run's output folder be used")
    parser.add_argument("--dry-run", action="store_true", help="check everything, show the jobs, and submit nothing")
    parser.add_argument(
        "--with-evaluator", action="store_true", help="a second job evaluates the checkpoints; the training does not"
    )
    parser.add_argument("--wait", action="store_true", help="stay until all jobs are over")
    parser.add_argument("--follow", action="store_true", help="stay, and show the live log of the job's first process")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    add_profile_flags(parser)
    return parser


def submit(options: argparse.Namespace, overrides: list[str]) -> int:
    from xray_lazy.cluster.evaluator_job import submit_evaluators
    from xray_lazy.cluster.follow import require_one_job, stay_with
    from xray_lazy.cluster.planning import SubmitOptions, plan_jobs
    from xray_lazy.cluster.submission import submit_jobs
    from xray_lazy.cluster.tables import print_plan, print_request, print_submitted

    profile = load_profile(options.cluster, given_flags(options))
    names = ("config_file", "presets", "resume", "overwrite", "with_evaluator")
    request = SubmitOptions(overrides=overrides, **{name: getattr(options, name) for name in names})
    jobs = plan_jobs(request, profile)
    if options.follow:
        require_one_job([job.cfg.train.output_dir for job in jobs])
    print_request(len(jobs), profile)
    if options.dry_run:
        print_plan(jobs)
        return 0
    records = submit_jobs(jobs, request, profile)
    records += submit_evaluators(records)
    print_submitted(records)
    return stay_with(records, options.follow) if options.follow or options.wait else 0


def command_parser(command: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"submit.py {command}", description=COMMANDS[command].__doc__)
    parser.add_argument(
        "folders", nargs="+", type=path, metavar="FOLDER", help="the output folder of a job, or of an array"
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    if command == "resubmit":
        add_profile_flags(parser)
    return parser


def status(options: argparse.Namespace) -> None:
    """Show how jobs fare: their states, iterations, metrics, and why one failed."""
    from xray_lazy.cluster.job_record import newest_jobs
    from xray_lazy.cluster.status import read_status
    from xray_lazy.cluster.tables import print_statuses

    print_statuses(read_status(newest_jobs(options.folders)))


def follow(options: argparse.Namespace) -> int:
    """Show the live log of a job's first process until its end; Ctrl-C leaves the job running."""
    from xray_lazy.cluster.follow import stay_with
    from xray_lazy.cluster.job_record import newest_jobs

    return stay_with(newest_jobs(options.folders), with_log=True)


def wait(options: argparse.Namespace) -> int:
    """Wait until all jobs are over; Ctrl-C leaves them running."""
    from xray_lazy.cluster.follow import stay_with
    from xray_lazy.cluster.job_record import newest_jobs

    return stay_with(newest_jobs(options.folders), with_log=False)


def cancel(options: argparse.Namespace) -> None:
    """Cancel the jobs that wait or run; resubmit goes on from their last checkpoint."""
    from xray_lazy.cluster.cancelling import cancel, overwritten_runs
    from xray_lazy.cluster.job_record import newest_jobs

    cancelled = cancel(newest_jobs(options.folders))
    print(f"cancelled: {', '.join(record.job_id for record in cancelled)}" if cancelled else "no job waits or runs")
    for folder in overwritten_runs(cancelled):
        print(
            f"the run that was to be overwritten is in {folder}: move its files back to keep it, as a start deletes it"
        )


def resubmit(options: argparse.Namespace) -> None:
    """Submit jobs again that failed or were cancelled; they go on from their last checkpoint."""
    from xray_lazy.cluster.resubmission import resubmit
    from xray_lazy.cluster.tables import print_submitted

    flags = given_flags(options)
    changes = dataclasses.asdict(load_profile(options.cluster, flags)) if options.cluster else flags
    print_submitted(resubmit(options.folders, changes))


COMMANDS = {"status": status, "follow": follow, "wait": wait, "cancel": cancel, "resubmit": resubmit}


if __name__ == "__main__":
    command = sys.argv[1] if len(sys.argv) > 1 else ""
    if command in COMMANDS:
        arguments = command_parser(command).parse_args(sys.argv[2:])
        run_tool(lambda: COMMANDS[command](arguments), arguments.debug)
    else:
        arguments, config_overrides = parse_with_overrides(submit_parser())
        run_tool(lambda: submit(arguments, config_overrides), arguments.debug)
