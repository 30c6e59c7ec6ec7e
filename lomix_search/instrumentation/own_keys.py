"""The state of an instrumented network: the keys of the user's own network, and the heads beside them.

    bare.load_state_dict(net.state_dict())     # strict: net's keys are bare's
    net.load_state_dict(bare.state_dict())     # strict: the heads stay as they are
    net.load_state_dict(net.state_dict())      # heads and all

The heads lie in the metadata that every ``state_dict`` has, which ``torch.save``, pickle and deepcopy keep and a bare
network does not look at. What copies a state key by key loses them, which is said when such a state is loaded. States
of earlier versions, ``model.…`` and ``heads.…``, are still read.
"""

import warnings
from collections.abc import Iterable
from typing import Any

_State = dict[str, Any]

_HEADS = "lomix_heads"
_MODEL, _OLD_HEADS = "model.", "heads."


def set_apart(state: _State, prefix: str) -> None:
    """Rename what ``nn.Module.state_dict`` has just put into a state.

    Args:
        state: Of the instrumented network or of what holds it; changed.
        prefix: Of the instrumented network's keys in it.
    """
    own = {key.removeprefix(prefix): state.pop(key) for key in [key for key in state if key.startswith(prefix)]}
    heads = {key.removeprefix(_OLD_HEADS): value for key, value in own.items() if key.startswith(_OLD_HEADS)}
    state.update({prefix + key[len(_MODEL) :]: value for key, value in own.items() if key.startswith(_MODEL)})
    metadata: _State | None = getattr(state, "_metadata", None)
    if metadata is None:  # a plain dict: nowhere to lie apart
        state.update({f"{prefix}{_HEADS}.{key}": value for key, value in heads.items()})
        return
    inner = prefix + _MODEL
    for path in [path for path in metadata if f"{path}.".startswith(inner)]:  # layers look for their version there
        metadata.setdefault(prefix + path[len(inner) :], metadata[path])
    metadata[prefix[:-1]] = {**metadata.get(prefix[:-1], {}), _HEADS: heads}


def bring_together(state: _State, prefix: str, noted: _State, bare: Iterable[str], heads: _State) -> None:
    """Rename the keys of a state for ``nn.Module.load_state_dict``: the opposite of ``set_apart``.

    Args:
        state: The keys that begin with the prefix; changed.
        prefix: Of the instrumented network's keys in it.
        noted: The state's metadata of the instrumented network.
        bare: Keys of the user's network.
        heads: State of the heads, which stay as they are where the state holds none.
    """
    own = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    bare = set(bare)
    if sum(_MODEL + key in own for key in bare) > sum(key in own for key in bare):  # of an earlier version
        return
    for key in own:
        del state[prefix + key]
    apart = {key.removeprefix(f"{_HEADS}."): own.pop(key) for key in list(own) if key.startswith(f"{_HEADS}.")}
    if not noted and not apart and heads:
        warnings.warn(
            "this state says nothing of heads, as one that was copied key by key or read from safetensors: they stay "
            "as they are. net.heads.state_dict() is theirs alone.",
            stacklevel=2,
        )
    found = noted.get(_HEADS) or apart or heads
    state.update({prefix + _MODEL + key: value for key, value in own.items()})
    state.update({prefix + _OLD_HEADS + key: value for key, value in found.items()})
