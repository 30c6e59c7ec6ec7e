"""Several processes, one run: who they are, what they add up, and what one of them does for all.

``torchrun --nproc-per-node N -m lomix_search run RECIPE`` starts them; outside torchrun everything here is the plain
thing. Every process holds the whole network and a share of each batch. The sums behind the losses are added up over the
processes before any ratio is taken, so that the loss is that of the whole batch, on every process the same number.

This is plain torch.distributed, and only torchrun's variables count. lightning-fabric (tried: 2.6.6) takes the tasks of
any SLURM job for the processes of one run, or refuses them, but the workers of a study must stay apart. DDP would have
to look for unused parameters in every step, because maps are dropped in mid-run, and warns of that in all other runs.
One sum of all gradients after the backward pass does the same in a dozen lines; the price is that nothing is sent while
the backward pass still runs.
"""

import atexit
import os
import re
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from lomix_search.errors import RunError
from lomix_search.utils.launched import launched, launched_rank

_T = TypeVar("_T")
_Failure = TypeVar("_Failure", bound=BaseException)

_TIMEOUT = 300.0  # seconds; the longest that one process may keep the others waiting, e.g. while it writes a checkpoint
_LOST = re.compile(  # gloo on connections: its source file, or words of its own; not its complaints about what is sent
    r"\[\S*/gloo/transport/\S+:\d+\] (?!\[enforce fail)|Application timeout caused pair closure"
)


def join() -> None:
    """Join the other processes of torchrun's; nothing to do outside torchrun, or where this is done already.

    With GPUs the process gets the one of its number on this machine. The processes part when the interpreter ends.

    Raises:
        RunError: fewer GPUs than processes on this machine, the other processes were not met in time, or
            ``LOMIX_TIMEOUT``, the longest wait for another process in seconds, is no such number.
    """
    if not torch.distributed.is_available() or dist.is_initialized() or not launched():
        return
    cuda, local = torch.cuda.is_available(), int(os.environ["LOCAL_RANK"])
    if cuda:
        _check_gpus(local)
        torch.cuda.set_device(local)
    limit = timedelta(seconds=_timeout())
    try:
        dist.init_process_group("nccl" if cuda else "gloo", timeout=limit)
    except dist.DistError as cause:
        raise RunError("the other processes were not met.", seen=_first_line(cause), hint=_AGAIN) from None
    atexit.register(_part)


def rank() -> int:
    """Return the number of this process, 0 outside a distributed run."""
    return dist.get_rank() if _several() else launched_rank()


def size() -> int:
    """Return the number of processes, 1 outside a distributed run."""
    return dist.get_world_size() if _several() else 1


def is_main() -> bool:
    """Tell whether this is the process that writes files and speaks."""
    return rank() == 0


