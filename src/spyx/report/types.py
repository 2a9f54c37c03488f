"""What `spyx.report` takes and measures, by name. For annotations alone: import it under `TYPE_CHECKING`.

Axes have the same names everywhere: `samples`, `time`, `units` (of a layer, made flat), `*features` for units of any
shape, `classes`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Protocol, TypeAlias

    import numpy as np
    from flax import nnx
    from jaxtyping import Array, Bool, Float, Integer, Num, Shaped
    from numpy.typing import ArrayLike

    from spyx import data
    from spyx.nn import Layer
    from spyx.nn._layer import ByIdentity

    Samples: TypeAlias = Num[np.ndarray | Array, "samples time *features"]
    """Input of a network."""

    Labels: TypeAlias = Integer[ArrayLike, "samples *time"]
    """A class of each sample, or of each of its steps, where -1 is none."""

    Lengths: TypeAlias = Integer[ArrayLike, " samples"]
    """Steps of each sample that count."""

    Sample: TypeAlias = Num[np.ndarray, "time *features"]
    """Input or outputs of one sample."""

    Rows: TypeAlias = Shaped[np.ndarray | Array, "samples ..."]
    """One part of a batch."""

    Part: TypeAlias = Samples | tuple[Rows, ...] | data.Batch | data.SequenceBatch
    """Input alone; or input, labels and whatever else a loss takes; or a batch of a `spyx.data.Loader`."""

    Batch: TypeAlias = Part | list[Rows]
    """A `Part`; input, labels and the rest may be a list here."""

    Loss: TypeAlias = Callable[..., Float[Array, ""]]
    """`(traces, targets) -> loss`: traces (samples, time, classes); a loss of `spyx.fn` takes `lengths=` too."""

    Objective: TypeAlias = Callable[..., Float[Array, ""]]
    """`(model, *batch) -> loss`, as `spyx.optimize.fit` takes it."""

    History: TypeAlias = Sequence[Mapping[str, float]]
    """Of a training: for each epoch, numbers by name, such as `train_loss` and `eval_acc`."""

    Layers: TypeAlias = Mapping[str, Layer]
    """Layers of a network by path."""

    Structure: TypeAlias = nnx.GraphDef | ByIdentity
    """What is static of a network, for a compiled function."""

    Seen: TypeAlias = dict[str, Shaped[Array, "samples time ..."]]
    """What `spyx.nn.observe` saw, by path and, behind a dot, name of a state variable."""

    Alive: TypeAlias = Bool[Array, "samples time"]
    """Which steps of which samples count."""

    class Sloped(Protocol):
        """A surrogate: `slope(membrane - threshold)` is the derivative that it has, elementwise."""

        @property
        def slope(self) -> Callable[..., Float[ArrayLike, "..."]]: ...
