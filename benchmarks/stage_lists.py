"""Run labelled lists of networks again and print what was found, in environments of their own.

PYTHONPATH=.:tests python benchmarks/stage_lists.py --install [LIST …]     installs the lists' packages into .venv-lists
PYTHONPATH=.:tests python benchmarks/stage_lists.py [LIST …] [NETWORK …]   judges; without names, all lists

Each package lies in a folder of its own and each network runs in a process of its own, because packages share names of
modules. What several of them import lies in .venv-lists/shared. Of torch, the one that is installed is used.

*Same*: the eval output is equal bit for bit. *Unchanged*: so is all else that the network holds, after its stages were
found, printed and drawn, in train and in eval mode: of every parameter, buffer and other tensor a hash of its bits, its
version, flags and gradient; hooks, modes, attributes, what lies in lists and objects, in classes and in the Python
modules that define them; and the process's random states and settings.
"""

import pathlib
import shutil
import subprocess
import sys
from collections import Counter
from multiprocessing.pool import ThreadPool

import torch
from published.apart import PACKAGES, apart
from published.judge import Verdict, judge
from published.lists import labelled_lists

PINS = ("tests/published/requirements.txt", "tests/published/requirements-unseen.txt")
SHARED = "tests/published/requirements-{}.txt"
"""What several packages import, of all lists (shared) and of one (LIST-shared)."""


def main() -> None:
    lists = labelled_lists()
    asked = [name for name in sys.argv[1:] if name != "--install"]
    chosen = [lists[name] for name in asked if name in lists] or list(lists.values())
    if "--install" in sys.argv:
        packages = {entry["pkg"] for one in chosen for entry in one.networks if "pkg" in entry}
        install(packages, ["shared", *(f"{one.name}-shared" for one in chosen)])
        return
    torch.set_num_threads(1)
    networks = [name for name in asked if name not in lists]
    for one in chosen:
        entries = [e for e in one.networks if not networks or any(name in e["id"] for name in networks)]
        print(f"\n## {one.name}{' (blind)' * one.blind}: labelled {one.labels}\n")
        print("| network | stages found, coarse to fine | right | sure | same | unchanged |\n|---|---|---|---|---|---|")
        print(counted([(entry, shown(entry)) for entry in entries]), flush=True)


def shown(entry: dict) -> Verdict | str:
    """Judge a network, and print its row."""
    verdict = apart(lambda one: judge(one, train=False, marks=True), entry, 600)
    if isinstance(verdict, str):
        print(f"| {entry['id']} | not run: {verdict.splitlines()[0][:100]} | — | — | — | — |", flush=True)
        return verdict
    found = ", ".join(f"`{name}`" for name in verdict.found) or verdict.refused
    right = "—" if "nonU" in entry["tags"] else "yes" if verdict.right else "**no**"
    sure = "—" if verdict.refused else "yes" if verdict.sure else "no"
    same = "yes" if verdict.same else "**no**"
    unchanged = f"**no**: {len(verdict.changed)}, {verdict.changed[0]}" if verdict.changed else "yes"
    print(f"| {entry['id']} | {found} | {right} | {sure} | {same} | {unchanged} |", flush=True)
    return verdict


def counted(found: list[tuple[dict, Verdict | str]]) -> str:
    """Say how many ladders are right, and how many of those that are sure."""
    count = Counter()
    for entry, verdict in found:
        if isinstance(verdict, str):
            count["not run"] += 1
            continue
        count["changed"] += bool(verdict.changed)
        if "nonU" not in entry["tags"]:
            count["ladders"] += 1
            count["right"] += verdict.right
            count["sure"] += verdict.sure
            count["sure and right"] += verdict.sure and verdict.right
    return (
        f"\n{count['right']} of {count['ladders']} ladders right; of {count['sure']} that are sure "
        f"{count['sure and right']}; {count['not run']} not run; {count['changed']} changed"
    )


def install(packages: set[str], shared: list[str]) -> None:
    """Put each package into its folder, at the version of the files of pins, and what several need into others."""
    pins = dict(pin.split("==") for file in PINS for pin in pinned(file))
    own = {name: [f"{name}=={pins[name]}"] for name in sorted(packages & pins.keys())}
    own |= {name: pinned(file) for name in shared if pathlib.Path(file := SHARED.format(name)).exists()}
    wanted = {name: pins for name, pins in own.items() if not (PACKAGES / name).exists()}
    with ThreadPool(2) as pool:  # it waits for the network
        for i, (name, fault) in enumerate(pool.imap_unordered(put, wanted.items()), 1):
            print(f"{i} of {len(wanted)}: {name}{fault and ' cannot be installed: ' + fault}", flush=True)


def pinned(file: str) -> list[str]:
    return [line.strip() for line in pathlib.Path(file).read_text().splitlines() if "==" in line and line[0] != "#"]


def put(wanted: tuple[str, list[str]]) -> tuple[str, str]:
    """Install into a folder that gets its name when it is whole; return the name and what went wrong."""
    folder, pins = wanted
    made = PACKAGES / f"{folder}.part"
    shutil.rmtree(made, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-compile", "-t", str(made), *pins]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return folder, (done.stderr.strip().splitlines() or ["pip says nothing"])[-1]
    made.rename(PACKAGES / folder)
    return folder, ""


if __name__ == "__main__":
    main()
