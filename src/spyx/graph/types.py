"""What goes through a graph, by name. For annotations alone: import it under `TYPE_CHECKING`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence
    from typing import TypeAlias

    import jax
    from jaxtyping import Array, Int, PyTree, Shaped

    from spyx.graph._schedule import Edge
    from spyx.nn._delayed import Delayed

    Signal: TypeAlias = PyTree[Shaped[Array, "..."]]
    """What an edge carries: one time step (batch, *features), or all of them, (time, batch, *features)."""

    Signals: TypeAlias = dict[str, Signal]
    """The outputs of nodes and inputs, by name."""

    Spec: TypeAlias = PyTree[jax.ShapeDtypeStruct]
    """Shape and dtype of a signal at one time step, (batch, *features)."""

    Specs: TypeAlias = dict[str, Spec]
    """What is known of the signals of one time step, by name of the node or input."""

    Value: TypeAlias = Callable[[int, Edge], Signal]
    """What an edge delivers, from its index in the plan and itself."""

    Past: TypeAlias = PyTree[Shaped[Array, "batch length ..."]]
    """The last steps of a signal, as a `Ring` stores them."""

    Position: TypeAlias = Int[Array, ""]
    """The slot of a `Ring` that the next push overwrites."""

    WrittenEdge: TypeAlias = (
        tuple[str, str] | tuple[str, str, int] | tuple[str, str, Delayed] | tuple[str, str, int, Delayed]
    )
    """(source, target), then a delay in time steps, an `nn.Delayed`, or both."""

    SampleShape: TypeAlias = int | Sequence[int]
    """Shape of one sample at one time step, without batch; a number is one axis."""

    InputShape: TypeAlias = SampleShape | Mapping[str, SampleShape]
    """`SampleShape` of the one input, or of every input by name."""

    InputShapes: TypeAlias = SampleShape | Sequence[SampleShape]
    """`SampleShape` of the one external input of a numbered graph, or of each."""

    Trials: TypeAlias = dict[Hashable, Spec | Exception]
    """The output of a node for an input, by name and the input's shapes, or the error that it raised."""
