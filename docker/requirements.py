"""What an image installs besides the project: its packages, those of some extras, and Jupyter, one a line."""

import sys
import tomllib

EXTRAS = ("timm", "onnx", "serve")
ALSO = ("hatchling", "editables", "jupyterlab")  # the project is installed with the first two; no build fetches them

with open(sys.argv[1], "rb") as file:
    project = tomllib.load(file)["project"]
extras = [package for extra in EXTRAS for package in project["optional-dependencies"][extra]]
print(*project["dependencies"], *extras, *ALSO, sep="\n")
