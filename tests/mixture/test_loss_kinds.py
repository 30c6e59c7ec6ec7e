"""The kernels of other processors of the kind, as far as this one can run them, keep to the reference as well."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from lomix_search.mixture.loss.backends.compiler import find_compiler

HERE = Path(__file__).parent


@pytest.mark.slow
@pytest.mark.skipif(
    find_compiler() is None or platform.machine() != "x86_64", reason="no C++ compiler, or one kernel for all here"
)
@pytest.mark.parametrize("kind", ["baseline", "avx2"])
def test_the_kernels_without_longer_vectors_are_exact(kind: str) -> None:
    level = "import lomix_search.mixture.loss.backends.kernel_cache as k; print(k.library().lomix_level())"
    env = os.environ | {"LOMIX_NATIVE": kind, "PYTHONPATH": os.pathsep.join(map(str, (HERE.parents[1], HERE.parent)))}
    asked = subprocess.run([sys.executable, "-c", level], env=env, capture_output=True, text=True, check=True)
    if kind == "avx2" and int(asked.stdout) < 1:
        pytest.skip("this processor has no AVX2")
    tests = [HERE / f"test_loss_{part}.py" for part in ("exact", "golden", "fused", "terms_engines")]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "not tiled", *map(str, tests)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, cwd=HERE.parents[1])
    assert done.returncode == 0, done.stdout[-3000:]
