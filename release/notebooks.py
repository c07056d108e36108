"""docs/examples/*.py as notebooks that were run: pages of the site, and files for Jupyter.

    python release/notebooks.py build/notebooks

The scripts are the source, in Jupytext's percent format. As a hook of MkDocs this gives every one a page of Markdown
with its outputs, and the notebook beside it. Each runs in an empty folder; one that raises, raises here.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from mkdocs.structure.files import File
from nbclient import NotebookClient
from traitlets.config import Config

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
WIDTH = "82"
"""Columns of tables that are printed: what a page has room for."""
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def run(script: Path) -> Any:
    """The notebook of a script, with what its cells print. Raises nbclient's CellExecutionError."""
    notebook = jupytext.read(script)
    notebook.metadata = {"kernelspec": KERNEL}
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as sockets:
        chosen = Config({"KernelManager": {"transport": "ipc", "ip": f"{sockets}/kernel"}})  # no port for all to see
        client = NotebookClient(notebook, config=chosen, resources={"metadata": {"path": folder}}, timeout=300)
        client.execute(env={**os.environ, "COLUMNS": WIDTH})
    for number, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{number}", {}  # neither chance nor times
        if cell.cell_type == "code":
            cell.outputs = [each for each in cell.outputs if each.get("name") != "stderr"]
    return notebook


def page(notebook: Any, name: str) -> str:
    """Markdown: texts, code, and below it what it printed."""
    parts = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
        else:
            parts.append(f"```python\n{cell.source}\n```")
            parts += [f'```{{ .text title="prints" }}\n{told}\n```' for told in map(_text, cell.outputs) if told]
    return "\n\n".join([*parts, f"[This page as a notebook]({name}.ipynb){{ download }}"])


def _text(output: Any) -> str:
    """What a cell printed, or gave, without colours."""
    told = output.get("text") or output.get("data", {}).get("text/plain", "")
    return _COLOURS.sub("", told).rstrip()


def on_files(files: Any, config: Any) -> Any:
    """MkDocs calls this with what it found in docs/."""
    for script in sorted(EXAMPLES.glob("*.py")):
        notebook, name = run(script), script.stem
        files.append(File.generated(config, f"examples/{name}.md", content=page(notebook, name)))
        files.append(File.generated(config, f"examples/{name}.ipynb", content=nbformat.writes(notebook)))
    return files


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for script in sorted(EXAMPLES.glob("*.py")):
        nbformat.write(run(script), folder / f"{script.stem}.ipynb")


if __name__ == "__main__":
    main()
