"""What a run depends on beside its recipe, in environment.json: versions, device, threads, commits, the data."""

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field

from lomix_search.data.dataset import Slices, Splits
from lomix_search.data.manifest import sha256
from lomix_search.data.random_generators import RandomGenerators
from lomix_search.errors import RunError
from lomix_search.mixture.loss.dispatch import choose_engine
from lomix_search.recipe.recipe import Recipe
from lomix_search.training.surroundings import DECISIVE_PACKAGES, Git, commit_text, git_state, processor_name
from lomix_search.utils.files import read_json, write_text
from lomix_search.utils.random import seeded
from lomix_search.utils.schema import Frozen, build_typed
from lomix_search.utils.shipped import PACKAGE

_SAMPLES = 8
_WHOLE = 1 << 30  # bytes; hashing as many takes about a second


class DataPrint(Frozen):
    """A hash that changes when the data do.

    Args:
        kind: The recipe's kind of data.
        sha256: Over what ``of`` says.
        of: What was hashed.
    """

    kind: str
    sha256: str
    of: str


class LearnedLabels(Frozen):
    """What a network learns to tell apart.

    Args:
        classes: Names by channel, the background first; or the regions.
        multilabel: They are regions that may overlap.
        regions: Label values of each region.
        ignore_index: Label value that counts nowhere.
    """

    classes: tuple[str, ...]
    multilabel: bool = False
    regions: dict[str, tuple[int, ...]] = Field(default_factory=dict)
    ignore_index: int | None = None

    @classmethod
    def of(cls, splits: Splits) -> "LearnedLabels":
        """Return what data teach."""
        regions = {name: tuple(values) for name, values in splits.regions.items()}
        return cls(
            classes=splits.classes, multilabel=splits.multilabel, regions=regions, ignore_index=splits.ignore_index
        )

    def __str__(self) -> str:
        """Return it in one line."""
        if not self.multilabel:
            named = f"classes {', '.join(self.classes)}"
        else:
            parts = (f"{n} {list(self.regions[n])}" if n in self.regions else n for n in self.classes)
            named = f"regions {', '.join(parts)}"
        return named if self.ignore_index is None else f"{named}; {self.ignore_index} ignored"


class Environment(Frozen):
    """What a run depends on beside its recipe.

    Args:
        python: Version of Python.
        system: Operating system and processor architecture.
        device: The GPU, or the processor.
        capability: Vector instructions that PyTorch uses, or the GPU's compute capability.
        threads: Threads of PyTorch.
        engine: What computes the mixture loss.
        packages: Every installed package with its version.
        library: The checkout that this library runs from; None for an installed one.
        project: The checkout of the working folder that the run was started in; None outside one.
        data: Hash of the data.
        learned: What the network learns; None in runs of earlier versions.
    """

    python: str
    system: str
    device: str
    capability: str
    threads: int
    engine: str
    packages: dict[str, str]
    library: Git | None = None
    project: Git | None = None
    data: DataPrint | None = None
    learned: LearnedLabels | None = None

    @property
    def library_commit(self) -> str | None:
        """Commit of the library's checkout, None for an installed one."""
        return self.library.commit if self.library else None

    def differences(self, other: "Environment") -> list[str]:
        """Say what is different in another environment and may change a result.

        Args:
            other: The other one.

        Returns:
            Lines such as ``torch: 2.12.0, then 2.13.0``; empty when nothing is.
        """
        apart = {"packages", "library", "project", "data", "learned"}
        mine, theirs = (env.model_dump(exclude=apart) for env in (self, other))
        pairs = [(key, mine[key], theirs[key]) for key in mine]
        pairs += [(name, self.packages.get(name, "–"), other.packages.get(name, "–")) for name in DECISIVE_PACKAGES]
        pairs += [("library", commit_text(self.library), commit_text(other.library))]
        pairs += [("project", commit_text(self.project), commit_text(other.project))]
        pairs += [("data", _short(self.data), _short(other.data))]
        return [f"{key}: {before}, then {now}" for key, before, now in pairs if before != now]


def environment_of(recipe: Recipe, splits: Splits) -> Environment:
    """Look at what a run is about to depend on.

    Args:
        recipe: The recipe.
        splits: Its data.

    Returns:
        The environment.
    """
    cuda = torch.cuda.is_available()
    return Environment(
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
        device=torch.cuda.get_device_name() if cuda else processor_name(),
        capability=".".join(map(str, torch.cuda.get_device_capability()))
        if cuda
        else torch.backends.cpu.get_cpu_capability(),
        threads=torch.get_num_threads(),
        engine=choose_engine("auto", "cuda" if cuda else "cpu"),
        packages=dict(_packages()),
        library=git_state(PACKAGE.parent, root=True),
        project=git_state(Path.cwd()),
        data=data_print(recipe, splits),
        learned=LearnedLabels.of(splits),
    )


