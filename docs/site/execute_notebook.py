"""Run the tutorial's notebook; as a program, keep what it shows in docs/tutorial.ipynb."""

from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "tutorial.ipynb"


def execute(**parameters: int | str) -> nbformat.NotebookNode:
    """The notebook with outputs; `parameters` replace those of its first cell of code.

    Raises:
        CellExecutionError: a cell fails.
    """
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    if parameters:
        cell = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ()))
        cell.source = "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
    settings = {"metadata": {"path": str(NOTEBOOK.parent)}}
    NotebookClient(notebook, timeout=3600, resources=settings, record_timing=False).execute()
    return notebook


if __name__ == "__main__":
    nbformat.write(execute(), NOTEBOOK)
