"""``undrawn()``: runs and studies leave no pictures while it lasts; drawing takes longer than a tiny training."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lomix_search.experiments import run
from lomix_search.experiments.tune import study


@contextmanager
def undrawn() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "draw_weights", lambda *_: None)
        patch.setattr(run, "draw_seen", lambda *_: None)
        patch.setattr(study, "draw_study", lambda *_: [])
        yield
