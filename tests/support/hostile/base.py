"""The list of hostile networks, and the small network that most of them are made of."""

from typing import Any

from support.zoo import SmallUNet


class Odd(SmallUNet):
    """A small network that does something more in each pass."""

    def forward(self, x):
        self.odd(x)
        return super().forward(x)


HOSTILE: dict[str, Any] = {}


def hostile(cls):
    HOSTILE[cls.__name__] = cls
    return cls
