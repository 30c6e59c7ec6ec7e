"""Progressive shrinking: the weakest maps leave the search on a schedule, and its cost falls as it goes."""

from lomix_search.errors import RunError
from lomix_search.mixture.loss import MixtureLoss
from lomix_search.mixture.weighting import Fixed, Lookahead
from lomix_search.recipe.sections import ShrinkSection


def check_shrink(plan: ShrinkSection, loss: MixtureLoss) -> None:
    """Check that a plan fits a loss, before any step is taken.

    Args:
        plan: The schedule.
        loss: The mixture loss.

    Raises:
        RunError: a budget above the number of maps, or weights that cannot tell maps apart.
    """
    number, weighting = len(loss.maps), loss.weighting
    if plan.to > number:
        raise RunError(f"search.shrink.to = {plan.to}: the space has {number} maps.", hint=f"search.shrink.to={number}")
    if plan.by == "effect" and not isinstance(weighting, Lookahead):
        raise RunError(
            f'search.shrink.by = "effect" needs held-out data; the weighting is "{weighting.name}".',
            hint="weighting.name=lookahead  # with weighting.rate=0 the weights stay uniform",
        )
    if plan.by == "weight" and (
        isinstance(weighting, Fixed) or (isinstance(weighting, Lookahead) and not weighting.rate)
    ):
        raise RunError(
            f'search.shrink.by = "weight": the weights of "{weighting.name}" do not move, so none is the weakest.',
            hint="weighting.name=lookahead weighting.rate=0 search.shrink.by=effect",
        )


def budget(plan: ShrinkSection, maps: int, progress: float) -> int:
    """Say how many maps are left: m·(to/m)ˣ, x rising from 0 at ``start`` to 1 at ``until``, rounded.

    Args:
        plan: The schedule.
        maps: m, their number at the start.
        progress: Part of training that is done.

    Returns:
        The number.
    """
    if progress >= plan.until:
        return plan.to
    done = max(0.0, progress - plan.start) / (plan.until - plan.start)
    left: float = maps * (plan.to / maps) ** done
    return round(left)


def shrink(plan: ShrinkSection, loss: MixtureLoss, progress: float) -> tuple[str, ...]:
    """Drop the weakest maps above the budget; the finest original always stays, because inference uses it.

    The weights are read only when a map is due to leave, because reading them waits for the device.

    Args:
        plan: The schedule.
        loss: The mixture loss; what stays is part of its state.
        progress: Part of training that is done.

    Returns:
        The maps that left.
    """
    weighting = loss.weighting
    active = [name for name, on in zip(loss.map_ids, weighting.active(), strict=True) if on]
    number = budget(plan, len(loss.maps), progress)
    if len(active) <= number:
        return ()
    scores = weighting.scores() if plan.by == "effect" and isinstance(weighting, Lookahead) else weighting.weights()
    by_id = dict(zip(loss.map_ids, scores.tolist(), strict=True))
    finest = f"P{loss.plan.num_maps}"
    order = sorted(active, key=lambda name: (name != finest, -by_id[name]))  # stable: ties leave from the end
    weighting.keep(set(order[:number]))
    return tuple(order[number:])
