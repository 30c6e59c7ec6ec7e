"""Networks that other people published."""
