"""Put detectron2 in without a compiler: `python -m xray_lazy.install_detectron2`.

PyPI has detectron2 only as the wheel of another project, `sal-detectron2`, whose Python files equal upstream's.
It is fetched by its sha256, stripped of what must not be on our path, and installed for the running Python.
`--from-source` builds upstream's own repository instead (internet and a C++ compiler needed).

Standard library only: this runs before anything else is installed.
"""

import argparse
import base64
import hashlib
import importlib.metadata
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

NAME, VERSION = "sal-detectron2", "0.7.2"
SHA256 = "491af0c7f79bdb2d178e46f6cb16a97c4ac968d45c41ea3f6b6435d59bbee561"
UPSTREAM = "git+https://github.com/facebookresearch/detectron2.git"

# `tools` would shadow everybody's own tools/ folder; the extension fits one Python and one torch only,
# and detectron2 guards each of its uses.
UNWANTED_PREFIXES = ("tools/", "detectron2/_C.")


def is_installed() -> bool:
    """Whether detectron2, from either source, is there already."""
    for name in (NAME, "detectron2"):
        try:
            importlib.metadata.version(name)
            return True
        except importlib.metadata.PackageNotFoundError:
            continue
    return False


def fetch_wheel(folder: Path) -> Path:
    """Download the wheel into `folder`; pip refuses a file with another hash."""
    requirement = folder / "requirement.txt"
    requirement.write_text(f"{NAME}=={VERSION} --hash=sha256:{SHA256}\n")
    wheel_tags = ("--python-version=3.10", "--implementation=cp", "--abi=none", "--platform=any")
    options = ("--no-deps", "--require-hashes", "--only-binary=:all:", *wheel_tags)
    pip("download", *options, "--dest", str(folder), "-r", str(requirement))
    return next(folder.glob("*.whl"))


def retag_wheel(source: Path, folder: Path) -> Path:
    """Copy a wheel's Python files into a new wheel that any Python 3 accepts; returns the new wheel."""
    target = folder / f"{NAME.replace('-', '_')}-{VERSION}-py3-none-any.whl"
    record = []
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            if name.startswith(UNWANTED_PREFIXES) or name.endswith(("/", ".dist-info/RECORD")):
                continue
            content = rewrite_metadata(name, old.read(name))
            new.writestr(name, content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            record.append(f"{name},sha256={digest},{len(content)}")
        record_name = f"{NAME.replace('-', '_')}-{VERSION}.dist-info/RECORD"
        new.writestr(record_name, "\n".join([*record, f"{record_name},,"]) + "\n")
    return target


def rewrite_metadata(name: str, content: bytes) -> bytes:
    """The wheel's tags as they now are, and no requirements: pyproject.toml states those that are needed."""
    if name.endswith(".dist-info/WHEEL"):
        return b"Wheel-Version: 1.0\nGenerator: xray-lazy\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    if name.endswith(".dist-info/METADATA"):
        return b"".join(line for line in content.splitlines(True) if not line.startswith(b"Requires-Dist:"))
    if name.endswith(".dist-info/top_level.txt"):
        return b"detectron2\n"
    return content


def pip(*arguments: str) -> None:
    """Run this Python's pip, quietly.

    Raises:
        SystemExit: pip failed; it has printed why.
    """
    code = subprocess.call([sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments])
    if code:
        sys.exit(f"error: pip {arguments[0]} failed; its message is above")


def main() -> None:
    parser = argparse.ArgumentParser(description="Install detectron2 without a compiler (hash-checked wheel).")
    parser.add_argument("--from-source", action="store_true", help="build upstream's repository instead")
    parser.add_argument("--force", action="store_true", help="install even where detectron2 is there already")
    options = parser.parse_args()
    if is_installed() and not options.force:
        print("detectron2 is installed")
    elif options.from_source:
        pip("install", "--no-build-isolation", UPSTREAM)
    else:
        with tempfile.TemporaryDirectory() as folder:
            wheel = retag_wheel(fetch_wheel(Path(folder)), Path(folder))
            pip("install", "--no-deps", "--force-reinstall", str(wheel))


if __name__ == "__main__":
    main()
