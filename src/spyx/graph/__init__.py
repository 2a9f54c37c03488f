"""Networks as graphs: `Graph` with named nodes, and SNNAX's numbered `GraphStructure`."""

from __future__ import annotations

from spyx.graph._snnax import GraphStructure as GraphStructure
from spyx.graph._snnax import StatefulModel as StatefulModel
from spyx.graph._snnax import States as States
from spyx.graph._snnax import debug_forward_fn as debug_forward_fn
from spyx.graph._snnax import default_forward_fn as default_forward_fn
from spyx.graph._snnax import init_states as init_states
from spyx.graph.blocks import feed_forward as feed_forward
from spyx.graph.blocks import parallel as parallel
from spyx.graph.blocks import residual as residual
from spyx.graph.blocks import spiking_resnet_block as spiking_resnet_block
from spyx.graph.delay import Ring as Ring
from spyx.graph.execute import GraphState as GraphState
from spyx.graph.merge import MERGES as MERGES
from spyx.graph.network import Graph as Graph

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
