"""``predictions.json`` of a folder of predictions: by what they were made, so that no others are mixed with them."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lomix_search.errors import RunError
from lomix_search.training.run_folder import writing
from lomix_search.utils.files import read_json, write_text
from lomix_search.utils.shipped import VERSION

NAME = "predictions.json"


def claim_predictions(out: Path, settings: Mapping[str, Any], targets: Iterable[Path]) -> None:
    """Note by what predictions are made, or refuse a folder that holds something else.

    Args:
        out: The folder.
        settings: All that predictions depend on beside the image, as plain values.
        targets: All files of predictions.

    Raises:
        RunError: the folder holds other predictions, or files of their names that are none, or cannot be written.
    """
    path, now = out / NAME, json.loads(json.dumps(settings))
    if path.exists():
        before = read_json(path, RunError).get("settings")
        known = before if isinstance(before, dict) else {}
        different = [key for key in now if known.get(key) != now[key]]
        if different:
            raise RunError(
                f"{out} holds predictions of another run or by other settings; nothing was changed.",
                seen=[f"{key}: {_short(known.get(key))} before, {_short(now[key])} now" for key in different],
                hint="another folder for these, or the same run and options as before",
            )
        return
    if taken := [target for target in targets if target.exists()]:
        raise RunError(
            f"{out} holds files that predictions would replace, and no {NAME} that says they are predictions.",
            seen=", ".join(str(target) for target in taken[:4]),
            hint="an empty folder for predictions",
        )
    content = {"version": 1, "lomix_search": VERSION, "settings": now}
    with writing(path):
        write_text(path, json.dumps(content, indent=1) + "\n")


def _short(value: Any) -> str:
    """Return a value as a message shows it; hashes are cut."""
    if isinstance(value, list):
        return f"[{', '.join(_short(one) for one in value)}]"
    return value[:12] if isinstance(value, str) and len(value) == 64 else str(value)
