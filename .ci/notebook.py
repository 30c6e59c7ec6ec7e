#!/usr/bin/env python3
"""Run a notebook from top to bottom in a kernel of its own, and fail where a cell does.

python .ci/notebook.py docs/examples/3_train.ipynb
"""

import logging
import sys
import tempfile

import nbformat
from nbclient import NotebookClient

logging.disable()  # words on the transport between this program and its kernel
notebook = nbformat.read(sys.argv[1], as_version=4)
with tempfile.TemporaryDirectory() as folder:
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": folder}}).execute()
cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
pictures = sum("image/png" in output.get("data", {}) for cell in cells for output in cell.outputs)
print(f"{len(cells)} cells ran, {pictures} pictures")
sys.exit(not pictures)
