"""Where the numbers of a run go: metrics.jsonl always, Weights & Biases and TensorBoard when asked for.

Numbers of each step go in; lines, events and a tracking service's files come out. None of them can stop a training.
Imports ``errors`` and ``utils``.
"""

from lomix_search.training.trackers.json_lines import JsonLines, read_line, read_lines
from lomix_search.training.trackers.several import Trackers, opened
from lomix_search.training.trackers.tensorboard import TensorBoard
from lomix_search.training.trackers.tracker import Tracker, Values, flattened
from lomix_search.training.trackers.wandb import Wandb

__all__ = [
    "JsonLines",
    "TensorBoard",
    "Tracker",
    "Trackers",
    "Values",
    "Wandb",
    "flattened",
    "opened",
    "read_line",
    "read_lines",
]
