"""From a folder as somebody has it to what is in it: cases, and the names that its own files give to things."""
