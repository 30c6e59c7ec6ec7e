"""Offline runs of wandb, read back: its records, histories, runs and their settings."""

import json
import struct
from pathlib import Path
from typing import Any


def _split(file: Path) -> list[bytes]:
    """Split an offline run's file (LevelDB's log format behind a 7-byte head) into its records.

    wandb has no reader of its own in Python any more; its own program uploads the file.
    """
    data, place, found, parts = file.read_bytes(), 7, [], []
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:  # the rest of a block too short for a head is padding
            place += 32768 - place % 32768
            continue
        length, kind = struct.unpack("<HB", data[place + 4 : place + 7])
        parts.append(data[place + 7 : place + 7 + length])
        place += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            found.append(b"".join(parts))
            parts = []
    return found


def records(folder: Path) -> list[Any]:
    """Read every record of a folder's offline runs by wandb's own schema."""
    from wandb.proto import wandb_internal_pb2 as pb

    files = sorted(folder.rglob("run-*.wandb"))
    return [pb.Record.FromString(record) for file in files for record in _split(file)]


def histories(folder: Path) -> list[dict[str, Any]]:
    return [
        {(i.key or "/".join(i.nested_key)): json.loads(i.value_json) for i in record.history.item}
        for record in records(folder)
        if record.WhichOneof("record_type") == "history"
    ]


def runs(folder: Path) -> list[Any]:
    return [record.run for record in records(folder) if record.WhichOneof("record_type") == "run"]


def config_of(run: Any) -> dict[str, Any]:
    return {i.key: json.loads(i.value_json) for i in run.config.update}
