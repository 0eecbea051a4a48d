"""Stands for tools/lazy_train.py where a test is about the sweep: the same files, signals and exit codes, in 50 ms.

`KEY=VALUE ...`: `loss` is the first value of the metric, which falls by one at each iteration; `iterations`, `pause`
(seconds for each); `end`: how it ends, "crash", "user_error", "wordless", "kill", "not_finite", "no_metric" or as it
should.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

from xray_lazy.failure import Failure

settings = dict(word.split("=", 1) for word in sys.argv[1:])
folder = Path(settings["train.output_dir"])
end, count = settings.get("end", ""), int(settings.get("iterations", 3))
asked_to_stop = []
signal.signal(signal.SIGTERM, lambda *_: asked_to_stop.append(True))

last = folder / "last_checkpoint"
saved = last.read_text() if last.exists() else ""
done = count if saved == "model_final.pth" else int(saved[6:13]) + 1 if saved else 0
with open(folder / "starts.txt", "a") as starts:
    starts.write(f"{done} {os.environ.get('CUDA_VISIBLE_DEVICES')} {os.environ.get('OMP_NUM_THREADS')}\n")
print("training", flush=True)
for iteration in range(done, count):
    name = "total_los" if end == "no_metric" else "total_loss"
    value = None if end == "not_finite" else float(settings["loss"]) - iteration
    with open(folder / "metrics.json", "a") as metrics:
        metrics.write(json.dumps({"iteration": iteration, name: value}) + "\n")
    last.write_text(f"model_{iteration:07d}.pth")
    time.sleep(float(settings.get("pause", 0)))
    if asked_to_stop:
        sys.exit(0)
if end == "crash":
    Failure("OutOfMemoryError: CUDA out of memory\nTried to allocate 4 GiB", "run again with --debug").tell()
    sys.exit(1)
if end == "user_error":
    Failure("there are no images", exit_code=2).tell()
    sys.exit(2)
if end == "wordless":
    sys.exit(3)
if end == "kill":
    (folder / ".model_0000003.pth.abc.tmp").touch()
    os.kill(os.getpid(), signal.SIGKILL)
(folder / "model_final.pth").touch()
last.write_text("model_final.pth")
