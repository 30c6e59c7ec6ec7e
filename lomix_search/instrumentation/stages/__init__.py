"""From a network and an example to the stages of its decoder, coarse to fine.

A trace goes in: the graph of one forward pass, with the module calls that made it. Out comes :class:`FoundStages`: each
stage with its name, its size and the place at which its tensor can be had while the network runs. This package imports
the traces beside it, ``errors`` and ``utils``.

In the order in which a network passes the modules:

1. ``operations``: what kind of operation each node is.
2. ``axis``, ``layouts``, ``axes``: which axes of each value are batch, channels and space; that makes it a map.
3. ``main_output``, ``ending``: which returned value is the map of logits, and which activation the network ends in.
4. ``flow``: the maps that lead to the logits; where they rise and merge, and the trunk through them.
5. ``blocks``, ``levels``, ``side_by_side``: blocks that go down and up are hidden, and the trunk is cut into levels.
6. ``level_stage``, ``coarsest_stage``, ``finest_stage``: the value with which a level is finished. ``cuts``: not
   inside a block, as the ways around it show one.
7. ``deep_supervision``: what the network makes logits of by itself in train mode.
8. ``decoder``: all stages of a trace. ``by_name``: those that a user names instead.
9. ``candidates``, ``ladder``, ``sure``: a second reading of the same levels, by scores, and whether both agree.
10. ``taps``, ``stage``: where each is tapped, and what is told about it.
11. ``returned_logits``, ``read_logits``: where the network's own logits are in what it returns, and how they are read.
12. ``find``: all of this, for one network.
"""

from lomix_search.instrumentation.stages.decoder import decoder_stages
from lomix_search.instrumentation.stages.find import FoundStages, find_stages
from lomix_search.instrumentation.stages.stage import Stage, Stages
from lomix_search.instrumentation.stages.taps import Tap, tap_of

__all__ = ["FoundStages", "Stage", "Stages", "Tap", "decoder_stages", "find_stages", "tap_of"]
