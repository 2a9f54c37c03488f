"""The public conformance suite: what every surrogate, neuron and layer must satisfy, ours and yours.

Each check raises `AssertionError` with the promise that was broken. Use them in your own tests:

    def test_my_neuron():
        spyx.testing.check_neuron(MyNeuron(4))
"""

from __future__ import annotations

from spyx.testing._layers import check_layer as check_layer
from spyx.testing._neurons import check_neuron as check_neuron
from spyx.testing._surrogates import check_surrogate as check_surrogate

__all__ = ["check_layer", "check_neuron", "check_surrogate"]
