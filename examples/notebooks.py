"""Write the notebooks here from the scripts, in which `# %%` begins a cell: `python examples/notebooks.py`."""

import json
import re
from pathlib import Path

HERE = Path(__file__).resolve().parent
SCRIPTS = ("cnn", "language_model")


def cells(script: str) -> list[tuple[str, str]]:
    """The kind and the text of each cell of a script."""
    found = []
    for mark, body in re.findall(r"^# %%( \[markdown\])?\n(.*?)(?=^# %%|\Z)", script, re.MULTILINE | re.DOTALL):
        text = re.sub(r"^# ?", "", body, flags=re.MULTILINE) if mark else body
        found.append(("markdown" if mark else "code", text.strip("\n")))
    return found


def notebook(script: str) -> str:
    """The JSON of a notebook (format 4.5), without outputs."""
    written = []
    for i, (kind, text) in enumerate(cells(script)):
        code = {"execution_count": None, "outputs": []} if kind == "code" else {}
        written.append(
            {"cell_type": kind, "id": f"cell-{i}", "metadata": {}, "source": text.splitlines(keepends=True), **code}
        )
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    whole = {"cells": written, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name in SCRIPTS:
        script = (HERE / f"{name}.py").read_text(encoding="utf-8")
        (HERE / f"{name}.ipynb").write_text(notebook(script), encoding="utf-8")
