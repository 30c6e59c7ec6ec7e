"""Scripts of the gallery on data that may not lie in the project: what their last run printed and drew is stored.

LOMIX_DATA=FOLDER python docs/generate/stored_runs.py [NAME …] runs them anew, each in a folder that is thrown away, and
stores that. FOLDER holds ``hippocampus`` and ``nuclei``. A site that is built with LOMIX_DATA runs them too.
"""

import contextlib
import datetime
import hashlib
import io
import json
import os
import runpy
import sys
import tempfile
import textwrap
from pathlib import Path

GALLERY = Path(__file__).resolve().parents[1] / "gallery"
STORED = GALLERY / "stored"
_COLOURS, _DPI = 128, 80


def scripts() -> list[Path]:
    """Return the scripts that need data."""
    return [path for path in sorted(GALLERY.glob("*.py")) if '"LOMIX_DATA"' in path.read_text(encoding="utf-8")]


def pattern(with_data: bool) -> str:
    """Return the pattern of the scripts that are run when the site is built."""
    left_out = "" if with_data else "".join(f"(?!{path.stem})" for path in scripts())
    return rf"/{left_out}\d_\w+\.py$"


def fingerprint(script: Path) -> str:
    """Return a hash of a script's code; words before it and comments may change without a new run."""
    code = script.read_text(encoding="utf-8").split('"""', 2)[2]
    lines = [line for line in code.splitlines() if line.strip() and not line.startswith("#")]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def with_stored(name: str, page: str) -> str:
    """Return the page of a script with what its last run made, above the lines that download it.

    Args:
        name: Of the script.
        page: The page as sphinx-gallery wrote it, without having run the script.
    """
    stored = json.loads((STORED / f"{name}.json").read_text(encoding="utf-8"))
    made = f"""
        .. note::

           The data of this page may not lie in the project, so the script was not run while the site was built. It was
           run on {stored["when"]} ({stored["with"]}); what it printed and drew then is below.

        .. rst-class:: sphx-glr-script-out

        .. code-block:: none

           {textwrap.indent(stored["printed"].rstrip(), " " * 11).strip()}

        .. image:: /gallery/stored/{name}.png
           :alt: {name.replace("_", " ").strip("0123456789 ")}
        """
    before, mark, after = page.partition(f".. _sphx_glr_download_examples_{name}.py:")
    return f"{before}\n{textwrap.dedent(made)}\n{mark}{after}"


def store(script: Path) -> None:
    """Run a script and store what it printed and drew."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    import torch
    from PIL import Image

    from lomix_search import __version__

    said = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), contextlib.redirect_stdout(said):
        runpy.run_path(str(script), run_name="__main__")
    drawn = io.BytesIO()
    plt.gcf().savefig(drawn, dpi=_DPI)
    plt.close("all")
    Image.open(drawn).convert("RGB").quantize(_COLOURS).save(STORED / f"{script.stem}.png", optimize=True)
    content = {
        "code": fingerprint(script),
        "when": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "with": f"lomix-search {__version__}, torch {torch.__version__.partition('+')[0]}",
        "printed": said.getvalue(),
    }
    (STORED / f"{script.stem}.json").write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    if "LOMIX_DATA" not in os.environ:
        sys.exit("LOMIX_DATA is not set: the folder that holds hippocampus and nuclei")
    STORED.mkdir(exist_ok=True)
    for one in scripts():
        if not sys.argv[1:] or one.stem in sys.argv[1:]:
            store(one)
            print(f"stored: {one.stem}")
