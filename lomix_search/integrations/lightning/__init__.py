"""Lightning 2.6: ``Trainer(callbacks=[LoMixCallback()])``, and nothing else in the user's code."""

from lomix_search.integrations.lightning.callback import LoMixCallback

__all__ = ["LoMixCallback"]
