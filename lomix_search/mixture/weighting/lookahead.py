"""Weights that follow held-out data: a map gains weight while it helps there."""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from lomix_search.mixture.maps import Map
from lomix_search.mixture.weighting.base import Weighting, weighting
from lomix_search.mixture.weighting.schedule import finest_original

_Part = Annotated[float, Field(gt=0, lt=1)]
_PRIOR = 2.0


@weighting("lookahead")
class Lookahead(Weighting):
    """Weights on a simplex, moved by the held-out loss one step ahead. θ = 0 at the start: every weight is 1.

    A step of size η moves the network by −η·Σ wₖ·gₖ, gₖ = ∇ℓₖ. For the held-out loss after it,

        ∂L_held/∂wₖ = −η·⟨v, gₖ⟩,   v = ∇L_held, L_held the loss of the finest original, which is what inference uses.

    Every ``interval`` steps, ``learn`` is told the slopes aₖ = ⟨v/‖v‖, gₖ⟩ and takes

        sₖ = aₖ/‖gₖ‖ (norm), (aₖ − mean)/spread over the maps (spread) or aₖ (none),
        s̄ ← smoothing·s̄ + (1 − smoothing)·s,   θ ← exp(−decay·Δt)·θ + Δt·rate·s̄ₖ  (s̄ corrected for its start at 0)
        wₖ = m·softmax(θ)ₖ, or with ``finest`` = f: f·m for the finest original, (1 − f)·m·softmax(θ)ₖ for the others.

    Δt is the part of training since the last look. So at equal slopes a training ten times as long ends at the same
    weights, and so does one that looks more often, which only averages more. From ``until`` on the weights stay, looks
    cost nothing, and ``search`` trains with the held-out items too, because labels are dear.

    θ grows as long as the slopes differ, so all weight ends on the map that agrees best with the held-out gradient.
    That is often the finest original. It is a schedule from mixing to focusing, and ``rate`` is its speed: two maps
    whose slopes differ by 0.1 throughout end at weights whose ratio is exp(0.1·rate·until).
    ``finest`` holds that map's weight and lets the others compete among themselves; ``decay`` > 0 gives a fixed point,
    θₖ = rate·s̄ₖ/decay. ``rate`` = 0 leaves the weights uniform and only measures.

    ‖gₖ‖² is the smoothed mean of ⟨r, gₖ⟩² over random directions r ~ N(0, I), one a look, drawn to the median of all
    maps while looks are few; a cosine so estimated is cut to [−1, 1].

    Args:
        maps: The maps to weigh; the finest original must be among them.
        interval: Steps from one look to the next.
        until: Part of training after which there are no more looks.
        held_out: Part of the training items that is kept aside: whole cases, where one is at most twice the part.
        rate: How far a slope of 1 would move θ in a whole training.
        smoothing: Of slopes and norms, in looks.
        normalize: How slopes are made comparable.
        finest: Part of the sum that the finest original holds; None: it competes like the others.
        decay: How fast θ goes back to 0; 1 forgets 63 % of it in the whole training.
        covers: Patterns of the names of the network's parameters that v covers, such as ``"upcat_*"``; all by default.
        method: ``"forward"`` (forward-mode differentiation), ``"difference"`` (two forwards at φ ± ε·v/‖v‖), or
            ``"auto"``: the first where the network can do it.
    """

    name = "lookahead"
    waits_for = "lomix.search(net, loss, train, val)   # it looks at held-out items, which a loop of your own does not"
    theta: Tensor
    mean: Tensor
    squares: Tensor
    looks: Tensor
    looked: Tensor
    over: Tensor
    finest_mask: Tensor

    def __init__(
        self,
        maps: Sequence[Map],
        interval: Annotated[int, Field(ge=1)] = 12,
        held_out: _Part = 0.2,
        until: Annotated[float, Field(gt=0, le=1)] = 0.5,
        rate: Annotated[float, Field(ge=0)] = 40.0,
        smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.9,
        normalize: Literal["norm", "spread", "none"] = "norm",
        finest: _Part | None = None,
        decay: Annotated[float, Field(ge=0)] = 0.0,
        covers: Annotated[tuple[str, ...], Field(min_length=1)] = ("*",),
        method: Literal["auto", "forward", "difference"] = "auto",
    ) -> None:
        super().__init__(maps)
        self.interval, self.held_out, self.until = interval, held_out, until
        self.rate, self.smoothing = rate, smoothing
        self.normalize, self.finest, self.decay = normalize, finest, decay
        self.covers, self.method = tuple(covers), method
        number = len(self.map_ids)
        for name in ("theta", "mean", "squares"):
            self.register_buffer(name, torch.zeros(number))
        self.register_buffer("looks", torch.zeros(()))
        self.register_buffer("looked", torch.zeros((), dtype=torch.float64))  # progress at the last look
        self.register_buffer("over", torch.zeros((), dtype=torch.bool))  # the held-out items joined the others
        self._progress = 0.0
        self.register_buffer("finest_mask", torch.tensor(finest_original(maps, self.name)), persistent=False)

    def weights(self) -> Tensor:
        """Return the weights; their sum is m."""
        shares = torch.softmax(self.theta.masked_fill(~self._competing(), -torch.inf), 0)
        if self.finest is not None:
            alone = ~self._competing().any()  # only the finest is left
            shares = torch.where(self.finest_mask, torch.where(alone, 1.0, self.finest), (1 - self.finest) * shares)
            shares = shares.nan_to_num(0.0)
        return len(self.map_ids) * shares

    def due(self, step: int) -> bool:
        """Say whether to look before this step (0, 1, 2, …)."""
        return step % self.interval == 0 and not bool(self.over)

    def looks_end(self, steps: int) -> int:
        """Return the step from which on there are no more looks; 0 if they are over now.

        From then on ``search`` trains with the held-out items too. With ``until`` = 1 that is never.

        Args:
            steps: Steps of the whole training.
        """
        return 0 if self.over else math.ceil(self.until * steps - 1e-9)

    def advance(self, progress: float) -> None:
        """Go to a point of training.

        Args:
            progress: Part of training that is done, in [0, 1].
        """
        self._progress = progress
        if self.until < 1 and progress >= self.until:  # it stays so in a run that is resumed with more steps
            self.over.fill_(True)

    def learn(self, slopes: Tensor, probes: Tensor | None = None) -> Tensor:
        """Take the outcome of a look. It counts for the part of training since the last look, which ``advance`` tells.

        Args:
            slopes: aₖ (m,) along the unit held-out gradient; what is not finite counts as 0.
            probes: ⟨r, gₖ⟩ (m,) along a random direction; needed for ``normalize="norm"``.

        Returns:
            sₖ (m,), the normalised slopes; 0 for maps that were dropped.
        """
        self.waits_for = ""
        self.looks += 1
        bias = 1 - self.smoothing**self.looks
        scores = self._normalized(slopes.to(self.theta).nan_to_num(0.0, 0.0, 0.0), probes, bias) * self.kept
        self.mean.lerp_(scores, 1 - self.smoothing)
        passed = (self._progress - self.looked).clamp(min=0).to(self.theta)  # below 0 where a resumed run got longer
        self.looked.fill_(self._progress)
        self.theta.mul_(torch.exp(-self.decay * passed)).add_(passed * self.rate * self.mean / bias)
        self.theta.sub_(self.theta.max())  # softmax does not see it, and it keeps θ small
        return scores

    def scores(self) -> Tensor:
        """Return s̄ₖ (m,), the smoothed slopes."""
        return self.mean / (1 - self.smoothing ** self.looks.clamp(min=1))

    def _normalized(self, slopes: Tensor, probes: Tensor | None, bias: Tensor) -> Tensor:
        if self.normalize == "norm":
            assert probes is not None
            self.squares.lerp_(probes.to(slopes).nan_to_num(0.0, 0.0, 0.0) ** 2, 1 - self.smoothing)
            return (slopes / self._norms(bias).clamp(min=1e-12)).clamp(-1, 1)
        if self.normalize == "spread":
            chosen = self._competing()
            number = chosen.sum().clamp(min=1)
            mean = (slopes * chosen).sum() / number
            variance = ((slopes - mean) ** 2 * chosen).sum() / number
            return (slopes - mean) / variance.sqrt().clamp(min=1e-12)
        return slopes

    def _norms(self, bias: Tensor) -> Tensor:
        """Return ‖gₖ‖: one look says little about one map, so the median of all counts like two at first."""
        known, prior = bias / (1 - self.smoothing), _PRIOR / self.looks
        mine = self.squares / bias
        pooled = mine.masked_fill(self.kept == 0, torch.nan).nanmedian()
        return ((known * mine + prior * pooled) / (known + prior)).sqrt()

    def _competing(self) -> Tensor:
        kept = self.kept > 0
        return kept if self.finest is None else kept & ~self.finest_mask

    def extra_repr(self) -> str:
        """Return the settings."""
        return (
            f"interval={self.interval}, held_out={self.held_out}, until={self.until}, "
            f"rate={self.rate}, smoothing={self.smoothing}, "
            f'normalize="{self.normalize}", finest={self.finest}, decay={self.decay}, covers={self.covers}, '
            f'method="{self.method}"'
        )
