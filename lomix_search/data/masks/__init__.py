"""From the mask files of a dataset to label values: which mask belongs to which image, and what its values mean."""
