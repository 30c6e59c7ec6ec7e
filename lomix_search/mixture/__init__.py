"""What is mixed and how: operators, the search space, weightings, the loss, and the mixture that a search found.

Maps of logits and labels go in. One loss, the loss of each map and a ``mixture.json`` come out. The package knows
nothing of networks and of files of images. It imports ``errors`` and ``utils``.
"""
