"""Which task of which job this process is, from the environment that submitit's executors make."""

import os
import socket
from dataclasses import dataclass

FIRST_PORT, PORTS = 15000, 15000  # away from those that systems hand out by themselves


@dataclass(frozen=True)
class Task:
    """One process of a job.

    Attributes:
        job_id: the scheduler's, such as "17", or "19_0" in an array.
        rank, tasks: this task's rank and the number of tasks.
        local_rank, nodes: where it is.
        start: number of this start of the job, from 1; a requeued job counts on.
        host: the node's name.
        log: file with what this task prints.
        on_slurm: whether there is a queue to go back to.
    """

    job_id: str
    rank: int = 0
    tasks: int = 1
    local_rank: int = 0
    nodes: int = 1
    start: int = 1
    host: str = ""
    log: str = ""
    on_slurm: bool = False

    @classmethod
    def of_environment(cls) -> "Task":
        """The task that submitit has started this process as."""
        from submitit import JobEnvironment

        submitted = JobEnvironment()
        return cls(
            job_id=submitted.job_id,
            rank=submitted.global_rank,
            tasks=submitted.num_tasks,
            local_rank=submitted.local_rank,
            nodes=submitted.num_nodes,
            start=int(os.environ.get("SLURM_RESTART_COUNT", 0)) + 1,
            host=os.environ.get("SLURMD_NODENAME") or socket.gethostname(),
            log=str(submitted.paths.stdout),
            on_slurm=submitted.cluster == "slurm",
        )

    def group_environment(self) -> dict[str, str]:
        """What a run must be told to find the other tasks; srun's own variables tell it on SLURM."""
        if self.on_slurm or self.tasks == 1:
            return {}
        return {
            "TORCHELASTIC_RUN_ID": self.job_id,
            "RANK": str(self.rank),
            "LOCAL_RANK": str(self.local_rank),
            "WORLD_SIZE": str(self.tasks),
            "LOCAL_WORLD_SIZE": str(self.tasks // self.nodes),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(FIRST_PORT + int(self.job_id) % PORTS),
        }
