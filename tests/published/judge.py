"""Compare what `instrument` finds in a published network with what an expert names, tensor by tensor."""

import contextlib
import dataclasses
import time
import warnings

import torch
from support.untouched import process, state_of

from lomix_search.errors import LomixError
from lomix_search.instrumentation.diagram import draw
from lomix_search.instrumentation.instrumented import instrument
from lomix_search.instrumentation.trace import pick, tensors, trace
from lomix_search.mixture.loss import MixtureLoss


@dataclasses.dataclass
class Verdict:
    """What happened to one network: right stages, refused, eval output the same, gradients finite, times.

    ``changed`` says what instrumenting and drawing it changed, in eval and in train mode; see :func:`marks_left`.
    """

    backend: str = ""
    found: tuple[str, ...] = ()
    right: bool = False
    sure: bool = False
    refused: str = ""
    same: bool = False
    trains: bool | None = None
    seconds: float = 0.0
    cost: float = float("nan")
    changed: tuple[str, ...] = ()


def judge(entry: dict, train: bool = True, device: str = "cpu", timed: bool = True, marks: bool = False) -> Verdict:
    """Instrument a network, compare its stages with the expert's, its output with before, and train it for a step.

    Args:
        entry: As on the lists; perhaps with the tensors that are right, where the names are no longer those.
        train: Whether to train it too.
        device: Where to.
        timed: Whether the step is timed against one with the last layer alone.
        marks: Whether all that the network holds is compared before and after, too.
    """
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    model, inputs, verdict = entry["build"]().eval().to(device), entry["inputs"](), Verdict()
    inputs = tuple(x.to(device) for x in inputs)
    if marks:
        verdict.changed = marks_left(model, inputs)
    ladders = entry.get("tensors") or [
        expert_tensors(model, inputs, stages, entry["alts"]) for stages in ladders_of(entry)
    ]
    before = leaves_of(model, inputs)
    began = time.perf_counter()
    try:
        net = instrument(model, inputs)
    except LomixError as error:
        verdict.refused, verdict.same = str(error).splitlines()[0], equal(leaves_of(model, inputs), before)
        return verdict
    verdict.seconds = time.perf_counter() - began
    verdict.backend, verdict.found = net.stages.backend, tuple(stage.name for stage in net.stages)
    verdict.sure = net.stages.sure
    with torch.no_grad():
        torch.manual_seed(0)
        features = net.stage_features(*inputs)
    verdict.right = any(matches(features, expected) for expected in ladders)
    verdict.same = equal(leaves_of(net, inputs), before)
    if train and entry["train"]:
        verdict.trains, verdict.cost = train_step(net, inputs, timed)
    return verdict


def marks_left(model, inputs) -> tuple[str, ...]:
    """Say what finding, printing and drawing the stages changed of a network, its inputs or the process.

    Of every parameter, buffer and other tensor a hash of its bits, version, flags and gradient; hooks, modes, plain
    attributes, what lies in lists and objects, in classes and in the Python modules that define them; random states.
    """
    found = []
    for mode in ("train", "eval"):
        model.train(mode == "train")
        before, around = state_of(model, inputs), process()
        with contextlib.suppress(LomixError):
            net = instrument(model, inputs)
            str(net.stages)
            if mode == "eval":
                draw(trace(net.model, inputs), net.stages)
            net.strip()
        after, now = state_of(model, inputs), process()
        found += [f"{mode}: {key}" for key in before | after if before.get(key) != after.get(key)]
        found += [f"{mode}: the process: {key}" for key in around if around[key] != now[key]]
    return tuple(found)


def leaves_of(model, inputs) -> list[torch.Tensor]:
    with torch.no_grad():
        torch.manual_seed(0)
        return [leaf.clone() for _, leaf in tensors(model(*inputs))]


def equal(a, b) -> bool:
    return b is None or (len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True)))


def ladders_of(entry) -> list[list[str]]:
    """The lists of stages that are right: the expert's, and others where experts may differ."""
    return [entry["stages"], *entry.get("ladders", [])]


def matches(features, expected) -> bool:
    return len(features) == len(expected) and all(
        any(close(mine, theirs) for theirs in choices) for mine, choices in zip(features, expected, strict=True)
    )


