"""Several processes for the tests of distributed runs: forks of one, with the variables that torchrun sets.

``python together.py FOLDER SCENARIO…`` imports everything once, runs the scenarios and prints what they say as JSON.
"""

import json
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # noqa: F401 — every optimizer imports it: here once, not in each fork
from torch import Tensor, nn

import lomix_search as lomix
from lomix_search.data.regions import region_masks
from lomix_search.errors import LomixError, RunError
from lomix_search.mixture.loss import MixtureLoss
from lomix_search.mixture.space import SearchSpace
from lomix_search.mixture.weighting import build_weighting
from lomix_search.training.checkpoint import read_tensors
from lomix_search.training.search import search
from lomix_search.utils import distributed
from support.forked import free_port
from support.shapes import CLASSES, REGIONS, Shapes

IGNORED = 9
SETTINGS: dict[str, Any] = {
    "steps": 12, "batch_size": 5, "lr": 1e-2, "seed": 5, "validate_every": 4, "checkpoint_every": 3, "progress": False,
}  # fmt: skip


class Instances(nn.Module):
    """Two stages with instance norms, which see each item alone."""

    def __init__(self) -> None:
        super().__init__()

        def block(before: int, after: int) -> nn.Sequential:
            convolution = nn.Conv2d(before, after, 3, padding=1, bias=False)  # a bias under a norm moves by noise alone
            return nn.Sequential(convolution, nn.InstanceNorm2d(after, affine=True), nn.GELU())

        self.down = nn.Sequential(block(1, 6), nn.MaxPool2d(2))
        self.middle = block(6, 6)
        self.up = nn.Sequential(nn.Upsample(scale_factor=2), block(6, 6))
        self.head = nn.Conv2d(6, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.up(self.middle(self.down(x))))
        return out


class Wide(Shapes):
    """Shapes in float64, some of whose pixels do not count: more in one item than in another."""

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, label = super().__getitem__(index)
        label[: index % 7] = IGNORED
        return image.double(), label


class WideRegions(Wide):
    """The same with a mask for each of three regions, one of which holds the others."""

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, label = super().__getitem__(index)
        return image, torch.from_numpy(region_masks(label, REGIONS, IGNORED))


def build(weighting: str = "softplus", multilabel: bool = False, **settings: Any) -> tuple[Any, MixtureLoss]:
    torch.manual_seed(3)
    net = lomix.instrument(Instances(), torch.zeros(1, 1, 16, 16), stages=["middle", "up"]).double()
    space = SearchSpace.load("extended")
    kind = build_weighting(weighting, tuple(space.maps(2)), settings)
    return net, MixtureLoss(space, 2, 3, kind, ignore_index=IGNORED, multilabel=multilabel).double()


BUILT = build()


def run(folder: Path, built: Any = None, train: Any = None, **changes: Any) -> Any:
    net, loss = built or BUILT  # of a fork of the process that built it
    settings = SETTINGS | {"classes": tuple(REGIONS) if loss.multilabel else CLASSES} | changes
    kind = WideRegions if loss.multilabel else Wide
    return search(net, loss, train or kind(11), kind(5, noise=0.0), folder=folder, **settings)


# -- processes ---------------------------------------------------------------------------------------------------------


