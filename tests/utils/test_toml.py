"""TOML written and read back by the standard library."""

import tomllib
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lomix_search.utils.toml import to_toml

keys = st.text(min_size=1, max_size=8)
scalars = st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(max_size=20)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(keys, values, max_size=4))
def test_the_toml_writer_is_read_back(content: dict[str, Any]) -> None:
    assert tomllib.loads(to_toml(content)) == content
