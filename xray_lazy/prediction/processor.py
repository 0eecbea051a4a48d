"""What the speed of a network depends on, on a CPU: the processor, its instructions and the number of threads."""

import platform
from pathlib import Path

import torch

from xray_lazy.utils.wording import counted

INSTRUCTIONS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimddp", "bf16")


def processor() -> str:
    """Such as `Intel(R) Xeon(R) 2.50GHz (avx2 avx512f avx512_vnni), 1 thread`."""
    facts: dict[str, str] = {}
    info = Path("/proc/cpuinfo")
    if info.is_file():  # of Linux; elsewhere the name alone
        for line in info.read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            facts.setdefault(name.strip().lower(), value.strip())
    name = facts.get("model name") or platform.processor() or platform.machine()
    there = (facts.get("flags") or facts.get("features") or "").split()
    known = " ".join(one for one in INSTRUCTIONS if one in there)
    return f"{name}{f' ({known})' if known else ''}, {counted(torch.get_num_threads(), 'thread')}"
