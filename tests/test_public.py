"""The public surface: few names, documented, and a light import."""

import inspect
import subprocess
import sys

import lomix_search as lomix


def test_eight_public_names_or_fewer_each_documented() -> None:
    assert len(lomix.__all__) <= 8
    assert all(inspect.getdoc(getattr(lomix, name)) for name in lomix.__all__)


def test_importing_imports_none_of_the_extras() -> None:
    code = (
        "import sys, lomix_search\n"
        "extras = {'monai', 'nibabel', 'h5py', 'PIL', 'pydicom', 'scipy', 'slicerio', 'nrrd', 'optuna', 'wandb', "
        "'matplotlib', 'lightning_fabric', 'triton'}\n"
        "print(sorted(extras & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