def check_learned(folder: Path, known: Sequence[Environment], splits: Splits) -> None:
    """Refuse to go on with a network, or to score it, by other classes or regions than it learned.

    Args:
        folder: The run folder.
        known: Its environments.
        splits: The data as they are now.

    Raises:
        RunError: they differ; both are named.
    """
    before, now = known[-1].learned if known else None, LearnedLabels.of(splits)
    if before is not None and before != now:
        raise RunError(
            f"the network in {folder} learned another task than the data have now.",
            seen=[f"then: {before}", f"now:  {now}"],
            hint="the recipe and the data as they were; or another folder, to train anew",
        )


def note_environment(folder: Path, environment: Environment) -> Environment:
    """Add an environment to ``environment.json`` of a run folder; one equal to the last is not written again.

    Args:
        folder: The run folder.
        environment: What the run is about to depend on: at its first start, and again when it is resumed elsewhere.

    Returns:
        The environment.
    """
    known = read_environments(folder)
    if not known or known[-1] != environment:
        content = [one.model_dump() for one in (*known, environment)]
        write_text(folder / "environment.json", json.dumps({"starts": content}, indent=1) + "\n")
    return environment


class _Starts(Frozen):
    starts: tuple[Environment, ...]


def read_environments(folder: Path) -> tuple[Environment, ...]:
    """Read what a run depended on, one environment a start that differed from the one before.

    Args:
        folder: The run folder.

    Returns:
        The environments; empty for a run of an earlier version.

    Raises:
        RunError: the file is malformed.
    """
    path = folder / "environment.json"
    return build_typed(_Starts, read_json(path, RunError), str(path), RunError).starts if path.exists() else ()


def data_print(recipe: Recipe, splits: Splits) -> DataPrint:
    """Hash the data of a recipe: the manifest of prepared data, which holds the hash of every file; else the items.

    Items that lie in arrays of less than 1 GiB are hashed whole. Of others it is the names and the sets of all, and the
    content of a few.

    Args:
        recipe: Names the data.
        splits: Its three sets.

    Returns:
        The hash.
    """
    kind = recipe.data.kind.rpartition(":")[2]
    digest = hashlib.sha256(json.dumps(_shares(splits)).encode())
    manifest = Path(str(recipe.data.settings.get("root", ""))) / "manifest.json"
    if recipe.data.kind == "prepared":
        digest.update(sha256(manifest).encode())
        return DataPrint(kind=kind, sha256=digest.hexdigest(), of="manifest and split")
    sets = (splits.train, splits.val, splits.test)
    arrays = [part for each in sets for part in (each.images, each.labels) if isinstance(part, np.ndarray)]
    if len(arrays) == 2 * len(sets) and sum(array.nbytes for array in arrays) < _WHOLE:
        for array in arrays:
            digest.update(np.ascontiguousarray(array).tobytes())
        return DataPrint(kind=kind, sha256=digest.hexdigest(), of="all items and the split")
    for each in sets[1:]:  # these are not augmented
        for index in _spread(len(each)):
            digest.update(_item_bytes(each, index))
    return DataPrint(kind=kind, sha256=digest.hexdigest(), of=f"the split, {_SAMPLES} items of val and test each")


def _shares(splits: Splits) -> list[Any]:
    sets = (splits.train, splits.val, splits.test)
    return [list(splits.classes), *([list(each.cases), [Path(name).name for name in each.names]] for each in sets)]


def _spread(number: int) -> Sequence[int]:
    return sorted({round(i) for i in np.linspace(0, number - 1, min(_SAMPLES, number))}) if number else []


def _item_bytes(part: Slices, index: int) -> bytes:
    with seeded(0), RandomGenerators(part).seeded(0):
        image, label = part[index]
    return image.numpy().tobytes() + label.numpy().tobytes()


@lru_cache(maxsize=1)
def _packages() -> Mapping[str, str]:
    """Return every installed package with its version; read once, for reading hundreds takes as long as a short run."""
    notes = [dist.metadata for dist in importlib.metadata.distributions()]
    return dict(sorted((str(note["Name"]), str(note["Version"])) for note in notes if note["Name"]))


def _short(data: DataPrint | None) -> str:
    return data.sha256[:12] if data else "–"
