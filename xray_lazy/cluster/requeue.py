"""Why SLURM asks a job to leave, and how the job goes back into the queue."""

import datetime
import os
import subprocess
import time

# SLURM's times have a resolution of up to a minute
RESOLUTION_SECONDS = 60
SHORT_LIMIT_MINUTES = 10
ANSWER_SECONDS = 30


def reason_to_leave(job_id: str, signal_delay: float) -> str:
    """Ask SLURM: "preempted", "time limit", "cancelled" (or put back by hand), or "signal" where somebody has sent one.

    Args:
        job_id: also one of an array, such as "19_0".
        signal_delay: seconds before the time limit at which the job wanted to be signalled.
    """
    facts = job_facts(job_id)
    preempted, started = facts.get("PreemptTime", "None"), facts.get("StartTime", "")
    if preempted != "None" and preempted >= started:  # ISO times; an earlier start's may still be there
        return "preempted"
    if facts.get("JobState") in ("CANCELLED", "COMPLETING"):
        return "cancelled"
    end = facts.get("EndTime", "Unknown")
    if end != "Unknown":
        left = datetime.datetime.fromisoformat(end) - datetime.datetime.now()
        if left.total_seconds() <= signal_delay + RESOLUTION_SECONDS:
            return "time limit"
    return "signal"


def job_facts(job_id: str) -> dict[str, str]:
    """What `scontrol show job` tells; empty where SLURM does not answer."""
    command = ["scontrol", "--oneliner", "show", "job", job_id]
    # users may have set another format of times for all of SLURM's commands
    environment = {**os.environ, "SLURM_TIME_FORMAT": "standard"}
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_SECONDS, env=environment)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return dict(word.split("=", 1) for word in answer.stdout.split() if "=" in word)


def requeue(job_id: str, attempts: int = 3) -> str:
    """Put the job back into the queue, which ends all its processes; returns SLURM's objection, or ""."""
    objection = ""
    for attempt in range(attempts):
        if attempt:
            time.sleep(2)
        try:
            answer = subprocess.run(
                ["scontrol", "requeue", job_id], capture_output=True, text=True, timeout=ANSWER_SECONDS
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            objection = str(error)
            continue
        if answer.returncode == 0:
            return ""
        objection = answer.stderr.strip()
    return objection


def time_limit_warnings(minutes: float, signal_delay: float) -> list[str]:
    """Notes for the user on a job with this time limit, a line each.

    Args:
        minutes: the time limit.
        signal_delay: seconds before the limit at which the job is told to save and leave.
    """
    warnings = []
    seconds = minutes * 60
    if signal_delay * 2 > seconds:
        warnings.append(
            f"the job is told to leave {signal_delay:.0f} s before its limit of {seconds:.0f} s: most of its time goes "
            "unused; lower the signal delay or raise the time limit"
        )
    if minutes < SHORT_LIMIT_MINUTES:
        warnings.append(
            f"a time limit of {minutes:g} minutes is short: start-up and waiting in the queue come again with each "
            "requeue, and each uses up one of the time-outs that the job may have"
        )
    return warnings
