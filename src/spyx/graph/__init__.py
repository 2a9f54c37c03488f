"""Networks as graphs: `Graph` with named nodes, and SNNAX's numbered `GraphStructure`."""

from __future__ import annotations

from spyx.graph._blocks import feed_forward as feed_forward
from spyx.graph._blocks import parallel as parallel
from spyx.graph._blocks import residual as residual
from spyx.graph._blocks import spiking_resnet_block as spiking_resnet_block
from spyx.graph._delay import Ring as Ring
from spyx.graph._execute import GraphState as GraphState
from spyx.graph._merge import MERGES as MERGES
from spyx.graph._network import Graph as Graph
from spyx.graph._snnax import GraphStructure as GraphStructure
from spyx.graph._snnax import StatefulModel as StatefulModel
from spyx.graph._snnax import States as States
from spyx.graph._snnax import debug_forward_fn as debug_forward_fn
from spyx.graph._snnax import default_forward_fn as default_forward_fn
from spyx.graph._snnax import init_states as init_states

__all__ = [
    "MERGES",
    "Graph",
    "GraphState",
    "GraphStructure",
    "Ring",
    "StatefulModel",
    "States",
    "debug_forward_fn",
    "default_forward_fn",
    "feed_forward",
    "init_states",
    "parallel",
    "residual",
    "spiking_resnet_block",
]
