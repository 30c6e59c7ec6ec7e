"""The random generators of the process (python's, numpy's, torch's), and the one way to read, seed and put them back.

Whoever draws numbers that must not disturb others does it inside :func:`same_random_state` or :func:`seeded`.
"""

import functools
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def random_state() -> dict[str, Any]:
    """Read the states of the global generators.

    CUDA is not woken for it: as long as nothing uses CUDA, it has no state.

    Returns:
        Plain values and tensors, which a checkpoint can hold; for :func:`restore_random_state`.
    """
    state = _read(accelerators=True)
    version, internal, next_gauss = state["python"]
    kind, keys, position, has_gauss, gauss = state["numpy"]
    return {
        **state,
        "python": [version, list(internal), next_gauss],
        "numpy": [str(kind), torch.from_numpy(keys.astype(np.int64)), int(position), int(has_gauss), float(gauss)],
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Put the global generators back into an earlier state.

    Args:
        state: What :func:`random_state` returned, in this process or another one. States of CUDA devices are left out
            where there are more or fewer devices.
    """
    version, internal, next_gauss = state["python"]
    kind, keys, position, has_gauss, gauss = state["numpy"]
    _write(
        {
            **state,
            "python": (version, tuple(internal), next_gauss),
            "numpy": (kind, keys.numpy().astype(np.uint32), position, has_gauss, gauss),
        }
    )


def note_random_state(*, accelerators: bool = True) -> Callable[[], None]:
    """Note the states of the global generators, and the seed that waits for the moment when CUDA wakes.

    Args:
        accelerators: Whether the generators of CUDA and MPS devices are noted too.

    Returns:
        A function that puts them back; it may be called again.
    """
    state = _read(accelerators)
    waiting = vars(torch.cuda._lazy_seed_tracker) if accelerators and not _cuda_is_awake() else {}
    before = waiting.copy()

    def put_back() -> None:
        _write(state)
        waiting.update(before)

    return put_back


@contextmanager
def same_random_state(*, accelerators: bool = True) -> Iterator[None]:
    """Put the states of the global generators back at the end, whatever is drawn in between.

    Args:
        accelerators: Whether the generators of CUDA and MPS devices are put back too.

    Yields:
        Nothing.
    """
    put_back = note_random_state(accelerators=accelerators)
    try:
        yield
    finally:
        put_back()


@contextmanager
def seeded(*key: int) -> Iterator[None]:
    """Seed the global generators of python, numpy and torch (CPU) from a key, and put their states back at the end.

    Args:
        *key: Non-negative integers, e.g. (seed, draw, index).

    Yields:
        Nothing.
    """
    with same_random_state(accelerators=False):
        for_python, for_numpy, for_torch = seeds_from(key, 3)
        random.seed(for_python)
        np.random.seed(for_numpy)
        torch.default_generator.manual_seed(for_torch)
        yield


def seed_everything(seed: int) -> None:
    """Seed the global generators of python, numpy and torch, those of its devices too.

    Args:
        seed: Not negative.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def seeds_from(key: tuple[int, ...], count: int) -> list[int]:
    """Make independent seeds from a key.

    Args:
        key: Non-negative integers.
        count: How many seeds.

    Returns:
        As many 32-bit numbers; the first ones do not depend on ``count``.
    """
    return [int(word) for word in np.random.SeedSequence(key).generate_state(count)]


def note_generator(generator: Any) -> Callable[[], object]:
    """Note the state of one generator that somebody holds.

    Args:
        generator: A ``numpy.random.Generator`` or ``RandomState``, a ``random.Random`` or a ``torch.Generator``.

    Returns:
        A function that puts the state back; it may be called again.

    Raises:
        TypeError: it is something else.
    """
    match generator:
        case np.random.Generator():
            bits = generator.bit_generator
            return functools.partial(setattr, bits, "state", bits.state)
        case np.random.RandomState():
            return functools.partial(generator.set_state, generator.get_state(legacy=False))
        case random.Random():
            return functools.partial(generator.setstate, generator.getstate())
        case torch.Generator():
            return functools.partial(generator.set_state, generator.get_state())
    raise TypeError(f"{type(generator).__name__} is no random generator of numpy, python or torch")


def _read(accelerators: bool) -> dict[str, Any]:
    """Read the states of the global generators as python, numpy and torch give them."""
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if accelerators and _cuda_is_awake() else [],
    }
    if accelerators and torch.backends.mps.is_available():
        state["mps"] = torch.mps.get_rng_state()
    return state


def _write(state: dict[str, Any]) -> None:
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    if "mps" in state and torch.backends.mps.is_available():
        torch.mps.set_rng_state(state["mps"])


def _cuda_is_awake() -> bool:
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]
