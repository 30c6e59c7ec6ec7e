"""The kinds of data that a recipe names by ``data.kind``; each is one module and one line of ``table``."""
