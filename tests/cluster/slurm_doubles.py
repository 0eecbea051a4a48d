"""Commands in place of SLURM's, for answers that a working cluster does not give."""

import os


def put_into_path(folder, monkeypatch, **scripts):
    """Have each command, such as `squeue`, run a shell script."""
    folder.mkdir(exist_ok=True)
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/bash\n{script}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
