"""Named protocols: which measures are reported, and what an empty mask counts.

Two masks of one class go in; values by name come out. A new protocol is one module beside these, its entry below, and
:func:`~lomix_search.evaluation.testing.check_protocol` passes for it.
"""

from collections.abc import Mapping

from lomix_search.errors import DataError, nearest
from lomix_search.evaluation.protocols.isic2018 import ISIC2018_PROTOCOL
from lomix_search.evaluation.protocols.polyp import POLYP_PROTOCOL
from lomix_search.evaluation.protocols.protocol import Protocol
from lomix_search.evaluation.protocols.strict import STRICT_PROTOCOL
from lomix_search.evaluation.protocols.transunet import TRANSUNET_PROTOCOL

PROTOCOLS: Mapping[str, Protocol] = {
    p.name: p for p in (STRICT_PROTOCOL, TRANSUNET_PROTOCOL, POLYP_PROTOCOL, ISIC2018_PROTOCOL)
}


def find_protocol(name: str) -> Protocol:
    """Return a protocol by name.

    Args:
        name: ``strict``, ``transunet``, ``polyp`` or ``isic2018``.

    Returns:
        The protocol.

    Raises:
        DataError: no such protocol.
    """
    if name not in PROTOCOLS:
        raise DataError(f'no protocol "{name}". {nearest(name, PROTOCOLS)}')
    return PROTOCOLS[name]
