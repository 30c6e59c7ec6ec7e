"""One file or one case of each format, read as its type and values say, or refused by name."""
