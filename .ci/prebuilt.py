"""Puts the compiled C++ kernel into a wheel, on request: a hook of hatchling.

    LOMIX_PREBUILT=here python -m build --wheel              # for this machine, with its C++ compiler
    LOMIX_PREBUILT=linux_x86_64 python -m build --wheel      # for any platform of TARGETS, with ziglang from PyPI

The wheel is then of that platform (``py3-none-…``); without LOMIX_PREBUILT it is the pure one.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parents[1]
SOURCE = "lomix_search/mixture/loss/backends/kernel.cpp"
FLAGS = ["-std=c++17", "-O3", "-fPIC", "-shared", "-pthread", "-fno-math-errno", "-fno-trapping-math"]
FLAGS += ["-ffp-contract=fast"]
TARGETS = {  # name: target of Zig, tag of the wheel
    "linux_x86_64": ("x86_64-linux-gnu.2.17", "manylinux_2_17_x86_64"),
    "linux_aarch64": ("aarch64-linux-gnu.2.17", "manylinux_2_17_aarch64"),
    "macos_arm64": ("aarch64-macos.11.0", "macosx_11_0_arm64"),
    "macos_x86_64": ("x86_64-macos.11.0", "macosx_11_0_x86_64"),
    "windows_x86_64": ("x86_64-windows-gnu", "win_amd64"),
}


class CustomBuildHook(BuildHookInterface):  # type: ignore[misc, type-arg]
    def dependencies(self) -> list[str]:
        return ["ziglang>=0.14"] if os.environ.get("LOMIX_PREBUILT", "here") != "here" else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        wanted = os.environ.get("LOMIX_PREBUILT")
        if not wanted or version == "editable":
            return
        if wanted != "here" and wanted not in TARGETS:
            raise SystemExit(f"LOMIX_PREBUILT={wanted}: unknown. Try: here, {', '.join(TARGETS)}")
        tag = sysconfig.get_platform().replace("-", "_").replace(".", "_") if wanted == "here" else TARGETS[wanted][1]
        self.folder = tempfile.mkdtemp(prefix="lomix_search-")
        for kind, flags in kinds(wanted).items():
            built = compiled(wanted, flags, Path(self.folder) / f"{kind}.so")
            name = f"kernel-{kind}-{hashlib.sha256(built.read_bytes()).hexdigest()}.so"
            build_data["force_include"][str(built)] = f"{SOURCE.rpartition('/')[0]}/kernels/{name}"
        build_data["pure_python"], build_data["tag"] = False, f"py3-none-{tag}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        shutil.rmtree(getattr(self, "folder", ""), ignore_errors=True)


def kinds(wanted: str) -> dict[str, list[str]]:
    """Return the kernels of a platform and the compiler's flags for each."""
    here = wanted == "here"
    if (platform.machine().lower() if here else wanted.partition("_")[2]) not in ("x86_64", "amd64"):
        return {"baseline": []}
    names = [
        f"-march=x86-64{level}" if here else f"-mcpu=x86_64{level.replace('-', '_')}" for level in ("", "-v3", "-v4")
    ]
    return {kind: [name] for kind, name in zip(("baseline", "avx2", "avx512"), names, strict=True)}


def compiled(wanted: str, flags: list[str], to: Path) -> Path:
    command = [sys.executable, "-m", "ziglang", "c++", "-target", TARGETS[wanted][0], "-s"] if wanted != "here" else []
    if not command:
        found = shutil.which(os.environ.get("CXX") or "c++") or shutil.which("g++") or shutil.which("clang++")
        if not found:
            raise SystemExit("LOMIX_PREBUILT=here: no C++ compiler on PATH. Try: LOMIX_PREBUILT=linux_x86_64")
        command = [found] if sys.platform == "darwin" else [found, "-static-libstdc++", "-static-libgcc"]
    subprocess.run([*command, *FLAGS, *flags, str(ROOT / SOURCE), "-o", str(to)], check=True)
    return to
