"""What is installed, which devices there are, what is missing and how to fix it: `python -m xray_lazy.env`.

Nothing here may fail because something else is broken: every import of another package is guarded.
"""

import configparser
import contextlib
import importlib
import importlib.metadata
import importlib.util
import netrc
import os
import platform
import shutil
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from xray_lazy.utils.wording import counted

# What a package is called here, and the distributions that bring it, best first.
DISTRIBUTIONS = {
    "xray-lazy": ("xray-lazy",),
    "torch": ("torch",),
    "torchvision": ("torchvision",),
    "detectron2": ("detectron2", "sal-detectron2"),
    "numpy": ("numpy",),
    "opencv": ("opencv-python", "opencv-python-headless", "opencv-contrib-python"),
    "pillow": ("pillow",),
    "omegaconf": ("omegaconf",),
    "hydra": ("hydra-core",),
    "hotcoco": ("hotcoco",),
    "pycocotools": ("pycocotools",),
    "tensorboard": ("tensorboard",),
    "wandb": ("wandb",),
    "submitit": ("submitit",),
}
# The packages whose module has another name, and those that training can do without.
MODULES = {"xray-lazy": "xray_lazy", "opencv": "cv2", "pillow": "PIL"}
OPTIONAL = {"tensorboard", "wandb", "submitit"}
SLURM_COMMANDS = ("sbatch", "srun", "squeue", "sacct")
GIBIBYTE = 2**30


@dataclass(frozen=True)
class Problem:
    """Something missing or unfit, and the command that mends it; `needed` where training can't run without."""

    what: str
    fix: str
    needed: bool = True


def versions() -> dict[str, str | None]:
    """The versions of Python and of the packages that matter, None where one isn't installed; imports none of them."""
    return {"python": platform.python_version(), **{name: _installed(name)[1] for name in DISTRIBUTIONS}}


def devices() -> list[str]:
    """The GPUs with their memory, or the CPU where there is none or torch is unusable."""
    return _gpus() or [_cpu()]


def machine() -> dict[str, str | int | None]:
    """What else results and speed may depend on: system, processor, memory, CUDA, the Python that runs."""
    torch = sys.modules.get("torch")
    return {
        "os": platform.platform(),
        "python": sys.executable,
        "cpu": _cpu(),
        "memory_gib": round(_memory() / GIBIBYTE),
        "cuda": getattr(getattr(torch, "version", None), "cuda", None),
        "slurm_job": os.environ.get("SLURM_JOB_ID"),
    }


def wandb_login() -> str | None:
    """Where W&B's credentials come from (never what they are); None where nobody is logged in."""
    for variable in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"):
        if os.environ.get(variable):
            return variable
    path = Path(os.environ.get("NETRC") or _first_file(Path.home() / ".netrc", Path.home() / "_netrc"))
    try:
        entry = netrc.netrc(path).authenticators(urlsplit(wandb_server()).netloc)
    except (OSError, netrc.NetrcParseError):
        return None
    return str(path) if entry else None


def wandb_server() -> str:
    """The server's address: from the environment, else as `wandb login --host` has saved it, else the public one."""
    settings = configparser.ConfigParser(interpolation=None)
    folder = Path(os.environ.get("WANDB_CONFIG_DIR") or Path.home() / ".config" / "wandb")
    with contextlib.suppress(OSError, configparser.Error):
        settings.read(folder / "settings")
    saved = settings.get("default", "base_url", fallback="https://api.wandb.ai")
    return os.environ.get("WANDB_BASE_URL") or saved


def find_problems() -> list[Problem]:
    """Everything that is missing or doesn't fit, what is needed first."""
    broken = {name: problem for name in DISTRIBUTIONS if (problem := _import_problem(name))}
    for name, base in (("detectron2", "torchvision"), ("detectron2", "torch"), ("torchvision", "torch")):
        if base in broken and _installed(name)[1]:
            broken.pop(name, None)  # it fails along with what it depends on; its own state shows once that is mended
    problems = [*broken.values(), *_pkg_resources_problem(), *([] if "torch" in broken else _unused_gpu_problem())]
    return sorted(problems, key=lambda problem: not problem.needed)


def main() -> int:
    """Print the report; 0 where training can run, 2 where something needed is missing."""
    problems = find_problems()
    _print_report(_report_rows(problems), problems)
    return 2 if any(problem.needed for problem in problems) else 0


def _installed(name: str) -> tuple[str, str | None]:
    """The distribution that brings `name`, and its version or None."""
    for distribution in DISTRIBUTIONS[name]:
        try:
            return distribution, importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return DISTRIBUTIONS[name][0], None


def _import_problem(name: str) -> Problem | None:
    module, needed = MODULES.get(name, name), name not in OPTIONAL
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module(module)
            if name == "torchvision":
                _call_operator()
            if importlib.util.find_spec(module).origin is None:
                raise ModuleNotFoundError(f"No module named {module!r}", name=module)  # an empty folder of that name
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == module and not _installed(name)[1]:
            return Problem(f"{name} is not installed", _install_command(name), needed)
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return Problem(
            f"{name} {_installed(name)[1] or ''} does not load: {reason}", _mend_command(name, error), needed
        )
    return None


def _call_operator() -> None:
    """Run one of torchvision's compiled operators; it isn't there when torchvision was built for another torch."""
    import torch
    import torchvision

    torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)


