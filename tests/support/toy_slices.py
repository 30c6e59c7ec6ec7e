"""A few random slices of some cases, with any augmentation."""

import numpy as np

from lomix_search.data.augment import augmentation
from lomix_search.data.dataset import Slices


def toy(augment: str = "none", n: int = 10, **kwargs: object) -> Slices:
    rng = np.random.default_rng(0)
    images, labels = rng.random((n, 1, 32, 32), np.float32), rng.integers(0, 3, (n, 32, 32))
    options = {"num_classes": 3, "augment": augmentation(augment)} | kwargs
    return Slices(images, labels, [f"p{i // 4}" for i in range(n)], **options)
