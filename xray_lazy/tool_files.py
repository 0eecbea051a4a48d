"""Where the tools are: inside the package when installed from a wheel, else beside it in the checkout."""

from pathlib import Path


def tools_folder() -> Path:
    package = Path(__file__).resolve().parent
    installed = package / "tools"
    return installed if installed.is_dir() else package.parent / "tools"


def training_tool() -> Path:
    """tools/lazy_train.py."""
    return tools_folder() / "lazy_train.py"
