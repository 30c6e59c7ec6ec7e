"""Object paths in files: ``"package.module:name"`` or ``"file.py:name"``, found and called with clear errors."""

import difflib
import importlib
import importlib.util
import inspect
import os
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from lomix_search.errors import LomixError, MissingExtraError, RecipeError, nearest, require
from lomix_search.utils.schema import shortened


def load_object(path: str, where: str) -> Any:
    """Import what an object path names.

    Args:
        path: ``"package.module:name"`` or ``"/folder/file.py:name"``.
        where: The recipe's key, for the message.

    Returns:
        The object.

    Raises:
        RecipeError: no such module, file or name.
        MissingExtraError: the package belongs to an extra of this library that is not installed.
    """
    module_name, _, name = path.rpartition(":")
    module = _run_file(Path(module_name)) if module_name.endswith(".py") else _import(module_name, where)
    if not hasattr(module, name):
        public = [n for n in vars(module) if not n.startswith("_")]
        close = nearest(name, public) if len(public) <= 30 else nearest(name, public).partition("Known")[0].strip()
        own = [n for n in public if getattr(getattr(module, n), "__module__", None) == module.__name__]
        like = [*difflib.get_close_matches(name, public, n=1), *own, "NAME"][0]
        told = f"{where} = {path!r}: {module_name} has no {name}. {close}".rstrip()
        raise RecipeError(told, hint=f"{module_name}:{like}")
    return getattr(module, name)


def call(build: Callable[..., Any], arguments: Mapping[str, Any], where: str) -> Any:
    """Call a builder with arguments from a recipe.

    Args:
        build: A class or function.
        arguments: Keyword arguments.
        where: The recipe's section, for the message.

    Returns:
        What it returns.

    Raises:
        RecipeError: it does not take these arguments; every unknown or missing one is named.
    """
    try:
        parameters = inspect.signature(build).parameters
    except (TypeError, ValueError):  # builtins without a signature
        return build(**arguments)
    named = [p for p in parameters.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    names = [p.name for p in named]
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    faults = [f"{where}.{k}: unknown. {nearest(k, names)}" for k in arguments if k not in names and not open_ended]
    faults += [f"{where}.{p.name}: missing." for p in named if p.default is p.empty and p.name not in arguments]
    name = getattr(build, "__name__", str(build))
    takes = ", ".join(p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in named)
    if faults:
        raise RecipeError(
            "\n".join([f"{name} cannot be called.", *(f"  {fault}" for fault in faults)]), seen=f"{name}({takes})"
        )
    try:
        return build(**arguments)
    except (TypeError, ValueError, LookupError, AssertionError) as cause:
        given = ", ".join(f"{key}={shortened(value)}" for key, value in arguments.items())
        raise RecipeError(
            f"{where}: {name} cannot be built of these arguments: {type(cause).__name__}: {cause}",
            seen=f"{name}({given})",
            hint=f"{name}({takes})   # its own defaults",
        ) from cause


def _import(name: str, where: str) -> ModuleType:
    top = name.partition(".")[0]
    if not top:  # "./nets", which Python takes for a module beside this one
        raise _no_code(name, where)
    if top == "monai":
        return require(name, "data")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and not name.startswith(error.name):  # not the module itself but something that it imports
            raise MissingExtraError(
                f"{where}: {name} needs {error.name}, which is not installed.",
                hint=f"pip install {(error.name or name).split('.')[0]}",
            ) from None
        if Path(f"{name}.py").is_file() or "/" in name or Path(name).is_file():  # nothing that could be installed
            raise _no_code(name, where) from None
        raise RecipeError(f"{where}: no module {name!r}.", seen=str(error), hint=f"pip install {top}") from None


def _no_code(name: str, where: str) -> RecipeError:
    """Return the error about a file in place of a module, which does not end in .py as it is named."""
    there = Path(name).is_file()
    return RecipeError(
        f"{where}: {name!r} is no module; files of code end in .py.",
        seen="it is a file with another ending" if there else f"there is no file {name}",
        hint=f"{name}.py:NAME" if Path(f"{name}.py").is_file() else f"{Path(name).with_suffix('.py')}:NAME",
    )


def _run_file(path: Path) -> ModuleType:
    """Import a file once, under a name of its own, so that its classes can be pickled within this process."""
    name = "lomix_file_" + re.sub(r"\W", "_", str(path.resolve()))
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise RecipeError(f"no file {path}.", hint="file.py:name, the file beside the recipe, or by its whole path")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as cause:
        del sys.modules[name]
        if isinstance(cause, Exception) and not isinstance(cause, LomixError):
            raise _failing(path, cause) from cause
        raise
    return module


def _failing(path: Path, cause: Exception) -> RecipeError:
    """Return the error about a file of code that cannot be imported, with the last of its own lines that ran."""
    frames, whole = traceback.extract_tb(cause.__traceback__), str(path.resolve())
    lines = [frame.lineno for frame in frames if os.path.realpath(frame.filename) == whole]
    line = cause.lineno if isinstance(cause, SyntaxError) else lines[-1] if lines else None
    return RecipeError(
        f"{path}{f', line {line}' if line else ''}: the file cannot be imported.",
        seen=f"{type(cause).__name__}: {getattr(cause, 'msg', None) or cause}",
        hint=f"python {shlex.quote(str(path))}   # shows where",
    )