def _install_command(name: str) -> str:
    if name == "detectron2":
        return "python -m xray_lazy.install_detectron2"
    return f"pip install {DISTRIBUTIONS[name][0]}"


def _mend_command(name: str, error: Exception) -> str:
    if name == "detectron2":
        return "python -m xray_lazy.install_detectron2 --force"
    if name == "opencv" and ".so" in str(error):
        # the plain package needs the libraries of a desktop
        return "pip uninstall -y opencv-python && pip install opencv-python-headless"
    if name == "torchvision":
        build = (_installed("torch")[1] or "").partition("+")[2]
        index = f" --index-url https://download.pytorch.org/whl/{build}" if build else ""
        return f"pip install --force-reinstall torch torchvision{index}  (both from the same index)"
    return f"pip install --force-reinstall {_installed(name)[0]}"


def _pkg_resources_problem() -> list[Problem]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module("pkg_resources")
        return []
    except ImportError:
        pass
    what = "detectron2's model zoo needs pkg_resources, which left setuptools in 81"
    return [Problem(what, 'pip install "setuptools<81"')]


def _unused_gpu_problem() -> list[Problem]:
    import torch

    if torch.cuda.is_available() or "CUDA_VISIBLE_DEVICES" in os.environ or not shutil.which("nvidia-smi"):
        return []
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=10).stdout.count("GPU ")
    except (OSError, subprocess.SubprocessError):
        return []
    if not listed:
        return []
    what = f"the driver shows {counted(listed, 'GPU')}, but torch {torch.__version__} can use none"
    return [Problem(what, "install the torch build for the driver's CUDA: https://pytorch.org/get-started", False)]


def _report_rows(problems: list[Problem]) -> list[tuple[str, str]]:
    found = versions()
    rows = [("python", f"{found.pop('python')}  {sys.executable}")]
    rows += [(name, _package_note(name, version)) for name, version in found.items()]
    free = shutil.disk_usage(Path.cwd()).free / GIBIBYTE
    slurm = [command for command in SLURM_COMMANDS if shutil.which(command)]
    rows += [
        ("", ""),
        *[("GPU", gpu) for gpu in _gpus() or ["none"]],
        ("CPU", _cpu()),
        ("memory", f"{_memory() / GIBIBYTE:.0f} GiB"),
        ("disk", f"{free:.0f} GiB free in {Path.cwd()}"),
        ("SLURM", ", ".join(slurm) or "not on this machine"),
        ("W&B", _wandb_note(found["wandb"])),
        ("data sets", _data_note()),
    ]
    return rows


def _package_note(name: str, version: str | None) -> str:
    module = sys.modules.get(MODULES.get(name, name))
    if version is None and getattr(module, "__file__", None):
        return f"{getattr(module, '__version__', 'of unknown version')}  from {Path(module.__file__).parent}"
    if version is None:
        return "not installed" + (" (optional)" if name in OPTIONAL else "")
    if name == "torch" and hasattr(module, "version"):
        return f"{version}  " + (f"CUDA {module.version.cuda}" if module.version.cuda else "CPU only")
    distribution = _installed(name)[0]
    return version if distribution == DISTRIBUTIONS[name][0] else f"{version}  from {distribution}"


def _wandb_note(version: str | None) -> str:
    if version is None:
        return "not installed: nothing is logged there"
    login = wandb_login()
    return f"logged in by {login}" if login else "not logged in: runs are recorded offline"


def _data_note() -> str:
    from xray_lazy.data.dataset_places import available_datasets, default_root

    names = available_datasets()
    if names:
        return f"{', '.join(names)}  in {default_root()}"
    return f"none in {default_root()}; make one: python tools/dataset.py demo, or set XRAY_DATASETS"


def _print_report(rows: list[tuple[str, str]], problems: list[Problem]) -> None:
    needed = sum(problem.needed for problem in problems)
    verdict = f"training can't run: {counted(needed, 'problem')} to fix" if needed else "training can run"
    try:
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table
    except ImportError:
        print("\n".join(f"{name:<14}{value}" for name, value in rows) + "\n")
        for problem in problems:
            print(f"{problem.what}\n  fix: {problem.fix}")
        print(verdict)
        return
    console = Console(highlight=False)
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, escape(value), style="red" if value == "not installed" else None)
    console.print(table, "")
    for problem in problems:
        color = "red" if problem.needed else "yellow"
        console.print(f"[{color}]{escape(problem.what)}[/]\n  fix: {escape(problem.fix)}", soft_wrap=True)
    console.print(f"[bold {'red' if needed else 'green'}]{verdict}[/]")


def _gpus() -> list[str]:
    try:
        import torch

        found = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    except Exception:
        return []
    return [f"{gpu.name}, {gpu.total_memory / GIBIBYTE:.0f} GiB" for gpu in found]


def _cpu() -> str:
    return f"{_cpu_name()}, {counted(_cpu_count(), 'core')}"


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _cpu_count() -> int:
    """The cores that this process may use: fewer than the machine's in a container or a job."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory() -> int:
    """The machine's memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _first_file(*paths: Path) -> Path:
    return next((path for path in paths if path.is_file()), paths[0])


if __name__ == "__main__":
    sys.exit(main())
