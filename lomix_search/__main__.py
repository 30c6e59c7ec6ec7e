"""``python -m lomix_search`` is ``lomix``."""

from lomix_search.cli import main

main()
