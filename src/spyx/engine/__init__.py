"""The engine: how time is executed. Pure JAX; every function takes `(step, p, xs, s0)` and knows no neuron by name.

`step(p, x, s) -> (out, s')` is one time step, `p` a `Params`, `xs` has time on axis 0, `s0` is the state before.
Every mode returns `(outs, s_T)`, the same numbers.
"""

from __future__ import annotations

from spyx.engine.affine import parallel as parallel
from spyx.engine.fixed_point import Convergence as Convergence
from spyx.engine.fixed_point import exact as _exact
from spyx.engine.fixed_point import fixed_point as fixed_point
from spyx.engine.fused import fused as _fused
from spyx.engine.kernels.kernel_cache import compilation_cache as compilation_cache
from spyx.engine.loop import layer as layer
from spyx.engine.loop import single as _single
from spyx.engine.params import Params as Params

__all__ = ["MODES", "Convergence", "Params", "compilation_cache", "fixed_point", "layer", "parallel"]

MODES = {"step": _single, "layer": layer, "parallel": parallel, "fixed_point": _exact, "fused": _fused}
"""How one neuron runs over time, by the mode's name; "step" is one time step."""
