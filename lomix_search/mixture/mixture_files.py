"""The two files of a mixture: ``mixture.json``, and beside it the parameters of operators that learn, in safetensors.

Nothing in the files is executed. The JSON holds two checksums, one of itself and one of the parameters.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor

from lomix_search.errors import MixtureError
from lomix_search.mixture.maps import MOST_LISTED
from lomix_search.utils.files import read_bytes, read_json, write_bytes, write_text

MIXTURE_VERSION = 1
"""Of the file format: the latest that is read."""
MOST_BYTES = 2**32
"""Of operator parameters that are read."""
WITHOUT_OPERATORS = 'take the lines "operators_sha256" and "sha256" out of mixture.json: it is read without parameters'
"""What to do about operator parameters that cannot be used."""


def write_content(target: Path, content: dict[str, Any]) -> None:
    """Write the JSON file, with a checksum of all that it says. Equal contents give equal bytes."""
    content = {**content, "sha256": _checksum(content)}
    write_text(target, json.dumps(content, indent=2) + "\n")


def read_content(source: Path) -> dict[str, Any]:
    """Read the JSON file of a mixture.

    Args:
        source: The file.

    Returns:
        What it says, not yet validated.

    Raises:
        MixtureError: it is not JSON, not a mixture, or a mixture of a later version.
    """
    content = read_json(source, MixtureError, "a mixture: not JSON")
    if content.get("format") != "lomix-mixture":
        raise MixtureError(
            f'{source} is not a mixture: it lacks "format": "lomix-mixture".',
            seen=f"keys {', '.join(list(content)[:MOST_LISTED])}" if content else "no key",
            hint="lomix runs   # each finished run holds a mixture.json",
        )
    if isinstance(version := content.get("version"), int) and version > MIXTURE_VERSION:
        raise MixtureError(
            f"{source} is a mixture of version {version}; this library reads up to {MIXTURE_VERSION}.",
            hint="pip install --upgrade lomix-search",
        )
    return content


def verify_content(source: Path, content: Mapping[str, Any]) -> None:
    """Refuse a file that was changed after it was written. Files from before there was a checksum pass.

    Args:
        source: The file, for the message.
        content: What ``read_content`` returned.

    Raises:
        MixtureError: the checksum differs.
    """
    if content.get("sha256") is not None and content["sha256"] != _checksum(content):
        raise MixtureError(
            f"{source} was changed or damaged after it was written: the checksum differs.",
            hint='take the line "sha256" out of the file, if it was you who changed it',
        )


def write_parameters(target: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write the operators' parameters; returns the checksum of the file."""
    packed = tensors_to_bytes({name: t.detach().cpu().contiguous() for name, t in tensors.items()})
    write_bytes(target, packed)
    return hashlib.sha256(packed).hexdigest()


def read_parameters(path: Path, checksum: str) -> dict[str, Tensor]:
    """Read the operators' parameters.

    Args:
        path: The safetensors file. Only content that has this checksum is believed, wherever the path leads.
        checksum: What the JSON file says of it.

    Returns:
        The parameters by state_dict name.

    Raises:
        MixtureError: the file is missing, is another, or is damaged.
    """
    together = "copy mixture.json and mixture.safetensors together"
    if not path.exists():
        raise MixtureError(f"{path} is missing; the mixture's operator parameters are in it.", hint=together)
    packed = read_bytes(path, MixtureError, MOST_BYTES)
    if hashlib.sha256(packed).hexdigest() != checksum:
        raise MixtureError(f"{path} does not belong to the mixture beside it: the checksums differ.", hint=together)
    try:
        return tensors_from_bytes(packed)
    except (SafetensorError, KeyError, ValueError) as cause:  # KeyError: a type of numbers that torch does not have
        raise MixtureError(f"{path} is not a safetensors file.", seen=str(cause), hint=WITHOUT_OPERATORS) from None


def _checksum(content: Mapping[str, Any]) -> str:
    """Return the checksum of what a file says, however it is laid out. The checksum itself does not count."""
    said = {key: value for key, value in content.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(said, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
