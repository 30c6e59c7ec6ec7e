"""From the files that people have to the items that training and evaluation read.

Folders of volumes, pictures or DICOM series go in (``readers``, ``masks``, ``benchmarks``, ``prepare``); a
:class:`~lomix_search.data.dataset.Splits` of training, validation and test items comes out (``kinds``, ``dataset``),
and what is odd about them is said (``sanity``, ``audit``). Imports ``errors`` and ``utils``.
"""
