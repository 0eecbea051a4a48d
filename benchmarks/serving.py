"""A server under load, on loopback: latency, whose answers are whose, what is refused, and memory.

`python -m benchmarks.serving OUTPUT_DIR IMAGES --requests 10000 --clients 32`: each client sends one image after the
other under a name of its own, and one file in fifty is none. All answers are held against those that the same images
got one by one before.
"""

import argparse
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from threading import local

import numpy as np
import requests

from xray_lazy.tool_files import tools_folder

# what no server should take, by name: and the statuses that refuse it
BAD = {"text.png": (b"not an image", {422}), "empty.jpg": (b"", {422}), "cut_off.jpg": (b"\xff\xd8\xff\xe0", {422})}
BAD_EVERY, TOLD_EVERY = 50, 1000
PIXELS, SCORE = 0.05, 1e-3  # by which equal answers may differ: rounding depends on the batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a training's output folder")
    parser.add_argument("images", type=Path, help="a folder")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=32)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, tools_folder() / "serve.py", options.run, "--port", "0", "--corrections", folder]
        server = subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, text=True)
        try:
            address = re.search(r"http://\S+?(?=/ )", server.stdout.readline())[0]
            measure(address, sorted(options.images.iterdir()), options.requests, options.clients)
        finally:
            server.terminate()
            server.wait()


def measure(address: str, images: list[Path], number: int, clients: int) -> None:
    contents = {path.name: path.read_bytes() for path in images}
    with requests.Session() as alone:
        expected = {name: ask(alone, address, name, data)[1] for name, data in contents.items()}
        print(f"{len(contents)} images, {sum(len(found) for found in expected.values())} items")
        memory, outcomes, seconds, names = [memory_of(alone, address)], Counter(), [], list(contents)
        own, started = local(), count()

        def one(place: int) -> tuple[str, float]:
            session = own.__dict__.setdefault("session", requests.Session())
            if place % TOLD_EVERY == TOLD_EVERY - 1:
                memory.append(memory_of(session, address))
            if place % BAD_EVERY == BAD_EVERY - 1:
                name = list(BAD)[next(started) % len(BAD)]
                data, statuses = BAD[name]
                return ("refused" if ask(session, address, name, data)[0] in statuses else "TAKEN"), 0.0
            source = names[place % len(names)]
            sent, start = f"{place}_{source}", time.perf_counter()
            status, found = ask(session, address, sent, contents[source])
            taken = time.perf_counter() - start
            if status != 200:
                return f"status {status}", taken
            return ("equal" if same(found, expected[source]) else "ANOTHER ANSWER"), taken

        start = time.perf_counter()
        with ThreadPoolExecutor(clients) as pool:
            for outcome, taken in pool.map(one, range(number)):
                outcomes[outcome] += 1
                seconds += [taken] if outcome == "equal" else []
        wall = time.perf_counter() - start
    half, most, last = np.percentile(seconds, [50, 95, 99]) * 1000
    print(f"{number} requests of {clients} clients in {wall:.0f} s ({number / wall:.1f}/s): {dict(outcomes)}")
    print(f"latency at 50 / 95 / 99 %: {half:.0f} / {most:.0f} / {last:.0f} ms")
    print(f"resident memory, MB, every {TOLD_EVERY} requests: {memory}")
    print(f"of this client: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


def ask(session: requests.Session, address: str, name: str, data: bytes) -> tuple[int, list]:
    """Status, and what was found under this very name."""
    answer = session.post(f"{address}/api/detect", files={"files": (name, data)}, timeout=600)
    if answer.status_code != 200:
        return answer.status_code, []
    (image,) = answer.json()["images"]
    return (200 if image["name"] == name else -1), image["detections"]


def same(found: list[dict], expected: list[dict]) -> bool:
    return len(found) == len(expected) and all(
        one["class"] == other["class"]
        and np.allclose(one["bbox"], other["bbox"], atol=PIXELS)
        and abs(one["score"] - other["score"]) < SCORE
        for one, other in zip(found, expected, strict=True)
    )


def memory_of(session: requests.Session, address: str) -> int:
    text = session.get(f"{address}/metrics", timeout=600).text
    return round(float(re.search(r"^process_resident_memory_bytes (\S+)", text, re.MULTILINE)[1]) / 2**20)


if __name__ == "__main__":
    main()