def device() -> torch.device:
    """Return the device to train on: this process's GPU where there is one."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def share(items: Sequence[_T]) -> Sequence[_T]:
    """Return this process's part of what all have: parts follow each other and differ in length by one at most."""
    return items[rank() * len(items) // size() : (rank() + 1) * len(items) // size()]


# -- what one process does for all -------------------------------------------------------------------------------------


def on_main(act: Callable[[], _T]) -> _T:
    """Run a function on process 0 alone; every process gets what it returned, or fails as it failed.

    Every decision that one process takes for all goes through here: opening a folder, writing a checkpoint, the
    parameters of a trial, whether it is pruned.

    Args:
        act: The function; what it returns must be picklable where there are several processes.

    Returns:
        What it returned. On GPUs as on CPUs tensors come as they were.

    Raises:
        Exception: what it raised; on the other processes it has the attribute ``told``, as it is said once.
    """
    if size() == 1:
        return act()
    box: list[Any] = [None, None]
    if is_main():
        try:
            box[0] = act()
        except Exception as error:  # the others must hear of it, or they would wait
            box[1] = same_everywhere(error)
    dist.broadcast_object_list(box, src=0, device=_speaking())
    if box[1] is not None:
        raise same_everywhere(box[1])
    answer: _T = box[0]
    return answer


def gather(part: _T) -> list[_T]:
    """Return what every process has, in their order, on every process.

    Args:
        part: What this one has; picklable.

    Returns:
        One entry a process.
    """
    if size() == 1:
        return [part]
    parts: list[Any] = [None] * size()
    dist.all_gather_object(parts, part)
    return parts


def same_everywhere(error: _Failure) -> _Failure:
    """Mark an error that every process raises by itself: it is said once.

    Args:
        error: The error.

    Returns:
        The error.
    """
    error.told = not is_main()  # type: ignore[attr-defined]
    return error


def happened_alike(error: BaseException) -> bool:
    """Tell whether all processes raised an error, so that they may go on together."""
    return hasattr(error, "told")


@contextmanager
def alike() -> Iterator[None]:
    """Mark errors as those that every process raises by itself, because what is done here depends on the recipe alone.

    Yields:
        Nothing.
    """
    try:
        yield
    except Exception as error:
        raise same_everywhere(error) from error.__cause__


@contextmanager
def lost_processes(where: Callable[[], str]) -> Iterator[None]:
    """Say in plain words that another process is gone, if this one waited for it.

    Args:
        where: Says how far this process came; called only when it is needed.

    Yields:
        Nothing.

    Raises:
        RunError: a process was killed, failed, or kept the others waiting longer than the limit.
    """
    try:
        yield
    except RuntimeError as cause:  # dist.DistError is one, gloo's are plain
        if size() == 1 or not is_loss(cause):
            raise
        _finish_speaking()
        raise RunError(
            f"process {rank()} of {size()} lost another one, which was killed, failed, or did not answer in time.",
            seen=[where(), _first_line(cause)],
            hint=_AGAIN,
        ) from None


def is_loss(error: RuntimeError) -> bool:
    """Tell whether an error is torch.distributed's own, of a process that does not answer.

    Args:
        error: NCCL's and the store's are of classes of their own; gloo's are plain RuntimeErrors.

    Returns:
        Whether it is; an error of the user's code is not, whatever words it uses.
    """
    return isinstance(error, dist.DistError) or (type(error) is RuntimeError and bool(_LOST.match(str(error))))


def _finish_speaking() -> None:
    """Ignore SIGTERM from here on: torchrun, which sees the loss too, sends it; what is to be said must still be said.

    The process is about to end by itself; should it hang, torchrun kills it.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


# -- sums --------------------------------------------------------------------------------------------------------------


def sum_over_processes(values: Tensor) -> Tensor:
    """Return the sum over the processes, on every one the same, with its gradient; outside a run the values themselves.

    The gradient convention is that of DDP: the mean over processes of each one's gradient is the gradient of the whole.
    What flows back into a process's own part is therefore its gradient times the number of processes.

    Args:
        values: Of the same shape on every process.

    Returns:
        The sum.
    """
    if size() == 1:
        return values
    total: Tensor = _Sum.apply(values)  # type: ignore[no-untyped-call]
    return total


def mean_over_processes(values: Tensor) -> Tensor:
    """Return the mean over the processes, as ``sum_over_processes`` returns the sum."""
    return sum_over_processes(values) / size() if size() > 1 else values


def largest_over_processes(value: Tensor) -> Tensor:
    """Return the largest of each value over the processes, without a gradient."""
    if size() > 1:
        value = value.detach().clone()
        dist.all_reduce(value, dist.ReduceOp.MAX)
    return value


def same_over_processes(tensors: Iterable[Tensor]) -> None:
    """Give every process the values of process 0.

    Args:
        tensors: Parameters or buffers, of the same shapes on every process; changed in place.
    """
    if size() > 1:
        for tensor in tensors:
            dist.broadcast(tensor.detach(), src=0)


def average_gradients(parameters: Sequence[Tensor]) -> None:
    """Replace every gradient by its mean over the processes.

    A parameter that no process used has no gradient afterwards either, as in one process; one that some used counts as
    zero in the others.

    Args:
        parameters: The same ones on every process.
    """
    if size() == 1:
        return
    for dtype in dict.fromkeys(p.dtype for p in parameters):
        group = [p for p in parameters if p.dtype == dtype]
        used = group[0].new_tensor([float(p.grad is not None) for p in group])
        flat = [(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in group]
        total = torch.cat([*flat, used])
        dist.all_reduce(total)
        means = torch.split(total[: -len(group)] / size(), [p.numel() for p in group])
        for p, mean, count in zip(group, means, total[-len(group) :].tolist(), strict=True):
            p.grad = mean.view_as(p) if count else None


class _Sum(torch.autograd.Function):
    generate_vmap_rule = False

    @staticmethod
    def forward(values: Tensor) -> Tensor:
        total = values.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0] * size()

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        moved = tangents[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(moved)
        return moved


# -- small parts -------------------------------------------------------------------------------------------------------

_AGAIN = "the same command with --resume; on any number of processes"


def _several() -> bool:
    return torch.distributed.is_available() and dist.is_initialized()


def _speaking() -> torch.device:
    """Return where objects travel: NCCL knows GPUs only."""
    return device() if dist.get_backend() == "nccl" else torch.device("cpu")


def _timeout() -> float:
    given = os.environ.get("LOMIX_TIMEOUT", str(_TIMEOUT))
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e7:
        raise RunError(
            f'LOMIX_TIMEOUT is "{given}"; seconds > 0 are needed.', hint=f"export LOMIX_TIMEOUT={_TIMEOUT:g}"
        )
    return seconds


def _check_gpus(local: int) -> None:
    there = torch.cuda.device_count()
    if local >= there:
        raise RunError(
            f"process {local} of this machine has no GPU; there are {there}, and each process needs its own.",
            hint=[
                f"torchrun --nproc-per-node {there} -m lomix_search run RECIPE",
                'CUDA_VISIBLE_DEVICES="" torchrun …   # on CPUs',
            ],
        )


def _part() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def _first_line(cause: BaseException) -> str:
    lines = re.sub(r"^\[\S+\] ", "", str(cause)).splitlines()  # gloo puts its source file first
    return f"{type(cause).__name__}: {lines[0][:160]}" if lines else type(cause).__name__
