"""The one guard for random states: what is drawn within it, or after a seed, leaves no trace."""

import random

import numpy as np
import pytest
import torch

from lomix_search.utils.random import (
    note_generator,
    note_random_state,
    random_state,
    restore_random_state,
    same_random_state,
    seed_everything,
    seeded,
    seeds_from,
)


def draw() -> tuple[float, ...]:
    """One number of each global generator; a normal one too, of which numpy and python keep a second."""
    return (
        random.random(), random.gauss(0, 1), float(np.random.rand()), float(np.random.randn()), float(torch.rand(())),
    )  # fmt: skip


def state() -> tuple[str, str, bytes]:
    return repr(random.getstate()), repr(np.random.get_state()[1].tolist()), torch.get_rng_state().numpy().tobytes()


def test_what_is_drawn_in_the_guard_is_drawn_again_after_it() -> None:
    draw()
    before, waiting = state(), dict(vars(torch.cuda._lazy_seed_tracker))
    with pytest.raises(KeyboardInterrupt), same_random_state():
        first = draw()
        seed_everything(5)
        raise KeyboardInterrupt
    assert state() == before and vars(torch.cuda._lazy_seed_tracker) == waiting
    assert draw() == first


def test_a_noted_state_can_be_put_back_again_and_again() -> None:
    put_back = note_random_state()
    found = []
    for _ in range(3):
        found.append(draw())
        put_back()
    assert len(set(found)) == 1


def test_a_key_says_what_is_drawn_and_the_state_around_it_stays() -> None:
    before, found = state(), {}
    for key in ((0, 1), (0, 2), (1, 1), (0, 1)):
        with seeded(*key):
            assert found.setdefault(key, draw()) == found[key]
    assert len(set(found.values())) == 3 and state() == before


def test_a_seed_for_everything_also_takes_those_that_numpy_does_not() -> None:
    seed_everything(2**32 + 7)
    first = draw()
    seed_everything(2**32 + 7)
    assert draw() == first
    seed_everything(7)
    assert draw() != first


def test_a_state_that_was_read_is_plain_and_comes_back() -> None:
    np.random.randn()
    kept = random_state()
    assert [type(part) for part in kept["numpy"]] == [str, torch.Tensor, int, int, float]
    first = draw()
    restore_random_state({**kept, "cuda": [torch.zeros(16, dtype=torch.uint8)] * 99})  # of a machine with more devices
    assert draw() == first


def test_seeds_from_a_key_do_not_depend_on_their_number() -> None:
    assert seeds_from((3, 4), 5)[:2] == seeds_from((3, 4), 2) != seeds_from((4, 3), 2)
    assert seeds_from((3, 4), 0) == []


@pytest.mark.parametrize(
    ("generator", "number"),
    [
        (np.random.default_rng(1), lambda g: float(g.random())),
        (np.random.Generator(np.random.Philox(1)), lambda g: float(g.random())),
        (np.random.RandomState(1), lambda g: g.randn()),
        (random.Random(1), lambda g: g.gauss(0, 1)),
        (torch.Generator().manual_seed(1), lambda g: float(torch.rand((), generator=g))),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_generator_that_somebody_holds_comes_back(generator, number) -> None:
    put_back = note_generator(generator)
    first = number(generator), number(generator)
    put_back()
    assert (number(generator), number(generator)) == first


def test_what_is_no_generator_is_refused() -> None:
    with pytest.raises(TypeError, match="Linear is no random generator"):
        note_generator(torch.nn.Linear(1, 1))
