"""Draw the pictures of docs/stages.md.

Run from the root: ``PYTHONPATH=.:tests python benchmarks/stage_pictures.py``.
"""

import pathlib

from support.stage_pictures import PICTURES, picture

if __name__ == "__main__":
    folder = pathlib.Path("docs/stages")
    folder.mkdir(exist_ok=True)
    for name, family in PICTURES.items():
        (folder / f"{name}.svg").write_text(picture(family))
