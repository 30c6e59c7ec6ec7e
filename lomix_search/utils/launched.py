"""What torchrun told this process when it started it: read without torch, so that help and errors wait for nothing."""

import os


def launched() -> bool:
    """Tell whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def launched_rank() -> int:
    """Return the number of this process among those that torchrun started, 0 outside torchrun."""
    return int(os.environ.get("RANK", "0")) if launched() else 0
