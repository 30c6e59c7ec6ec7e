"""The raw files that people have, one module for each benchmark: which files make a case, and how they are read."""
