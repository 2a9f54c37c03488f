"""The doctor: broken networks whose fault it must name first, and healthy ones in which it must find nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from spyx import axn, experimental, fn, graph, nn
from spyx.data import Batch
from spyx.report import doctor

BATCH, STEPS, INPUTS, CLASSES = 24, 20, 12, 3


def data(share=0.3):
    """Every class drives four of the twelve inputs more than the others."""
    draw = np.random.default_rng(0)
    y = np.arange(BATCH) % CLASSES
    rates = np.full((BATCH, INPUTS), share / 2)
    for b, label in enumerate(y):
        rates[b, 4 * label : 4 * label + 4] = 2 * share
    return (draw.random((BATCH, STEPS, INPUTS)) < rates[:, None]).astype(np.float32), y


def linear(inputs, outputs, gain=2.0, seed=0):
    init = nnx.initializers.variance_scaling(gain, "fan_in", "normal")
    return nn.Linear(inputs, outputs, kernel_init=init, rngs=nnx.Rngs(seed))


def network(neuron=None, *, first=None, readout=None):
    first, neuron = first or linear(INPUTS, 16), neuron or nn.LIF(16, beta=0.9)
    return nn.Sequential(first, neuron, linear(16, CLASSES, seed=1), readout or nn.LI(CLASSES, beta=0.9))


class Cut(nn.Layer):
    def __call__(self, x, state):
        return jax.lax.stop_gradient(x), state


def zero_weights():
    return network(first=nn.Linear(INPUTS, 16, kernel_init=nnx.initializers.zeros, rngs=nnx.Rngs(0))), data()


def huge_threshold():
    return network(nn.LIF(16, beta=0.9, threshold=1000.0)), data()


def detached_layer():
    net = nn.Sequential(linear(INPUTS, 16), nn.LIF(16, beta=0.9), Cut(), linear(16, CLASSES), nn.LI(CLASSES, beta=0.9))
    return net, data()


def swapped_axes():
    x, y = data()
    return network(), (x.swapaxes(0, 1), y)


def swapped_features():
    x, y = data()
    return network(), (x.swapaxes(1, 2), y)


def saturated_input():
    x, y = data()
    return network(), (np.ones_like(x), y)


def forgetful_readout():
    return network(readout=nn.LI(CLASSES, beta=0.0)), data()


def narrow_surrogate():
    return network(nn.LIF(16, beta=0.9, activation=axn.superspike(1e5))), data()


def dropped_by_a_threshold():
    x, y = data()
    return network(), (np.zeros_like(x), y)


def pinned_decay():
    return network(nn.LIF(16, beta=nnx.Param(jnp.full(16, 1.5)))), data()


def exploding_recurrence():
    class Growing(nn.Neuron):
        state = dict(v=0.0)

        @staticmethod
        def step(p, x, v):
            v = 3.0 * v + x
            return p.spike(v - 1.0), v

    return network(Growing(16)), data()


def label_leak():
    x, y = data()
    x[:, :, 5] = 0
    x[:, 0, 5] = y
    return network(), (x, y)


def dead_convolution():
    def negative(key, shape, dtype=jnp.float32, **_):
        return -jnp.abs(jax.random.normal(key, shape, dtype))

    net = nn.Sequential(
        nn.Conv(2, 4, (3, 3), kernel_init=negative, rngs=nnx.Rngs(0)),
        nn.LIF((4, 4, 4), beta=0.9),
        nn.Flatten(),
        linear(64, CLASSES),
        nn.LI(CLASSES, beta=0.9),
    )
    x = (np.random.default_rng(0).random((BATCH, STEPS, 4, 4, 2)) < 0.3).astype(np.float32)
    return net, (x, data()[1])


def wrong_labels():
    x, y = data()
    return network(), (x, y + 1)


def constant_labels():
    x, y = data()
    return network(), (x, y * 0)


def not_numbers():
    x, y = data()
    x[3, 4, 5] = np.nan
    return network(), (x, y)


def always_firing():
    return network(first=nn.Linear(INPUTS, 16, kernel_init=nnx.initializers.constant(5.0), rngs=nnx.Rngs(0))), data()


def exploding_gradient():
    """Spikes stay 0 and 1; what grows is the gradient from step to step."""
    recurrent = nn.RLIF(
        16, beta=0.9, recurrent_init=nnx.initializers.normal(1.0), activation=axn.superspike(0.1), rngs=nnx.Rngs(2)
    )
    return network(recurrent), data()


def one_hot_labels():
    x, y = data()
    return network(), (x, np.eye(CLASSES, dtype=np.float32)[y])


def out_of_scale():
    x, y = data()
    return network(), ((255 * x).astype(np.uint8), y)


def too_small():
    x, y = data()
    return network(), (x * np.float32(1e-3), y)


def nan_in_the_weights():
    model, batch = network(), data()
    model.layers[2].kernel[...] = model.layers[2].kernel[...].at[0, 0].set(jnp.nan)
    return model, batch


def leak_by_the_time_of_a_spike():
    x, y = data()
    x[:, :, 5] = 0
    x[np.arange(BATCH), y, 5] = 1
    return network(), (x, y)


def an_encoder_that_keeps_too_little():
    x, y = data()
    x[::4] = x[:1] * 0
    return network(), (x, y)


def wild_recurrence():
    recurrent = nn.RLIF(16, beta=0.9, recurrent_init=nnx.initializers.normal(20.0), rngs=nnx.Rngs(2))
    return network(recurrent), data()


class Rates(nn.Layer):
    """A recurrent layer that is no neuron."""

    def __init__(self, gain):
        self.back = nnx.Linear(16, 16, kernel_init=nnx.initializers.normal(gain), rngs=nnx.Rngs(3))

    def initial_state(self, batch_size):
        return jnp.zeros((batch_size, 16))

    def __call__(self, x, h):
        h = x + self.back(h)
        return h, h


def exploding_layer_of_ones_own():
    return network(Rates(1.0)), data()


def backwards(**changed):
    """A graph whose nodes are listed from the output to the input."""
    nodes = {
        "out": nn.LI(CLASSES, beta=0.9), "r": linear(16, CLASSES, seed=1), "b": nn.LIF(16, beta=0.9),
        "v": linear(16, 16, seed=2), "a": nn.LIF(16, beta=0.9), "w": linear(INPUTS, 16),
    }  # fmt: skip
    edges = [("input", "w"), ("w", "a"), ("a", "v"), ("v", "b"), ("b", "r"), ("r", "out"), ("out", "output")]
    return graph.Graph(nodes | changed, edges, input_shape=INPUTS)


def silent_behind_itself_in_the_list():
    return backwards(a=nn.LIF(16, beta=0.9, threshold=100.0)), data()


def forgetful_readout_of_a_graph():
    return backwards(out=nn.LI(CLASSES, beta=0.0)), data()


def forgetful_readout_of_spikes():
    return network(readout=nn.LIF(CLASSES, beta=0.0)), data()


def channels_first():
    model, (x, y) = dead_convolution()
    return model, (x.transpose(0, 1, 4, 2, 3), y)


def swapped_features_of_a_graph():
    x, y = data()
    return backwards(), (x.swapaxes(1, 2), y)


def clipped_input():
    x, y = data()
    return network(), (np.where(np.random.default_rng(1).random(x.shape) < 0.98, 3, x).astype(np.float32), y)


def nan_in_the_statistics_of_a_batchnorm():
    norm = nnx.BatchNorm(16, rngs=nnx.Rngs(0))
    norm.var[...] = jnp.full(16, jnp.nan)
    return nn.Sequential(linear(INPUTS, 16), norm, nn.LIF(16, beta=0.9), linear(16, CLASSES)), data()


def batchnorm_without_scale():
    norm = nnx.BatchNorm(16, scale_init=nnx.initializers.zeros, rngs=nnx.Rngs(0))
    return nn.Sequential(linear(INPUTS, 16), norm, nn.LIF(16, beta=0.9), linear(16, CLASSES)), data()


def dropout_of_everything():
    model = nn.Sequential(linear(INPUTS, 16), nn.LIF(16, beta=0.9), nnx.Dropout(0.99), linear(16, CLASSES))
    return model, data()


def constant_labels_of_steps():
    x, _ = data()
    return network(), (x, np.ones((BATCH, STEPS), int))


def leak_with_errors():
    x, y = np.concatenate([data()[0]] * 2), np.concatenate([data()[1]] * 2)
    x[:BATCH, :2] = 1 - x[:BATCH, :2]
    x[:, :, 5], x[:, 0, 5] = 0, y
    x[7, 0, 5] = x[8, 0, 5]
    return network(), (x, y)


def leak_with_noise():
    x, y = data()
    x[:, :, 5] = y[:, None] + np.random.default_rng(1).normal(0, 0.01, (BATCH, STEPS))
    return network(), (x, y)


def leak_in_one_step_of_noise():
    y = data()[1]
    x = np.random.default_rng(1).normal(0.5, 1.0, (BATCH, STEPS, INPUTS)).astype(np.float32)
    x[:, -1, 5] = y
    return network(), (x, y)


def leak_in_every_step():
    x, y = data()[0], np.random.default_rng(1).integers(0, CLASSES, (BATCH, STEPS))
    x[:, :, 5] = y
    return network(), (x, y)


BROKEN = {
    exploding_layer_of_ones_own: ("exploding states", "1 Rates"),
    silent_behind_itself_in_the_list: ("silent layer", "a LIF"),
    forgetful_readout_of_a_graph: ("readout without memory", "out LI"),
    forgetful_readout_of_spikes: ("readout without memory", "3 LIF"),
    channels_first: ("axes look swapped", "input"),
    swapped_features_of_a_graph: ("axes look swapped", "input"),
    clipped_input: ("saturated input", "input"),
    nan_in_the_statistics_of_a_batchnorm: ("NaN in the parameters", "1 BatchNorm"),
    batchnorm_without_scale: ("input never positive", "1 BatchNorm"),
    dropout_of_everything: ("dropout of nearly everything", "2 Dropout"),
    constant_labels_of_steps: ("constant labels", "labels"),
    leak_with_errors: ("label leak", "input"),
    leak_with_noise: ("label leak", "input"),
    leak_in_one_step_of_noise: ("label leak", "input"),
    leak_in_every_step: ("label leak", "input"),
    zero_weights: ("zero weights", "0 Linear"),
    huge_threshold: ("silent layer", "1 LIF"),
    detached_layer: ("no gradient", "0 Linear"),
    swapped_axes: ("axes look swapped", "input"),
    swapped_features: ("axes look swapped", "input"),
    saturated_input: ("saturated input", "input"),
    forgetful_readout: ("readout without memory", "3 LI"),
    narrow_surrogate: ("surrogate without slope", "1 LIF"),
    dropped_by_a_threshold: ("empty input", "input"),
    pinned_decay: ("pinned parameter", "1 LIF"),
    exploding_recurrence: ("exploding states", "1 Growing"),
    label_leak: ("label leak", "input"),
    dead_convolution: ("input never positive", "0 Conv"),
    wrong_labels: ("labels out of range", "labels"),
    constant_labels: ("constant labels", "labels"),
    not_numbers: ("NaN in the input", "input"),
    always_firing: ("saturated layer", "1 LIF"),
    exploding_gradient: ("exploding gradient", "1 RLIF"),
    one_hot_labels: ("labels do not fit", "labels"),
    out_of_scale: ("input out of scale", "input"),
    too_small: ("input out of scale", "input"),
    nan_in_the_weights: ("NaN in the parameters", "2 Linear"),
    leak_by_the_time_of_a_spike: ("label leak", "input"),
    an_encoder_that_keeps_too_little: ("samples that look alike", "input"),
    wild_recurrence: ("exploding states", "1 RLIF"),
}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda build: build.__name__)
def test_a_fault_is_named_first(broken):
    model, batch = broken()
    found = doctor(model, batch)
    assert found, "nothing found"
    assert (found[0].what, found[0].where) == BROKEN[broken], str(found)
    assert found[0].number in str(found)
    assert found[0].change.endswith(".")


def convolutional():
    net = nn.Sequential(
        nn.Conv(2, 4, (3, 3), kernel_init=nnx.initializers.he_normal(), rngs=nnx.Rngs(0)),
        nn.LIF((4, 4, 4), beta=0.9, threshold=0.5),
        nn.SumPool(2, 2, "VALID"),
        nn.Flatten(),
        linear(16, CLASSES),
        nn.LI(CLASSES, beta=0.9),
    )
    x = (np.random.default_rng(0).random((BATCH, STEPS, 4, 4, 2)) < 0.3).astype(np.float32)
    return net, x


def branching():
    nodes = {
        "w": linear(INPUTS, 16), "a": nn.LIF(16, beta=0.9), "b": nn.ALIF(16, beta=0.8, gamma=0.9),
        "r": linear(16, CLASSES, seed=1), "out": nn.LI(CLASSES, beta=0.9),
    }  # fmt: skip
    edges = [("input", "w"), ("w", "a"), ("w", "b"), ("a", "r"), ("b", "r", 1), ("r", "out"), ("out", "output")]
    return graph.Graph(nodes, edges, input_shape=INPUTS, merge={"r": "sum"}), data()[0]


HEALTHY = {
    "own layer": lambda: (network(Rates(0.1)), data()[0]),
    "listed backwards": lambda: (backwards(), data()[0]),
    "in mV": lambda: (nn.calibrate(network(nn.Izhikevich(16)), data()[0], rate=0.05), data()[0]),
    "noisy": lambda: (network(experimental.SPSN(16, noise=nnx.Rngs(1), rngs=nnx.Rngs(0))), data()[0]),
    "LIF": lambda: (network(), data()[0]),
    "IF": lambda: (network(nn.IF(16)), data()[0]),
    "CuBaLIF": lambda: (network(nn.CuBaLIF(16, alpha=0.8, beta=0.9)), data()[0]),
    "RLIF": lambda: (network(nn.RLIF(16, beta=0.9, rngs=nnx.Rngs(0))), data()[0]),
    "paper": lambda: (network(nn.LIF(16, beta=0.7, dynamics="paper", threshold=0.3)), data()[0]),
    "adLIF": lambda: (network(nn.adLIF(16, rngs=nnx.Rngs(0)), first=linear(INPUTS, 16, 60.0)), data()[0]),
    "resonate": lambda: (network(experimental.AssociativeResonateFire(16, rngs=nnx.Rngs(0))), data()[0]),
    "boxcar": lambda: (network(nn.LIF(16, beta=0.9, activation=axn.boxcar())), data()[0]),
    "real input": lambda: (network(), np.random.default_rng(0).normal(0.5, 1.0, (BATCH, STEPS, INPUTS))),
    "convolution": convolutional,
    "graph": branching,
    "bytes": lambda: (network(), data()[0].astype(np.uint8)),
}


@pytest.mark.parametrize("healthy", HEALTHY)
def test_nothing_is_found_in_a_healthy_network(healthy):
    model, x = HEALTHY[healthy]()
    y = data()[1]
    before = jax.tree.leaves(nnx.clone(model))
    found = doctor(model, (np.asarray(x, np.float32) if x.dtype == np.float64 else x, y))
    assert not found, str(found)
    assert "nothing found" in str(found)
    assert all((a == b).all() for a, b in zip(jax.tree.leaves(nnx.clone(model)), before, strict=True))


def test_without_labels_gradients_are_left_out():
    assert not doctor(network(), data()[0])
    assert doctor(huge_threshold()[0], data()[0])[0].what == "silent layer"


def test_a_loss_of_ones_own():
    found = doctor(network(), data(), loss=lambda traces, y: jnp.sum(traces) * jnp.nan)
    assert found[0].what == "loss not finite"
    assert not doctor(network(), data(), loss=fn.rate_crossentropy())


def test_targets_of_a_regression_are_no_labels():
    x, y = data()
    draw = np.random.default_rng(1)

    def error(traces, targets):
        return jnp.mean(
            (traces[..., : targets[0].size].mean(1).reshape(targets.shape) - targets.astype(jnp.float32)) ** 2
        )

    of_samples, several = x.mean((1, 2)) + 2, draw.normal(size=(BATCH, CLASSES)).astype(np.float32)
    one = nn.Sequential(linear(INPUTS, 16), nn.LIF(16, beta=0.9), linear(16, 1), nn.LI(1, beta=0.9))
    for model, targets in ((one, of_samples), (network(), several), (network(), (several > 0).astype(int))):
        assert not doctor(model, (x, targets), loss=error)
    assert not doctor(one, (x, y % 2), loss=error)  # two classes of one output
    hidden = x.copy()
    hidden[:, :, 3] = several[:, None, 1]
    assert [finding.what for finding in doctor(network(), (hidden, several), loss=error)] == ["label leak"]
    several[2] = np.nan
    assert doctor(network(), (x, several), loss=error)[0].what == "NaN in the labels"
    assert doctor(network(), (x, several * 0 + 1), loss=error)[0].what == "NaN in the labels"
    assert doctor(network(), (x, np.ones_like(x[:, 0])), loss=error)[0].what == "constant labels"


def test_pixels_that_tell_classes_apart_are_no_leak():
    draw = np.random.default_rng(2)
    y = np.arange(BATCH) % 2
    pictures = (draw.random((2, INPUTS)) < 0.5)[y] ^ (draw.random((BATCH, INPUTS)) < 0.05)
    found = doctor(network(), (np.repeat(pictures[:, None], STEPS, 1).astype(np.float32), y))
    assert "label leak" not in [finding.what for finding in found]


def test_few_samples_and_a_class_without_input():
    x, y = data()
    assert not doctor(network(), (x[y == 1][:2], y[y == 1][:2]))  # two of one class are chance
    x[y == 0] = 0
    assert not doctor(network(), (x, y))


def test_labels_per_step_and_lengths():
    x, y = data()
    steps = np.repeat(y[:, None], STEPS, axis=1)
    steps[:, ::3] = -1
    assert not doctor(network(), (x, steps))
    assert doctor(network(), (x, y), lengths=10 + 5 * y)[0].what == "label leak"
    x[4, 10:] = 0
    assert not doctor(network(), (x, y), lengths=np.where(np.arange(BATCH) == 4, 10, STEPS))


def test_a_cause_hides_what_follows_from_it():
    silent, second = nn.LIF(16, beta=0.9, threshold=99.0), nn.LIF(16, beta=0.9)
    deep = nn.Sequential(linear(INPUTS, 16), silent, linear(16, 16), second, linear(16, 3), nn.LI(3, beta=0.9))
    found = doctor(deep, data())
    assert [finding.where for finding in found] == ["1 LIF"]


def test_samples_that_parts_share():
    x, y = data()
    other = np.random.default_rng(5).random(x.shape).astype(np.float32) < 0.2
    mixed = np.concatenate([x[:4], other[:8].astype(np.float32)])
    found = doctor(network(), (x, y), held_out={"validation": other.astype(np.float32), "test": (mixed, y[:12])})
    assert [(finding.what, finding.where) for finding in found] == [("leakage between parts", "test")]
    assert found[0].number == "4 of 12 samples are also in the training part, bit by bit"
    again = np.concatenate([x, x])  # a part that repeats itself repeats itself elsewhere too
    assert not doctor(network(), (again, np.concatenate([y, y])), held_out={"test": mixed})


def test_a_loss_that_falls_while_the_accuracy_is_chance():
    falling = [{"train_loss": 1 / n, "eval_acc": 0.3 + 0.02 * (n % 2)} for n in range(1, 8)]
    found = doctor(network(), data(), history=falling)
    assert [finding.what for finding in found] == ["accuracy at chance"]
    assert "fell by 86%" in found[0].number
    assert f"by chance {1 / CLASSES:.1%}" in found[0].number  # not what the largest class of one batch has
    assert not doctor(network(), data(), history=[{**row, "eval_acc": 0.8} for row in falling])
    assert not doctor(network(), data(), history=[{**row, "train_loss": 1.1} for row in falling])


def test_the_end_of_the_input_that_nothing_sees():
    late = nn.Delayed(linear(16, CLASSES, seed=1), 12, delays=jnp.full((16, CLASSES), 9.0), kernel="fixed")
    net = nn.Sequential(linear(INPUTS, 16), nn.LIF(16, beta=0.9), late, nn.LI(CLASSES, beta=0.9))
    found = doctor(net, data())
    assert [finding.what for finding in found] == ["last steps unseen"]
    assert found[0].number.startswith("the last 10 of 20 steps")  # 9 of the delay, and one of the spike


def test_an_objective_and_batches_of_a_loader():
    x, y = data()
    seen = []

    def objective(model, x, y):
        seen.append(x.shape)
        return fn.integral_crossentropy()(nn.run(model, x)[0], y)

    assert not doctor(network(), (x, y), objective=objective)
    assert seen[0] == x.shape
    padded = Batch(x, y, np.arange(BATCH) < 20)
    assert not doctor(network(), padded, objective=objective)
    assert seen[-1] == (20, STEPS, INPUTS)
    assert (
        doctor(detached_layer()[0], (x,), objective=lambda model, x: nn.run(model, x)[0].mean())[0].what
        == "no gradient"
    )
