"""Settings of the whole process that a network, or an interruption, may leave changed: noted before, put back after."""

import builtins
import contextlib
import functools
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils import _python_dispatch as dispatch

from lomix_search.utils.random import note_random_state

_Read = Callable[[], Any]
_Write = Callable[[Any], Any]

_UNKNOWN = object()


def _attribute(owner: Any, name: str) -> tuple[_Read, _Write]:
    return (lambda: getattr(owner, name)), (lambda value: setattr(owner, name, value))


def _of_device(read: Callable[[str], Any], write: Callable[[str, Any], Any], kind: str) -> tuple[_Read, _Write]:
    return (lambda: read(kind)), (lambda value: write(kind, value))


def _settings() -> Iterator[tuple[_Read, _Write]]:
    """Yield for each setting what reads and what writes it, first those that reading and writing the others needs."""
    yield torch._C._len_torch_dispatch_stack, _pop_modes
    yield torch.is_grad_enabled, torch._C._set_grad_enabled
    yield from (
        _attribute(builtins, "isinstance"), _attribute(nn.Module, "__call__"), _attribute(sys, "stdout"),
        _attribute(sys, "stderr"), _attribute(warnings, "showwarning"),
    )  # fmt: skip
    yield (lambda: list(warnings.filters)), _write_filters
    yield _device, torch.set_default_device
    yield torch.get_default_dtype, torch.set_default_dtype
    yield torch.get_num_threads, torch.set_num_threads
    yield torch.is_anomaly_enabled, torch.set_anomaly_enabled
    yield torch.is_anomaly_check_nan_enabled, lambda value: torch.set_anomaly_enabled(torch.is_anomaly_enabled(), value)
    for kind in ("cpu", "cuda"):
        yield _of_device(torch.is_autocast_enabled, torch.set_autocast_enabled, kind)
        yield _of_device(torch.get_autocast_dtype, torch.set_autocast_dtype, kind)
    yield torch.is_autocast_cache_enabled, torch.set_autocast_cache_enabled
    yield from _kernels()
    yield np.geterr, lambda value: np.seterr(**value)


def _write_filters(before: Any) -> None:
    warnings.resetwarnings()  # tells that they have changed, as writing alone does not
    warnings.filters[:] = before  # type: ignore[index]


def _kernels() -> Iterator[tuple[_Read, _Write]]:
    """Settings that choose torch's kernels, and how exact these are."""
    yield (
        lambda: (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()),
        lambda value: torch.use_deterministic_algorithms(value[0], warn_only=value[1]),
    )
    cudnn, cuda = torch.backends.cudnn, torch.backends.cuda
    for name in ("enabled", "benchmark", "deterministic"):
        yield _attribute(cudnn, name)
    for name in ("allow_fp16_reduced_precision_reduction", "allow_bf16_reduced_precision_reduction"):
        yield _attribute(cuda.matmul, name)
    precisions = [*_precisions()]
    yield (lambda: [_tried(read) for read, _ in precisions]), (lambda values: _write_each(precisions, values))
    yield torch._C._get_mkldnn_enabled, torch._C._set_mkldnn_enabled
    yield cuda.flash_sdp_enabled, cuda.enable_flash_sdp
    yield cuda.mem_efficient_sdp_enabled, cuda.enable_mem_efficient_sdp
    yield cuda.math_sdp_enabled, cuda.enable_math_sdp


def _precisions() -> Iterator[tuple[_Read, _Write]]:
    """The two ways in which torch says whether float32 may be TF32: writing the older ones changes the newer ones."""
    yield torch.get_float32_matmul_precision, torch.set_float32_matmul_precision
    yield _attribute(torch.backends.cudnn, "allow_tf32")
    yield _attribute(torch.backends.cuda.matmul, "allow_tf32")
    for name in (
        "",
        "cuda.matmul",
        "cudnn",
        "cudnn.conv",
        "cudnn.rnn",
        "mkldnn",
        "mkldnn.matmul",
        "mkldnn.conv",
        "mkldnn.rnn",
    ):
        with contextlib.suppress(AttributeError):  # torch before 2.9 has the older ones alone
            yield _attribute(
                functools.reduce(getattr, name.split(".") if name else (), torch.backends), "fp32_precision"
            )


def _tried(read: _Read) -> Any:
    try:
        return read()
    except Exception:  # torch refuses to say it the older way once the newer one was used
        return _UNKNOWN


def _write_each(pairs: list[tuple[_Read, _Write]], values: list[Any]) -> None:
    for (_, write), value in zip(pairs, values, strict=True):
        if value is not _UNKNOWN:
            with contextlib.suppress(Exception):
                write(value)


def _device() -> Any:
    return getattr(getattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", None), "device", None)


def _pop_modes(depth: int) -> None:
    while torch._C._len_torch_dispatch_stack() > depth:
        dispatch._pop_mode()


class ProcessState:
    """The settings and the random states of the process as they are now."""

    def __init__(self) -> None:
        self._settings, self._put_random_back = _read(_settings()), note_random_state()

    def put_back(self) -> None:
        """Put back what has changed; harmless a second time."""
        for read, write, before in self._settings:
            if _tried(read) != before:
                with contextlib.suppress(Exception):  # the others must still be put back
                    write(before)
        self._put_random_back()


def _read(pairs: Iterator[tuple[_Read, _Write]]) -> list[tuple[_Read, _Write, Any]]:
    found = []
    for read, write in pairs:
        with contextlib.suppress(Exception):  # this torch does not have it, or it was set by its newer name
            found.append((read, write, read()))
    return found


def repeatable_kernels() -> None:
    """Have cuDNN take the same kernel for the same shapes, so that a network that runs twice gives one output.

    Kernels that add up in any order make outputs differ by more than a graph that is believed may. cuDNN does not try
    all kernels either: for shapes that it sees only a few times, that costs more than it gains.
    """
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
