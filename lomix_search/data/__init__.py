"""From the files that people have to the items that training and evaluation read.

Folders of volumes, pictures or DICOM series go in; a :class:`~lomix_search.data.dataset.Splits` of training,
validation and test items comes out, and what is odd about them is said. Imports ``errors`` and ``utils``.
"""
