"""All benchmarks that ``lomix prepare`` knows, by name."""

from lomix_search.data.benchmarks.acdc import ACDC_LAYOUT
from lomix_search.data.benchmarks.busi import BUSI_LAYOUT
from lomix_search.data.benchmarks.chest_nodules import CHEST_NODULES_LAYOUT
from lomix_search.data.benchmarks.hippocampus import HIPPOCAMPUS_LAYOUT
from lomix_search.data.benchmarks.isic2018 import ISIC2018_LAYOUT
from lomix_search.data.benchmarks.layout import DatasetLayout
from lomix_search.data.benchmarks.nuclei import NUCLEI_LAYOUT
from lomix_search.data.benchmarks.polyp import POLYP_LAYOUT
from lomix_search.data.benchmarks.synapse import SYNAPSE_LAYOUT
from lomix_search.errors import DataError, nearest

_ALL = (
    SYNAPSE_LAYOUT,
    ACDC_LAYOUT,
    POLYP_LAYOUT,
    ISIC2018_LAYOUT,
    CHEST_NODULES_LAYOUT,
    BUSI_LAYOUT,
    HIPPOCAMPUS_LAYOUT,
    NUCLEI_LAYOUT,
)
LAYOUTS: dict[str, DatasetLayout] = {layout.name: layout for layout in _ALL}


def find_layout(benchmark: str) -> DatasetLayout:
    """Return a benchmark's layout by name.

    Args:
        benchmark: Its name.

    Returns:
        The layout.

    Raises:
        DataError: no such benchmark.
    """
    if benchmark not in LAYOUTS:
        raise DataError(
            f'no benchmark "{benchmark}". {nearest(benchmark, LAYOUTS)}',
            hint="lomix new FOLDER DATA   # for data of your own",
        )
    return LAYOUTS[benchmark]