def fork(act: Callable[[], Any], number: int = 0, of: int = 1, port: int = 0, **variables: str) -> int:
    """Start one process; of several, with the variables that torchrun would set."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        if of > 1:
            names = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": of, "LOCAL_WORLD_SIZE": of}
            os.environ |= {key: str(value) for key, value in names.items()} | variables
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "none"}
        distributed.join()
        act()
        code = 0
    except SystemExit as error:
        code = int(error.code or 0)
    except LomixError as error:
        said = {"process": number, "told": getattr(error, "told", False), "text": str(error)}
        os.write(2, f"\nERROR {json.dumps(said)}\n".encode())  # at once: two processes may speak at a time
        if of > 1 and number == 0:
            time.sleep(0.5)  # it holds the store, in which the others may still wait for it; torchrun's agent lives on
        code = 2
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)  # without atexit: the processes part as if one of them were killed
    return pid


def start(act: Callable[[], Any], of: int = 2, **variables: str) -> list[int]:
    port = free_port()
    return [fork(act, number, of, port, **variables) for number in range(of)]


def ends(pids: list[int], within: float = 60.0) -> list[int]:
    """Wait; return exit codes, negative for signals. Those that hang are killed and counted as −999."""
    codes: dict[int, int] = {}
    deadline = time.monotonic() + within
    while len(codes) < len(pids):
        for pid in set(pids) - set(codes):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                codes[pid] = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                codes[pid] = -999
        time.sleep(0.01)
    return [codes[pid] for pid in pids]


def fine(act: Callable[[], Any], of: int) -> None:
    codes = ends(start(act, of))
    assert codes == [0] * of, codes


# -- scenarios ---------------------------------------------------------------------------------------------------------

KINDS: dict[str, dict[str, Any]] = {
    "softplus": {},
    "engines": {"engine": "reference"},
    "even": {"batch_size": 4, "clip_grad": 0.05},
    "normalized": {"weighting": "normalized", "shrink": {"to": 3, "start": 0.2, "until": 0.6}},
    "lookahead": {"weighting": "lookahead", "interval": 2, "rate": 20.0},
    "difference": {"weighting": "lookahead", "interval": 3, "method": "difference"},
    "regions": {"multilabel": True},
}


OF_LOSS = ("weighting", "interval", "rate", "method", "multilabel")


def same(home: Path) -> object:
    """Run each kind on one process and on two."""

    plans, built = {name: dict(settings) for name, settings in KINDS.items()}, {}
    for name, settings in plans.items():
        own = {key: settings.pop(key) for key in OF_LOSS if key in settings}
        built[name] = build(**own)
        built[name][1].engine = settings.pop("engine", "auto")

    def one(name: str, count: int) -> None:
        run(home / f"{name}{count}", built[name], **plans[name])

    def all_kinds(count: int) -> None:
        for name in KINDS:
            one(name, count)

    fine(lambda: all_kinds(1), 1)
    fine(lambda: all_kinds(2), 2)
    fine(lambda: one("softplus", 3), 3)
    return list(KINDS)


def resumed(home: Path) -> object:
    """Run on two processes, then one, then two: stopped after steps 4 and 8."""
    warnings.filterwarnings("ignore", message=".* in other surroundings than before: processes: ")  # as it is
    fine(lambda: run(home / "whole", steps=12), 1)
    for steps, count in ((4, 2), (8, 1), (12, 2)):
        fine(lambda steps=steps: run(home / "parts", steps=steps, resume=True), count)  # type: ignore[misc]
    return True


class Deadly(Wide):
    """One process of several does something to itself while it reads an item."""

    def __init__(self, process: int, after: int, act: Callable[[], None]) -> None:
        super().__init__(11)
        self.process, self.left, self.act = process, after, act

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        self.left -= 1
        if self.left == 0 and distributed.rank() == self.process:
            self.act()
        return super().__getitem__(index)


def me(number: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


def fail() -> None:
    raise RunError("item 3 is broken.")


def lost(home: Path) -> object:
    """Kill, break or stop one process of two; say how they ended and how long that took."""
    said = {}
    for name, process, act in (
        ("killed", 1, me(signal.SIGKILL)),
        ("first", 0, me(signal.SIGKILL)),
        ("broken", 1, fail),
        ("hung", 1, me(signal.SIGSTOP)),
    ):
        data = Deadly(process, 20, act)
        pids = start(lambda data=data, name=name: run(home / name, train=data), LOMIX_TIMEOUT="4")  # type: ignore[misc]
        began = time.monotonic()
        survivor = pids[1 - process]
        code = ends([survivor])
        if name == "hung":
            os.kill(pids[process], signal.SIGKILL)
        codes = dict(zip([1 - process, process], code + ends([pids[process]]), strict=True))
        left = sorted(str(path.relative_to(home)) for path in (home / name).rglob("*") if path.is_file())
        said[name] = {"codes": codes, "seconds": time.monotonic() - began, "left": left}
        fine(lambda name=name: run(home / name, resume=True), 2)  # type: ignore[misc]
    fine(lambda: run(home / "whole"), 2)
    return said


def stopped(home: Path) -> object:
    """Send SIGTERM to one process alone, then to the other."""
    fine(lambda: run(home / "whole"), 2)
    codes = []
    for process, after in ((1, 20), (0, 6)):
        data = Deadly(process, after, me(signal.SIGTERM))
        codes.append(ends(start(lambda data=data: run(home / "cut", train=data, resume=True))))  # type: ignore[misc]
    fine(lambda: run(home / "cut", resume=True), 2)
    return codes


def told(home: Path) -> object:
    """Errors that one process decides for all, and those before any step."""
    home.mkdir(exist_ok=True)

    def refused() -> None:
        distributed.on_main(fail)

    def checked() -> None:
        assert distributed.on_main(lambda: {"lr": 0.1, "from": os.environ["RANK"]}) == {"lr": 0.1, "from": "0"}
        assert distributed.gather(distributed.rank()) == [0, 1]
        assert list(distributed.share(range(5))) == [[0, 1], [2, 3, 4]][distributed.rank()]

    def pruned(step: int, dice: float) -> None:
        assert os.environ["RANK"] == "0"
        raise RunError(f"pruned at step {step}.")

    fine(checked, 2)
    codes = [
        ends(start(refused)),
        ends(start(lambda: run(home / "small", batch_size=1))),
        ends(start(lambda: run(home / "pruned", on_validate=pruned))),
        ends(start(distributed.join, LOMIX_TIMEOUT="soon")),
    ]
    fine(lambda: run(home / "once", steps=1), 1)
    codes.append(ends(start(lambda: run(home / "once", steps=1))))
    return codes


def tuned(home: Path) -> object:
    """A study of four trials, one of which cannot be built, on two processes; then the same trials on one."""
    from lomix_search.experiments.tune.outer_search import tune
    from lomix_search.experiments.tune.trial_processes import follow
    from support.tiny_recipe import tiny

    ranges = "tune.ranges={'network.args.width' = {choices = [4, 13]}, 'optimizer.lr' = {low = 1e-3, high = 1e-2}}"
    recipe = tiny(home, [ranges, "space.name=lomix"])

    def work(count: int) -> list[Any]:
        if not distributed.is_main():
            follow()
            return []
        study = tune(recipe, 4, folder=home / f"study{count}")
        trials = study.get_trials(deepcopy=False)
        return [[t.state.name, t.params, t.values, t.user_attrs.get("reason")] for t in trials]

    def told(count: int) -> None:
        found = work(count)
        if distributed.is_main():
            (home / f"study{count}.json").write_text(json.dumps(found))

    for count in (1, 2):
        fine(lambda count=count: told(count), count)  # type: ignore[misc]
    return [json.loads((home / f"study{count}.json").read_text()) for count in (1, 2)]


SCENARIOS = {act.__name__: act for act in (same, resumed, lost, stopped, told, tuned)}


def tensors(folder: Path) -> dict[str, Tensor]:
    """Return all that a run found: network, heads, operators, weights, optimizer's moments."""
    state = read_tensors(max((folder / "checkpoints").glob("step_*.pt")))
    moments, heads = state["optimizer"]["state"], state["net"]._metadata[""]["lomix_heads"]
    assert heads, "heads are trained too"
    return {
        **{f"net.{key}": value for key, value in state["net"].items()},
        **{f"heads.{key}": value for key, value in heads.items()},
        **{f"loss.{key}": value for key, value in state["loss"].items()},
        **{f"{i}.{key}": value for i, one in moments.items() for key, value in one.items()},
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    answers = {}
    for scenario in sys.argv[2:]:
        began = time.monotonic()
        answers[scenario] = SCENARIOS[scenario](Path(sys.argv[1]) / scenario)
        print(f"TIME {scenario} {time.monotonic() - began:.1f} s", file=sys.stderr)
    print(json.dumps(answers))
