"""Axes split, join and are cut as the positions along them are."""

from lomix_search.instrumentation.stages.axis import (
    Factor,
    FactorKind,
    batch,
    channels_axis,
    cut,
    length,
    one_after_another,
    parts_of,
    refitted,
    regrouped,
    space_axis,
    unknown_axis,
)

_COARSE = (Factor(FactorKind.SPACE, 7, 0), Factor(FactorKind.SPACE, 9, 1))
_FINE = (Factor(FactorKind.SPACE, 14, 0), Factor(FactorKind.SPACE, 18, 1))


def test_positions_are_joined_and_a_window_partition_is_undone():
    image = (batch(2), space_axis(14, 0), space_axis(18, 1), channels_axis(8))
    tokens = regrouped(image, (2, 14 * 18, 8))
    assert tokens == (batch(2), _FINE, channels_axis(8))
    windows = regrouped(image, (2, 2, 7, 2, 9, 8))
    assert windows is not None and regrouped(windows, (2, 14, 18, 8)) == image


def test_a_factor_is_not_split_unevenly():
    assert regrouped((batch(2), space_axis(6, 0)), (3, 4)) is None


def test_a_part_of_a_sequence_is_told_by_its_length():
    sequence = one_after_another([_COARSE, _FINE])
    assert length(sequence) == 63 + 252 and list(parts_of(sequence)) == [_COARSE, _FINE]
    assert cut(sequence, 63) == _COARSE and cut(sequence, 252) == _FINE
    assert cut(sequence, 100) == unknown_axis(100)


def test_a_sequence_of_another_length_has_no_parts():
    (sequence,) = one_after_another([_COARSE, _FINE])
    assert list(parts_of((sequence.of_size(314),))) == [(sequence.of_size(314),)]


def test_a_sum_over_an_axis_takes_away_the_unknown_one():
    axes = (batch(2), unknown_axis(4), channels_axis(4))
    assert refitted(axes, (2, 4)) == (batch(2), channels_axis(4))
    assert refitted((batch(2), channels_axis(4)), (2, 5, 4)) == (batch(2), unknown_axis(5), channels_axis(4))
