"""Run the notebooks of docs/notebooks, and write them as Markdown pages with their outputs.

    python docs/make_notebooks.py [NAME ...] [--out build/notebooks]

Each notebook runs from top to bottom in an empty folder. The program stops at an error. It also stops at a warning, at
a picture without a text alternative, and at an output that names the folder: readers would see all of these.

The text alternative of a figure is in the metadata of its cell, as `alt`. Detections describe themselves.
"""

import argparse
import base64
import os
import re
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "notebooks"
SECONDS = 600  # of one cell, at most
_INSTALL_WIDGETS = "TqdmWarning: IProgress not found"  # advice: without ipywidgets, the progress bar is text


class OutputError(Exception):
    """A notebook shows something that readers should not see."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = sorted(file.stem for file in FOLDER.glob("*.ipynb"))
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"notebooks to run (default: all): {', '.join(known)}")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for the pages: NAME.md, NAME-1.png, ...")
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(known))
    if unknown:
        parser.error(f"there is no notebook {unknown[0]}; there are: {', '.join(known)}")
    total = time.monotonic()
    for name in options.names or known:
        start = time.monotonic()
        try:
            text, pictures = page(run(name), name)
        except OutputError as error:
            sys.exit(f"{name}.ipynb, {error}")
        if options.out is not None:
            write_page(text, pictures, name, options.out)
        print(f"{name}: {time.monotonic() - start:.0f} s", flush=True)
    print(f"all: {time.monotonic() - total:.0f} s")


def run(name: str) -> Any:
    """The notebook with its outputs.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell raised an error.
        OutputError: see the module.
    """
    import nbformat  # here, so that tests of the pages do not need it
    from nbclient import NotebookClient

    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    codes = [index for index, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    with tempfile.TemporaryDirectory() as settings, tempfile.TemporaryDirectory() as folder:
        os.environ["IPYTHONDIR"] = settings  # neither the user's settings nor the user's history
        client = NotebookClient(
            notebook,
            timeout=SECONDS,
            startup_timeout=SECONDS,
            kernel_name="python3",
            coalesce_streams=True,
            resources={"metadata": {"path": folder}},
        )
        manager = client.create_kernel_manager()
        manager.transport = "ipc"  # files in a private folder, not ports that other users could connect to
        manager.connection_file = str(Path(settings, "kernel.json"))
        with client.setup_kernel():
            for number, index in enumerate(codes, start=1):
                cell, start = notebook.cells[index], time.monotonic()
                client.execute_cell(cell, index)
                check_outputs(cell, folder)
                seconds = time.monotonic() - start
                print(f"  {name}, cell {number} of {len(codes)}, {cell.id}: {seconds:.1f} s", flush=True)
    return notebook


def check_outputs(cell: Mapping[str, Any], folder: str) -> None:
    """Raises OutputError for a warning, and for a text with the path of the folder."""
    for output in cell["outputs"]:
        for line in output["text"].splitlines() if output.get("name") == "stderr" else ():
            if "warning" in line.lower() and _INSTALL_WIDGETS not in line:
                raise OutputError(f"cell {cell['id']}: {line.strip()}")
        if folder in _printed(output):
            raise OutputError(f"cell {cell['id']}: an output names the folder {folder}; use relative paths")


def write_page(text: str, pictures: Mapping[str, bytes], name: str, out: Path) -> None:
    """Write NAME.md and its pictures."""
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob(f"{name}-*.png"):
        old.unlink()
    for file, content in pictures.items():
        (out / file).write_bytes(content)
    (out / f"{name}.md").write_text(text, encoding="utf-8")


def page(notebook: Mapping[str, Any], name: str) -> tuple[str, dict[str, bytes]]:
    """A notebook with outputs as Markdown, and its pictures by file name.

    Raises:
        OutputError: a picture has no text alternative.
    """
    blocks = [f"<!-- Made by docs/make_notebooks.py from {name}.ipynb. -->"]
    pictures: dict[str, bytes] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            blocks.append(re.sub(r"\]\(([\w-]+)\.ipynb\)", r"](\1.md)", cell["source"]))
            continue
        blocks.append(f"```python\n{cell['source']}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/png" in data:
                file = f"{name}-{len(pictures) + 1}.png"
                pictures[file] = base64.b64decode(data["image/png"])
                blocks.append(f"![{_alternative(cell, data)}]({file})")
            elif text := _printed(output).rstrip():
                if text.startswith("<Figure"):
                    raise OutputError(
                        f"cell {cell['id']}: its figure is text; begin the notebook with %matplotlib inline"
                    )
                blocks.append(f"```text\n{text}\n```")
    return "\n\n".join(blocks) + "\n", pictures


def _alternative(cell: Mapping[str, Any], data: Mapping[str, str]) -> str:
    """What a picture shows, in words."""
    described = re.fullmatch(r"<(Detections: .*)>", data.get("text/plain", ""))
    text = cell["metadata"].get("alt") or (described[1] if described else "")
    if not text:
        raise OutputError(f"cell {cell['id']}: its picture needs a text alternative; set `alt` in the cell's metadata")
    return re.sub(r"[\[\]\n]", " ", text)


def _printed(output: Mapping[str, Any]) -> str:
    """What is printed, or the value of the last line. Nothing if it is a picture or a progress bar."""
    if output["output_type"] == "stream":
        return output["text"] if output["name"] == "stdout" else ""
    data = output.get("data", {})
    is_shown = {"image/png", "application/vnd.jupyter.widget-view+json"}.isdisjoint(data)
    return data.get("text/plain", "") if is_shown else ""


if __name__ == "__main__":
    main()
