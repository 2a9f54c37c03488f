"""Event-driven products for CPUs: the same numbers as the dense product, without the arithmetic on zeros.

How many entries are not zero is measured when the product runs, and the cheaper of the two is taken then: a trace
knows shapes, not spikes. Sums are added in another order, so results agree up to rounding; a zero times a weight that
is not finite counts as zero here.
"""

from __future__ import annotations

from spyx.engine.events.choice import by_events as by_events
from spyx.engine.events.sparse_convolution import convolve as convolve
from spyx.engine.events.sparse_delays import delayed as delayed
from spyx.engine.events.sparse_delays import may_skip as may_skip
from spyx.engine.events.sparse_products import affine as affine
from spyx.engine.events.sparse_products import outer as outer

__all__ = ["affine", "by_events", "convolve", "delayed", "may_skip", "outer"]
