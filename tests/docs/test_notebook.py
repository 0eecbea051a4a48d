"""The tutorial's notebook runs from its first cell to its last."""

import json
import os
from pathlib import Path

import nbformat
import pytest
from execute_notebook import NOTEBOOK, execute
from generated_pages import notebook_page

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tutorial")
    before = dict(os.environ)
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield folder, execute(images=16, iterations=2, folder=str(folder))
    finally:
        os.environ.clear()
        os.environ.update(before)


@pytest.mark.slow
def test_it_leaves_what_it_tells_of(executed):
    folder, _ = executed
    assert (folder / "repaired.json").is_file()
    assert len(list((folder / "datasets/annotations/demo").glob("*.json"))) == 3
    assert (folder / "run/model_best.pth").is_file() and (folder / "run/report.html").stat().st_size > 50_000
    assert json.loads((folder / "predictions/predictions.json").read_text()) is not None
    assert (folder / "analysis/analysis.json").is_file() and (folder / "model.onnx").stat().st_size > 1_000_000


@pytest.mark.slow
def test_its_tools_report_no_error(executed):
    """A command of the shell that fails does not end a cell."""
    _, notebook = executed
    texts = [output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", ())]
    assert texts and not [text for text in texts if "Traceback" in text or "error:" in text]


@pytest.mark.slow
def test_it_shows_images(executed):
    _, notebook = executed
    shown = [output.data for cell in notebook.cells for output in cell.get("outputs", ()) if "data" in output]
    assert sum("image/jpeg" in data or "image/png" in data for data in shown) == 4


def test_the_page_has_text_code_and_outputs_in_order(tmp_path):
    notebook = nbformat.v4.new_notebook()
    cell = nbformat.v4.new_code_cell("1 + 1")
    cell.outputs = [nbformat.v4.new_output("execute_result", data={"text/plain": "2"})]
    image = nbformat.v4.new_code_cell("show()")
    image.outputs = [nbformat.v4.new_output("display_data", data={"image/png": "AAAA", "text/plain": "<Figure>"})]
    notebook.cells = [nbformat.v4.new_markdown_cell("# Title"), cell, image]
    nbformat.write(notebook, tmp_path / "a.ipynb")
    page = notebook_page(tmp_path / "a.ipynb")
    parts = ("# Title", "```python\n1 + 1\n```", "```text\n2\n```", "data:image/png;base64,AAAA")
    order = [page.index(part) for part in parts]
    assert order == sorted(order) and "<Figure>" not in page


def test_the_stored_notebook_is_small():
    assert NOTEBOOK.stat().st_size < 1_500_000
