"""The tutorials as notebooks: `python docs/notebooks.py` writes docs/tutorials/NAME.ipynb from NAME.md.

A page is the source and its notebook is made from it, so that a text exists once. Notebooks hold no results: whoever
opens one runs it, and the tests do.
"""

from __future__ import annotations

from pathlib import Path

import jupytext
import nbformat

TUTORIALS = Path(__file__).parent / "tutorials"


def notebook_of(page: Path) -> nbformat.NotebookNode:
    """The notebook of a page: its ```python blocks are cells, everything between them is text."""
    notebook = jupytext.reads(page.read_text(encoding="utf-8"), fmt="md")
    notebook.metadata = nbformat.from_dict(
        {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    )
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"{page.stem}-{number}"  # a random one would change with every writing
        cell.metadata = nbformat.from_dict({})
    nbformat.validate(notebook)
    return notebook


def main() -> None:
    """Write the notebook of every tutorial beside it."""
    for page in sorted(TUTORIALS.glob("*.md")):
        nbformat.write(notebook_of(page), page.with_suffix(".ipynb"))


if __name__ == "__main__":
    main()
