"""The TCP flags of a record: OR-ed over its aggregation interval and its direction; arrays in, arrays out, -1 where there are none.

Source: AWS, "Flow log records": FIN 1, SYN 2, RST 4, SYN-ACK 18; a packet with only ACK or PSH shows 0. RFC 9293 has the bits.
"""

from __future__ import annotations

from flowlog_udfs.columns import Flags, Ints

FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32
SYN_ACK = SYN | ACK


def opens(flags: Ints) -> Flags:
    """Whether the window holds a SYN, with or without ACK.

    >>> import numpy as np
    >>> opens(np.array([2, 18, 3, 19, 1, 0, -1])).tolist()
    [True, True, True, True, False, False, False]
    """
    return (flags >= 0) & (flags & SYN != 0)


def is_syn(flags: Ints) -> Flags:
    """Whether the source sent SYN and never ACK with it: it initiates.

    >>> import numpy as np
    >>> is_syn(np.array([2, 18, 3, 19, 1, 0, -1])).tolist()
    [True, False, True, False, False, False, False]
    """
    return (flags >= 0) & (flags & SYN_ACK == SYN)


def is_syn_ack(flags: Ints) -> Flags:
    """Whether the source answered a SYN: it responds.

    >>> import numpy as np
    >>> is_syn_ack(np.array([2, 18, 3, 19, 1, 0, -1])).tolist()
    [False, True, False, True, False, False, False]
    """
    return (flags >= 0) & (flags & SYN_ACK == SYN_ACK)


def closes(flags: Ints) -> Flags:
    """Whether the window holds a FIN or RST; neither says who initiated.

    >>> import numpy as np
    >>> closes(np.array([2, 3, 4, 0, -1])).tolist()
    [False, True, True, False, False]
    """
    return (flags >= 0) & (flags & (FIN | RST) != 0)


def resets(flags: Ints) -> Flags:
    """Whether the window holds a RST."""
    return (flags >= 0) & (flags & RST != 0)


def finishes(flags: Ints) -> Flags:
    """Whether the window holds a FIN."""
    return (flags >= 0) & (flags & FIN != 0)


def shows_every_flag(flags: Ints) -> Flags:
    """Whether the record betrays a format that shows PSH, URG or plain ACK too, where SYN with ACK may be two packets OR-ed."""
    return (flags >= 0) & ((flags & (PSH | URG) != 0) | (flags & SYN_ACK == ACK))


def mere_reset(flags: Ints) -> Flags:
    """Whether the window holds a RST and no SYN: an answer to packets that nobody asked for looks like that."""
    return resets(flags) & (flags & SYN == 0)
