"""The wheel of detectron2 is made fit for any Python 3, without what would get in our way."""

import subprocess
import sys
import zipfile

import pytest

from xray_lazy.install_detectron2 import retag_wheel

pytestmark = pytest.mark.slow

CONTENT = {
    "detectron2/__init__.py": "__version__ = '0.6'\n",
    "detectron2/_C.cpython-310-x86_64-linux-gnu.so": "binary",
    "tools/__init__.py": "",
    "sal_detectron2-0.7.2.dist-info/WHEEL": "Wheel-Version: 1.0\nTag: cp310-cp310-linux_x86_64\n",
    "sal_detectron2-0.7.2.dist-info/METADATA": (
        "Metadata-Version: 2.1\nName: sal-detectron2\nVersion: 0.7.2\nRequires-Dist: numpy<2\n"
    ),
    "sal_detectron2-0.7.2.dist-info/top_level.txt": "detectron2\ntools\n",
    "sal_detectron2-0.7.2.dist-info/RECORD": "",
}


@pytest.fixture
def retagged(tmp_path):
    source = tmp_path / "sal_detectron2-0.7.2-cp310-none-any.whl"
    with zipfile.ZipFile(source, "w") as wheel:
        for name, content in CONTENT.items():
            wheel.writestr(name, content)
    return retag_wheel(source, tmp_path)


def test_neither_a_top_level_tools_package_nor_an_extension_is_left(retagged):
    names = zipfile.ZipFile(retagged).namelist()
    assert "detectron2/__init__.py" in names
    assert not [name for name in names if name.startswith("tools") or "_C." in name]


def test_pip_installs_it_for_this_python_without_asking_for_an_old_numpy(retagged, tmp_path):
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--target", tmp_path / "site", retagged]
    subprocess.run(install, check=True)
    assert (tmp_path / "site" / "detectron2" / "__init__.py").is_file()
