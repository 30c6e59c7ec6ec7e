"""What is mixed and how: operators, the search space, weightings, the loss, and the mixture that a search found.

Logits maps and labels go in; one loss, the loss of each map and a ``mixture.json`` come out. Knows no network and no
file of images. Imports ``errors`` and ``utils``.
"""
