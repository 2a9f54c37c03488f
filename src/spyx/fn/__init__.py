"""Losses, metrics and activity regularisers for spiking networks.

Every public lower-case name except `spike_counts` and `check_labels` is a factory: it takes the settings and returns a
compiled callable.

- a loss: `(traces, targets, *, mask, lengths, weights) -> scalar`
- a metric: `(traces, targets, *, mask, lengths, weights) -> (score, predictions)`
- a regulariser: `(spike counts of any structure) -> scalar`

Traces are (batch, time, classes), targets are whole numbers of shape (batch,), or (batch, time) where each step has its
own; `mse`, `mae` and `van_rossum` compare with traces. `LossFn` says what mask, lengths and weights do. `time_axis=0`
takes (time, batch, classes), `time_axis=-2` any number of leading batch axes. Sums run in float32 whatever the dtype of
the traces.

A label outside 0, ..., classes - 1 has no true class; `check_labels` finds it before training.
"""

from __future__ import annotations

from spyx.fn._labels import check_labels as check_labels
from spyx.fn._losses import first_spike_loss as first_spike_loss
from spyx.fn._losses import integral_crossentropy as integral_crossentropy
from spyx.fn._losses import max_crossentropy as max_crossentropy
from spyx.fn._losses import mse_spikerate as mse_spikerate
from spyx.fn._losses import rate_crossentropy as rate_crossentropy
from spyx.fn._metrics import first_spike_accuracy as first_spike_accuracy
from spyx.fn._metrics import integral_accuracy as integral_accuracy
from spyx.fn._metrics import max_accuracy as max_accuracy
from spyx.fn._metrics import rate_accuracy as rate_accuracy
from spyx.fn._regression import mae as mae
from spyx.fn._regression import mse as mse
from spyx.fn._regression import van_rossum as van_rossum
from spyx.fn._regularisers import RegFn as RegFn
from spyx.fn._regularisers import silence_reg as silence_reg
from spyx.fn._regularisers import sparsity_reg as sparsity_reg
from spyx.fn._regularisers import spike_counts as spike_counts
from spyx.fn._regularisers import synops_reg as synops_reg
from spyx.fn._traces import LossFn as LossFn
from spyx.fn._traces import MetricFn as MetricFn

__all__ = [
    "LossFn",
    "MetricFn",
    "RegFn",
    "check_labels",
    "first_spike_accuracy",
    "first_spike_loss",
    "integral_accuracy",
    "integral_crossentropy",
    "mae",
    "max_accuracy",
    "max_crossentropy",
    "mse",
    "mse_spikerate",
    "rate_accuracy",
    "rate_crossentropy",
    "silence_reg",
    "sparsity_reg",
    "spike_counts",
    "synops_reg",
    "van_rossum",
]