def close(mine: torch.Tensor, theirs: torch.Tensor) -> bool:
    """Whether two tensors are one map: theirs may be B × positions × C, B × space × C or B × C × 1 × space."""
    if mine.ndim > theirs.ndim > 3 and mine.shape[2] == 1:  # logits that are returned as a film of one frame
        mine = mine.flatten(2, 3)
    forms = [theirs, theirs.movedim(-1, 1), *([theirs.flatten(2, 3)] if theirs.ndim > mine.ndim else [])]
    if theirs.ndim == 3 and theirs.transpose(1, 2).numel() == mine.numel() and mine.shape[1] == theirs.shape[2]:
        forms.append(theirs.transpose(1, 2).reshape(mine.shape))
    return any(mine.shape == form.shape and _equal(mine, form) for form in forms)


def _equal(mine: torch.Tensor, theirs: torch.Tensor) -> bool:
    """Whether two maps differ by far less than one varies: with random weights a map may be all but constant."""
    varies = (theirs - theirs.mean(dim=tuple(range(2, theirs.ndim)), keepdim=True)).abs().max()
    return bool((mine - theirs).abs().max() <= 1e-3 * varies)


def expert_tensors(model, inputs, stages, alts) -> list[list[torch.Tensor]]:
    """The tensors that are right for each stage, by hooks of the test's own."""
    seen: dict[str, list[torch.Tensor]] = {}
    modules = dict(model.named_modules(remove_duplicate=False))
    names = {name for i, stage in enumerate(stages) for name in [stage, *alts.get(i, [])]}
    hooks = [watch(modules, name, seen) for name in names if not name.startswith("fn:")]
    leaves_of(model, inputs)
    for hook in hooks:
        hook.remove()
    return [
        [tensor for name in [stage, *alts.get(i, [])] for tensor in chosen(seen.get(name, []), name)]
        for i, stage in enumerate(stages)
    ]


def chosen(calls: list[torch.Tensor], name: str) -> list[torch.Tensor]:
    return [calls[int(name.split("#")[1])]] if "#" in name else calls


def watch(modules, name: str, seen):
    path, _, element = name.removeprefix("in:").split("#")[0].partition("@")

    def keep(value):
        for key in element.strip("[]").split("][") if element else []:
            value = value[int(key)] if key.isdigit() else getattr(value, key)
        found = tensors(value)
        seen.setdefault(name, []).extend([found[0][1].clone()] if found else [])

    if name.startswith("in:"):
        return modules[path].register_forward_pre_hook(lambda _m, a, k: keep((a, k)), with_kwargs=True)
    return modules[path].register_forward_hook(lambda _m, _a, out: keep(out))


def train_step(net, inputs, compare: bool = True) -> tuple[bool, float]:
    """Whether a step with the paper's mixture gives finite gradients everywhere, and its time over a bare step's."""
    doubled = [torch.cat([x, x]) if x.ndim else x for x in inputs]
    net.train()
    mixture = MixtureLoss("lomix", len(net.stages), net.num_classes).to(inputs[0].device)
    try:
        steps = [step(net, lambda: net(*doubled), mixture) for _ in range(2 if compare else 1)]
        bare = bare_step(net, doubled) if compare else float("nan")
    except (
        RuntimeError,
        TypeError,
        ValueError,
        AttributeError,
    ):  # some models want labels in train mode, or another batch
        return False, float("nan")
    return all(finite for _, finite in steps), min(steps)[0] / bare


def bare_step(net, inputs) -> float:
    """The better time of two steps with the last layer alone."""
    returned = pick(net.model(*inputs), net.stages[-1].own).shape[1]  # fewer where the background is dropped
    last = MixtureLoss("last_layer", 1, returned).to(inputs[0].device)
    return min(step(net, lambda: [pick(net.model(*inputs), net.stages[-1].own)], last) for _ in range(2))[0]


def step(net, run, mixture) -> tuple[float, bool]:
    """CPU time of one step on random labels, and whether each head and the network get finite gradients."""
    net.zero_grad()
    began = time.process_time()
    maps = run()
    size = (len(maps[-1]), *maps[-1].shape[2:])
    labels = torch.randint(max(2, maps[-1].shape[1]), size, device=maps[-1].device)
    mixture([m.float() for m in maps], labels).backward()
    seconds = time.process_time() - began
    heads = [p.grad for p in net.head_parameters()]
    made = [p.grad for p in net.model.parameters() if p.grad is not None]
    whole = len(maps) == 1 or all(g is not None for g in heads)
    return seconds, whole and bool(made) and all(g.isfinite().all() for g in (*heads, *made) if g is not None)
