"""``MixtureLoss``: the whole mixture of a search space as one loss."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lomix_search.errors import LossError
from lomix_search.mixture.loss.active import ActiveMaps
from lomix_search.mixture.loss.backends.on_cuda import in_recording
from lomix_search.mixture.loss.dispatch import ENGINES, choose_engine
from lomix_search.mixture.loss.groups import parameter_groups
from lomix_search.mixture.loss.label_checks import LateCheck, check_labels
from lomix_search.mixture.loss.label_forms import finest_labels
from lomix_search.mixture.loss.map_checks import check_maps
from lomix_search.mixture.loss.network import NetworkLike, StageLike, network_counts, unwrapped
from lomix_search.mixture.loss.own_loss import check_own_loss, own_losses
from lomix_search.mixture.loss.per_map import LastCall, PerMap
from lomix_search.mixture.loss.plan import LossPlan, widest
from lomix_search.mixture.loss.settings import check_settings
from lomix_search.mixture.loss.single_map import FINEST_ALONE, single_map
from lomix_search.mixture.loss.terms import LossTerms
from lomix_search.mixture.loss.weight_watch import WeightWatch
from lomix_search.mixture.map_weights import MapWeight
from lomix_search.mixture.maps import Map
from lomix_search.mixture.mixture import Mixture
from lomix_search.mixture.operators import find_operator
from lomix_search.mixture.provenance import Provenance, StageInfo
from lomix_search.mixture.space import SearchSpace
from lomix_search.mixture.weighting import Fixed, Weighting, build_weighting, resolved_weighting


class MixtureLoss(nn.Module):
    """Σₖ wₖ·(ce·CEₖ + dice·Diceₖ) over all maps of a search space; Dice may be another region loss.

    Operators that learn and the weighting are parameters of this module: give them to the optimizer of the network.
    Losses are computed in float32 at least, whatever autocast says: a product of four half-precision logits overflows.

    Args:
        space: The search space, or the name or path of one.
        num_maps: L, number of originals.
        num_classes: C, channels of each original; 1 means binary: cross-entropy with logits and Dice of the
            foreground's sigmoid.
        weighting: A name of ``WEIGHTINGS`` (``"auto"`` is the recommended one) or a ``Weighting`` built for the maps.
        ce: Share of the cross-entropy in a map's loss.
        dice: Share of the Dice loss.
        ignore_index: Pixels with this label count nowhere.
        engine: ``"auto"`` or a name of ``ENGINES``.
        loss: Any other ``(logits (B, C, *spatial), labels) -> scalar``, instead of cross-entropy and Dice; it gets the
            labels as they are given to this loss, and always runs on the reference path.
        together: In a distributed run, every process has the loss of the whole batch; see the property. ``search``
            sets it.
        multilabel: Each channel is a class of its own, which overlaps others and has no background: labels
            (B, C, *spatial) of 0 and 1, sigmoid, cross-entropy and Dice per channel.
        **terms: Another cross-entropy or region loss than the paper's, by the keywords of
            :class:`~lomix_search.mixture.loss.terms.LossTerms`: ``class_weights``, ``focal_gamma``, ``region``, ….

    Raises:
        LossError: unknown engine, weighting or option, or numbers that make no loss.
        SpaceError: the space does not fit the number of maps.

    Source: LoMix (NeurIPS 2025). Differs from its code in: ``concat`` is learned, any number of maps, any of their
    sizes, binary and 3D, ignored labels.
    """

    def __init__(
        self,
        space: SearchSpace | str | Path,
        num_maps: int,
        num_classes: int,
        weighting: str | Weighting = "softplus",
        ce: float = 0.3,
        dice: float = 0.7,
        ignore_index: int | None = None,
        engine: str = "auto",
        loss: Callable[[Tensor, Tensor], Tensor] | None = None,
        together: bool = False,
        multilabel: bool = False,
        **terms: Any,
    ) -> None:
        super().__init__()
        check_settings(num_classes, ce, dice, engine)
        chosen = LossTerms.from_options(terms)
        chosen.check_classes(num_classes, multilabel or num_classes == 1)
        check_own_loss(loss, chosen.changed)
        self.space = space if isinstance(space, SearchSpace) else SearchSpace.load(space)
        self.plan = LossPlan(
            tuple(self.space.maps(num_maps)), num_maps, num_classes, ignore_index, together, multilabel, chosen
        )
        if not self.plan.maps:
            raise LossError(
                f'Space "{self.space.name}" has no map for {num_maps} stages.',
                seen=str(self.space),
                hint='originals = "all"   # in the space; and include and exclude left out',
            )
        self.ce, self.dice, self.engine, self.loss = ce, dice, engine, loss
        self.operators = _build_operators(self.plan)
        self.weighting = build_weighting(weighting, self.plan.maps)
        self._late, self._last, self.watch = LateCheck(), LastCall(), WeightWatch()
        self._active_maps = ActiveMaps(self.weighting.active())

    @property
    def maps(self) -> tuple[Map, ...]:
        """The supervised maps, in the order of losses and weights."""
        return self.plan.maps

    @property
    def num_classes(self) -> int:
        """C, channels of every map; 1 means binary."""
        return self.plan.num_classes

    @property
    def ignore_index(self) -> int | None:
        """The label that counts nowhere."""
        return self.plan.ignore_index

    @property
    def multilabel(self) -> bool:
        """Whether each channel is a class of its own, which may overlap others."""
        return self.plan.multilabel

    @property
    def per_map(self) -> PerMap:
        """What the last call said of each map: its loss, NaN where it was skipped, and its weight; detached.

        Of one map alone, that map's loss with weight 1. Reading costs nothing; printing or ``as_dict()`` waits for the
        device.

        Raises:
            LossError: the loss was not called yet.
        """
        alone = len(self._last.active) == 1
        return self._last.read((f"P{self.plan.num_maps}",) if alone and len(self.maps) > 1 else self.map_ids)

    @property
    def settings(self) -> dict[str, Any]:
        """The options beside space, counts and weighting, by keyword: another loss of the same kind takes them."""
        return {
            "ce": self.ce,
            "dice": self.dice,
            "ignore_index": self.ignore_index,
            "engine": self.engine,
            "loss": self.loss,
            "together": self.together,
            "multilabel": self.multilabel,
            **asdict(self.plan.terms),
        }

    @property
    def together(self) -> bool:
        """Whether the loss is that of the whole batch, whose parts lie with the processes of a distributed run.

        Dice is then the paper's Dice of the batch: sums over the items of all processes first, then the ratio.
        Cross-entropy is the mean over the pixels of all processes. The mean of each process's own Dice would be another
        loss: its ratios are of fewer items and noisier, and a class that a process lacks counts there as about 1 or 0.
        The weights found would then depend on the number of processes. The mean of the processes' gradients, which DDP
        takes, is the gradient of the whole.
        """
        return self.plan.together

    @together.setter
    def together(self, wanted: bool) -> None:
        self.plan = replace(self.plan, together=wanted)

    @property
    def map_ids(self) -> tuple[str, ...]:
        """The ids of the maps, such as ``P4`` or ``add(1,3)``."""
        return tuple(m.id for m in self.plan.maps)

    def forward(self, maps: Sequence[Tensor] | Tensor, labels: Tensor | Sequence[Tensor]) -> Tensor:
        """Compute the total; ``per_map`` then holds every map's loss and weight.

        Args:
            maps: L logits (B, C, *spatial), coarse to fine, each of any size: they are resized to the labels' size
                (linear, bilinear or trilinear, ``align_corners=False``); or one stacked tensor (L, B, C, *spatial). One
                map alone (B, C, *spatial), as a network gives it in eval mode, or a list of one, is the finest.
            labels: Classes (B, *spatial) or (B, 1, *spatial) in [0, C), or 0 and 1 if C is 1: of any integer type, bool
                or whole floating numbers. One-hot (B, C, *spatial). With ``multilabel`` 0 and 1 (B, C, *spatial), and
                ``ignore_index`` in all channels of a pixel or none. A list of the labels at several scales, as
                nnU-Net's deep supervision has them: the finest counts.

        Returns:
            The total, a scalar to call ``backward`` on; of one map alone, that map's loss.

        Raises:
            LossError: maps or labels do not fit.
        """
        truth = finest_labels(labels)
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            self.watch.look(self.weighting, alone=not self.together)
        if (finest := single_map(maps, truth, self.plan)) is not None:
            return self._of_one(finest, truth)
        given = check_maps(maps, self.plan)
        truth = self._checked(truth, given)
        with torch.autocast(truth.device.type, enabled=False):
            losses = self._losses(given, truth, finest_labels(labels))
            total: Tensor = self.weighting(losses)
        active = self.weighting.active()
        told = self._active_maps.without_others(losses.detach(), active)
        self._last.note(told, self.weighting.weights().detach(), active)
        return total

    def _of_one(self, finest: Tensor, labels: Tensor) -> Tensor:
        """Compute the loss of the finest map alone."""
        plan = replace(self.plan, maps=FINEST_ALONE, num_maps=1)
        given = check_maps((finest,), plan)
        truth = self._checked(labels, given)
        with torch.autocast(truth.device.type, enabled=False):
            losses = self._per_map(given, truth, labels, plan)
        self._last.note(losses.detach(), torch.ones_like(losses.detach()), (True,))
        return losses[0]

    def parameter_groups(self, lr: float | None = None, weights_lr: float | None = None) -> list[dict[str, Any]]:
        """Group what this loss trains for an optimizer: operators as the network, weights apart.

        The weights' group has a learning rate of its own, no weight decay and, where the optimizer has any, no
        momentum: with SGD and momentum 0.99 the weights of ``softplus`` are gone after 50 steps otherwise.

        Args:
            lr: Of the operators; None: the optimizer's.
            weights_lr: Of the weights; None: the weighting's own (0.02 of most), or 0.001.

        Returns:
            At most two groups, ``[{"params": net.parameters()}, *loss.parameter_groups()]`` are all.

        Raises:
            LossError: a learning rate that is not above 0.
        """
        return parameter_groups(self.operators, self.weighting, lr, weights_lr)

    def culprits(self) -> tuple[str, ...]:
        """Name the maps whose loss was not finite in the last call; waits for the device.

        Returns:
            Their ids; maps that were skipped are never among them.

        Raises:
            LossError: the loss was not called yet.
        """
        rows = zip(self.per_map.ids, self._last.active, self.per_map.losses.isfinite().tolist(), strict=True)
        return tuple(name for name, active, fine in rows if active and not fine)

    def mixture(self, stages: Iterable[StageLike] = (), provenance: Provenance | None = None) -> Mixture:
        """Return what has been found so far: maps with their weights, and the operators' parameters.

        Args:
            stages: The network's stages (``net.stages``), to be noted.
            provenance: Where the mixture comes from, to be noted.

        Returns:
            The mixture; it can be printed, pruned, saved, and trained with through ``from_mixture``.
        """
        weights = self.weighting.weights().detach().tolist()
        return Mixture(
            space=self.space,
            num_classes=self.plan.num_classes,
            num_maps=self.plan.num_maps,
            stages=tuple(StageInfo(name=s.name, channels=s.channels, stride=tuple(s.stride)) for s in stages),
            weighting=self.weighting.name,
            maps=tuple(MapWeight(id=name, weight=w) for name, w in zip(self.map_ids, weights, strict=True)),
            multilabel=self.plan.multilabel,
            provenance=provenance or Provenance(),
        ).with_operators(self.operators.state_dict())

    @classmethod
    def for_network(
        cls, net: NetworkLike | nn.Module, space: SearchSpace | str | Path = "lomix", **options: Any
    ) -> "MixtureLoss":
        """Build the loss for an instrumented network, whose stages and channels are counted for you.

        Args:
            net: What ``instrument`` returned; also inside ``DistributedDataParallel`` or ``DataParallel``, or compiled.
            space: The search space, or the name or path of one.
            **options: Any other argument of ``MixtureLoss``.

        Returns:
            The loss.

        Raises:
            LossError: the network is not instrumented, or a count is given that differs from the network's.
            SpaceError: the space does not fit the number of stages.
        """
        num_maps, num_classes = network_counts(net)
        for name, count in (("num_maps", num_maps), ("num_classes", num_classes)):
            if options.pop(name, count) != count:
                raise LossError(f"for_network({name}=…) is not the network's {count}.", hint=f"leave {name} out")
        loss = cls(space, num_maps, num_classes, **options)
        loss.watch.beside(unwrapped(net), loss.operators, loss.weighting)
        return loss

    @classmethod
    def from_mixture(
        cls,
        mixture: Mixture,
        *,
        weighting: str = "fixed",
        settings: Mapping[str, Any] | None = None,
        trained_operators: bool = False,
        **options: Any,
    ) -> "MixtureLoss":
        """Build the loss that trains the maps of a mixture, by default with its weights, fixed.

        Args:
            mixture: What a search found, pruned or whole. Maps of weight 0 are left out and cost nothing.
            weighting: ``"fixed"`` keeps the mixture's weights, ``"anneal"`` goes from them to the finest original; any
                other weighting begins anew on the mixture's maps.
            settings: Of the weighting, by keyword.
            trained_operators: Start from the operators' found parameters instead of new ones.
            **options: Any other argument of ``MixtureLoss``; ``multilabel`` as the mixture says when left out.

        Returns:
            The loss.

        Raises:
            LossError: all weights are 0, or unknown weighting or settings.
            MixtureError: ``trained_operators``, and the mixture lacks some.
        """
        weighting = resolved_weighting(weighting)
        positive = [name for name, weight in mixture.weights.items() if weight > 0]
        if not positive:
            raise LossError(
                f"all {len(mixture.maps)} weights of the mixture are 0; nothing would be trained.",
                hint="MixtureLoss(mixture.space, mixture.num_maps, mixture.num_classes)  # begins anew on its space",
            )
        maps = tuple((space := mixture.space.keep(positive)).maps(mixture.num_maps))
        given, own = tuple(mixture.weights[m.id] for m in maps), dict(settings or {})
        if weighting == "fixed":
            built: Weighting = Fixed(maps, given)
        else:
            built = build_weighting(weighting, maps, own | ({"given": given} if weighting == "anneal" else {}))
        kind = {} if mixture.multilabel is None else {"multilabel": mixture.multilabel}
        loss = cls(space, mixture.num_maps, mixture.num_classes, weighting=built, **(kind | options))
        if trained_operators:
            loss.operators.load_state_dict(mixture.operators_like(loss.operators.state_dict()))
        return loss

    def extra_repr(self) -> str:
        """Return the settings that are not modules."""
        plan = self.plan
        ignored = "" if plan.ignore_index is None else f", ignore_index={plan.ignore_index}"
        terms = "".join(f", {name}={getattr(plan.terms, name)!r}" for name in plan.terms.changed)
        return (
            f'space="{self.space.name}" of {len(plan.maps)} maps, num_maps={plan.num_maps}, '
            f'num_classes={plan.num_classes}, ce={self.ce}, dice={self.dice}{ignored}{terms}, engine="{self.engine}"'
        )

    def _checked(self, labels: Tensor, maps: tuple[Tensor, ...]) -> Tensor:
        """Check labels: on the CPU at once, values on a GPU one step late, so that nothing waits for it.

        In a compiled step the fused engines look at the values when it runs; while a CUDA graph is recorded, nobody.
        """
        checked = check_labels(labels, maps, self.plan)
        if checked.device.type != "cpu" and not torch.compiler.is_compiling() and not in_recording(checked):
            self._late.look(checked, self.plan)
        return checked

    def _losses(self, maps: tuple[Tensor, ...], labels: Tensor, as_given: Tensor) -> Tensor:
        """Return ℓ (m,), 0 where a map is skipped."""
        active, plan = self._active_plan()
        return self._active_maps.spread_out(self._per_map(maps, labels, as_given, plan), active, 0.0)

    def _per_map(self, maps: tuple[Tensor, ...], labels: Tensor, as_given: Tensor, plan: LossPlan) -> Tensor:
        """Return the loss of each map of a plan; the user's own is called with labels as they were given."""
        if self.loss is not None:
            return own_losses(maps, as_given, plan, self._operators(), self.loss)
        # Not while it is compiled: its size may be any, and the memory of later steps is not that of now.
        pixels = 0 if torch.compiler.is_compiling() else labels.numel() // (plan.num_classes if plan.multilabel else 1)
        values = len(plan.maps) * plan.num_classes * pixels
        asked = plan.num_maps, plan.num_classes, widest(maps), values
        ce, dice = ENGINES[choose_engine(self.engine, labels.device.type, *asked)](
            maps, labels, plan, self._operators()
        )
        return self.ce * ce + self.dice * dice

    def _active_plan(self) -> tuple[tuple[bool, ...], LossPlan]:
        active = self.weighting.active()
        return active, replace(self.plan, maps=tuple(m for m, on in zip(self.plan.maps, active, strict=True) if on))

    def _operators(self) -> Mapping[str, nn.Module]:
        return dict(self.operators.items())


def _build_operators(plan: LossPlan) -> nn.ModuleDict:
    """Build one module for each name of learned parameters, in the order of the maps."""
    modules = nn.ModuleDict()
    for m in plan.maps:
        if m.parameters is not None and m.parameters not in modules:
            factory = find_operator(m.operator).module
            assert factory is not None, m
            modules[m.parameters] = factory(plan.num_classes, len(m.scales))
    return modules
