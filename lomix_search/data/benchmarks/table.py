"""All benchmarks that ``lomix prepare`` knows, by name."""

from lomix_search.data.benchmarks.acdc import ACDC
from lomix_search.data.benchmarks.busi import BUSI
from lomix_search.data.benchmarks.chest_nodules import CHEST_NODULES
from lomix_search.data.benchmarks.isic2018 import ISIC2018
from lomix_search.data.benchmarks.layout import DatasetLayout
from lomix_search.data.benchmarks.polyp import POLYP
from lomix_search.data.benchmarks.synapse import SYNAPSE
from lomix_search.errors import DataError, nearest

LAYOUTS: dict[str, DatasetLayout] = {
    layout.name: layout for layout in (SYNAPSE, ACDC, POLYP, ISIC2018, CHEST_NODULES, BUSI)
}


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
        raise DataError(f'no benchmark "{benchmark}". {nearest(benchmark, LAYOUTS)}')
    return LAYOUTS[benchmark]
