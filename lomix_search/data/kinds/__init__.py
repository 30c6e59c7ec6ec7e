"""The kinds of data set that a recipe can name, each a module with ``Settings`` and ``load``."""
