"""A model and an example go in, its data flow comes out: a torch.fx graph that was seen to give the model's own output.

:func:`trace` tries three back ends in turn (``symbolic``, ``record``, ``export``) on a copy of the model, and whatever
the copy shares with the model is put back. Imports ``errors`` and ``utils``.
"""

from lomix_search.instrumentation.trace.graph import (
    ModuleCall,
    Trace,
    ValuePath,
    bare_tensor,
    leaves,
    operation,
    pick,
    spell,
    tensors,
)
from lomix_search.instrumentation.trace.inputs import Inputs, inputs_of, shapes, sizes
from lomix_search.instrumentation.trace.reachable import is_freed
from lomix_search.instrumentation.trace.tracing import BACKENDS, trace, trace_modes
from lomix_search.instrumentation.trace.twin import ALONE, fresh, is_compiled, on_twin, unwrap

__all__ = [
    "ALONE",
    "BACKENDS",
    "Inputs",
    "ModuleCall",
    "Trace",
    "ValuePath",
    "bare_tensor",
    "fresh",
    "inputs_of",
    "is_compiled",
    "is_freed",
    "leaves",
    "on_twin",
    "operation",
    "pick",
    "shapes",
    "sizes",
    "spell",
    "tensors",
    "trace",
    "trace_modes",
    "unwrap",
]  # fmt: skip
