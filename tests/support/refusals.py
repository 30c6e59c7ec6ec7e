"""``message(*arguments, act=function)``: what a RunError says when a function refuses its arguments."""

from collections.abc import Callable

import pytest

from lomix_search.errors import RunError


def message(*arguments: object, act: Callable[..., object]) -> str:
    with pytest.raises(RunError) as caught:
        act(*arguments)
    return str(caught.value)
