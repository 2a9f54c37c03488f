"""`spyx.save` and `spyx.load`: every layer comes back as it was, and a file of a stranger makes nothing else."""

from __future__ import annotations

import inspect
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

import spyx
from spyx import axn, experimental, graph, nn
from spyx.saving import tensors
from spyx.saving.registry import named, registry

UNITS = 3


def rngs():
    return nnx.Rngs(0)


def linear(*sizes, **more):
    return nn.Linear(*(sizes or (UNITS, UNITS)), rngs=rngs(), **more)


SPECIAL = {
    "spyx.nn.ActivityRegularization": lambda: nn.ActivityRegularization(UNITS, dtype=jnp.bfloat16),
    "spyx.nn.Conv": lambda: nn.Conv(2, 3, (3, 3), strides=2, padding="VALID", use_bias=False, rngs=rngs()),
    "spyx.nn.Flatten": nn.Flatten,
    "spyx.nn.Unflatten": lambda: nn.Unflatten((2, 3)),
    "spyx.nn.Linear": linear,
    "spyx.nn.Delayed": lambda: nn.Delayed(linear(), 4, "target", kernel="triangle", spread=True, rngs=rngs()),
    "rounded delays": lambda: nn.Sequential(
        nn.rounded(nn.Delayed(linear(2, UNITS), 4, rngs=rngs())),
        nn.Recurrent(nn.IF(UNITS), via=nn.Delayed(linear(use_bias=False), 3, rngs=rngs())),
    ),
    "spyx.nn.DHLIF": lambda: nn.DHLIF(UNITS, 2, threshold=jnp.ones(UNITS), rngs=rngs()),
    "spyx.nn.Recurrent": lambda: nn.Recurrent(nn.PLIF(UNITS), rngs=rngs()),
    "spyx.nn.Refractory": lambda: nn.Refractory(nn.LIF(UNITS, beta=0.5, dynamics="paper"), 2),
    "spyx.nn.Sequential": lambda: nn.Sequential(linear(), nn.IF(UNITS)),
    "spyx.nn.SumPool": lambda: nn.SumPool((2, 2), 2, "VALID"),
    "spyx.experimental.PSN": lambda: experimental.PSN(UNITS, 5, rngs=rngs()),
    "spyx.experimental.MaskedPSN": lambda: experimental.MaskedPSN(UNITS, 5, 2, masking=0.5, rngs=rngs()),
    "spyx.experimental.SlidingPSN": lambda: experimental.SlidingPSN(UNITS, 2, nn.Fixed(0.7)),
    "spyx.experimental.ChannelPSN": lambda: experimental.ChannelPSN(UNITS, 2),
    "spyx.experimental.SPSN": lambda: experimental.SPSN(
        UNITS, 0.5, beta=0.5, bounded="sigmoid", grad="derivative", noise=nnx.Rngs(spikes=1)
    ),
    "spyx.graph.Graph": lambda: graph.Graph(
        {"fc.a": linear(2, UNITS), "lif": nn.LIF(UNITS, beta=0.9)},
        [("input", "fc.a"), ("fc.a", "lif"), ("lif", "lif", 2), ("lif", "output")],
        merge={"lif": "sum"},
        input_shape=2,
    ),
    "flax.nnx.BatchNorm": lambda: nnx.BatchNorm(UNITS, rngs=rngs()),
    "flax.nnx.Conv": lambda: nnx.Conv(2, 3, (3,), rngs=rngs()),
    "flax.nnx.ConvTranspose": lambda: nnx.ConvTranspose(2, 3, (3, 3), rngs=rngs()),
    "flax.nnx.Dropout": lambda: nnx.Dropout(0.5, rngs=rngs()),
    "flax.nnx.Embed": lambda: nnx.Embed(4, UNITS, rngs=rngs()),
    "flax.nnx.GroupNorm": lambda: nnx.GroupNorm(4, num_groups=2, rngs=rngs()),
    "flax.nnx.LayerNorm": lambda: nnx.LayerNorm(UNITS, use_bias=False, rngs=rngs()),
    "flax.nnx.Linear": lambda: nnx.Linear(2, UNITS, dtype=jnp.bfloat16, param_dtype=jnp.bfloat16, rngs=rngs()),
    "flax.nnx.RMSNorm": lambda: nnx.RMSNorm(UNITS, rngs=rngs()),
    "flax.nnx.Sequential": lambda: nnx.Sequential(linear(), nnx.LayerNorm(UNITS, rngs=rngs())),
    # more than the defaults of a class
    "fixed": lambda: nn.RLIF(UNITS, nn.Fixed(0.9), dynamics="snntorch", rngs=rngs()),
    "held in a range": lambda: nn.LIF(2, nn.decay(0.9, low=0.5, high=0.99, by="sigmoid"), nn.positive(1.0)),
    "per unit": lambda: nn.LIF((2, 2), beta=jnp.full((2, 2), 0.5), threshold=jnp.ones(2), activation=axn.arctan(2.0)),
    "time constant": lambda: nn.ALIF(2, tau_ms=20.0, tau_adaptation_ms=100.0, dt_ms=1.0, name="a"),
    "nested": lambda: nn.Recurrent(nn.Refractory(nn.ALIF(2, rngs=rngs()), 2), via=linear(2, 2, use_bias=False)),
    "population": lambda: nn.Sequential(nn.IF(4), nn.PopulationCode(2)),
    "graph in a graph": lambda: graph.Graph(
        {"a": nn.Sequential(SPECIAL["spyx.graph.Graph"](), nn.IF(UNITS))}, [("input", "a"), ("a", "output", 1)]
    ),
}  # fmt: skip


def make(name):
    if name in SPECIAL:
        return SPECIAL[name]()
    cls = registry()[name]
    drawn = "rngs" in inspect.signature(cls.__init__).parameters
    return cls(UNITS, **({"rngs": rngs()} if drawn else {}))


def contents(model):
    structure, variables = nnx.split(model)
    plain = {}
    for name, leaf in named(variables).items():
        keys = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        plain[name] = np.asarray(jax.random.key_data(leaf) if keys else leaf)
    return structure, plain


def assert_same(one, other):
    (a, x), (b, y) = contents(one), contents(other)
    assert a == b
    assert x.keys() == y.keys()
    for name in x:
        assert x[name].dtype == y[name].dtype
        assert x[name].tobytes() == y[name].tobytes(), name


def changed(model):
    """The model with other numbers than its constructor makes, those of one dtype included."""
    structure, variables = nnx.split(model)
    floats = jax.tree.map(lambda a: a + 0.25 if jnp.issubdtype(a.dtype, jnp.floating) else a, variables)
    return nnx.merge(structure, floats)


@pytest.mark.parametrize("name", [*registry(), *(name for name in SPECIAL if name not in registry())])
def test_every_layer_comes_back_as_it_was(name, tmp_path):
    model = changed(make(name))
    spyx.save(tmp_path / "m", model)
    assert_same(spyx.load(tmp_path / "m"), model)
    into = make(name)
    assert spyx.load(tmp_path / "m", into=into) is into
    assert_same(into, model)


def hidden(width):
    return st.sampled_from([
        lambda: nn.IF(width), lambda: nn.LIF(width, beta=0.8, activation=axn.triangular()),
        lambda: nn.RLIF(width, beta=nn.Fixed(0.7), rngs=rngs()), lambda: nn.CuBaLIF(width, rngs=rngs()),
        lambda: nn.Refractory(nn.PLIF(width), 3), lambda: nn.Recurrent(nn.adLIF(width, rngs=rngs()), rngs=rngs()),
    ])  # fmt: skip


@settings(max_examples=8, deadline=None)
@given(st.data())
def test_a_network_computes_the_same_bit_for_bit(tmp_path_factory, data):
    widths = [2, *data.draw(st.lists(st.integers(2, 3), min_size=1, max_size=2))]
    layers = []
    for before, width in zip(widths, widths[1:], strict=False):
        layers += [linear(before, width), data.draw(hidden(width))()]
    model = nn.Sequential(*layers, nn.LI(widths[-1], beta=0.9))
    path = tmp_path_factory.mktemp("saved") / "m.safetensors"
    spyx.save(path, model)
    x = np.random.default_rng(0).normal(2, 1, (2, 6, 2)).astype(np.float32)
    loaded = spyx.load(path)
    assert_same(loaded, model)
    np.testing.assert_array_equal(nn.run(loaded, x)[0], nn.run(model, x)[0])


def test_a_layer_that_is_shared_stays_shared(tmp_path):
    one = linear()
    spyx.save(tmp_path / "m", nn.Sequential(one, nn.IF(UNITS), one))
    found = spyx.load(tmp_path / "m")
    assert found.layers[0] is found.layers[2]


def test_other_programs_read_the_arrays(tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")
    model = nn.Sequential(linear(), nn.LIF(UNITS, beta=jnp.full(UNITS, 0.5, jnp.float16)))
    spyx.save(tmp_path / "m.safetensors", model)
    found = numpy.load_file(tmp_path / "m.safetensors")
    assert found.keys() == {"layers.0.kernel", "layers.0.bias", "layers.1.beta"}
    np.testing.assert_array_equal(found["layers.0.kernel"], model.layers[0].kernel[...])
    assert found["layers.1.beta"].dtype == np.float16


class Mine(nn.Neuron):
    beta = nn.decay(0.9)
    gain: float = 2.0

    @staticmethod
    def step(p, x, v):
        v = p.beta * v + p.gain * x
        return p.spike(v - 1.0), v


class Opaque(nnx.Module):
    """What it is made with cannot be read back."""

    def __init__(self, scale):
        self.kernel = nnx.Param(jnp.full(2, scale))

    def __call__(self, x):
        return x * self.kernel[...]


def my_slope(x):
    return jnp.ones_like(x)


def test_classes_of_the_user_are_made_where_they_are_given(tmp_path):
    spike = axn.surrogate(my_slope)()
    model = nn.Sequential(Mine(UNITS, gain=3.0, activation=spike), jnp.tanh)
    spyx.save(tmp_path / "m", model)
    classes = {"Mine": Mine, "my_slope": spike, "tanh": jnp.tanh}
    found = spyx.load(tmp_path / "m", classes=classes)
    assert_same(found, model)
    assert found.layers[0].gain == 3.0
    for name in classes:
        fewer = {key: value for key, value in classes.items() if key != name}
        with pytest.raises(ValueError, match=rf"'{name}', which is not of spyx or Flax. Pass classes="):
            spyx.load(tmp_path / "m", classes=fewer)


def test_a_model_to_load_into_must_have_the_structure_of_the_file(tmp_path):
    model = nn.Sequential(Opaque(0.5), nn.IF(2))
    spyx.save(tmp_path / "m", model)
    with pytest.raises(ValueError, match="your class Opaque at layers.0, whose arguments no file can hold. Load"):
        spyx.load(tmp_path / "m", classes={"Opaque": Opaque})
    assert_same(spyx.load(tmp_path / "m", into=nn.Sequential(Opaque(0.1), nn.IF(2))), model)
    for other, place in (
        (nn.Sequential(Opaque(0.1), nn.IF(2, threshold=0.5)), "args.layers.1.args"),
        (nn.Sequential(Opaque(0.1), nn.IF(2, dynamics="norse")), "layers.1.args.dynamics.fields.spike"),
        (nn.Sequential(Opaque(0.1)), "args.layers"),
        (nn.IF(2), "class"),
    ):
        before = contents(other)[1]
        with pytest.raises(ValueError, match=rf"spyx.load\(into=\): expected a model of the structure.*at .*{place}"):
            spyx.load(tmp_path / "m", into=other)
        assert all(np.array_equal(before[n], a) for n, a in contents(other)[1].items())
    with pytest.raises(TypeError, match=r"spyx.load\(into=\): expected a Flax module; got int"):
        spyx.load(tmp_path / "m", into=3)


def test_what_would_not_come_back_is_not_saved(tmp_path):
    altered = nn.Sequential(linear(), nn.IF(UNITS))
    altered.layers[1].extra = 3.0
    with pytest.raises(ValueError, match="got layers.1: IF with other attributes than its constructor makes"):
        spyx.save(tmp_path / "m", altered)
    custom = nnx.Linear(2, 2, dot_general=lambda *a, **k: jax.lax.dot_general(*a, **k), rngs=rngs())
    spyx.save(tmp_path / "m", custom)
    with pytest.raises(ValueError, match="'<lambda>', which is not of spyx or Flax"):
        spyx.load(tmp_path / "m")
    (tmp_path / "m").unlink()
    broken = nn.LIF(2, beta=0.5)
    broken.beta[...] = jnp.float32(np.nan)
    with pytest.raises(ValueError, match="expected finite numbers; got beta with 1 of 1 numbers that are not finite"):
        spyx.save(tmp_path / "m", broken)
    with pytest.raises(TypeError, match="expected a Flax module; got function"):
        spyx.save(tmp_path / "m", jnp.tanh.__wrapped__)
    assert not list(tmp_path.iterdir())
    with pytest.raises(FileNotFoundError, match="no-such"):
        spyx.save(tmp_path / "no-such" / "m", nn.IF(2))
    with pytest.raises(FileNotFoundError, match="spyx.load: expected a file"):
        spyx.load(tmp_path)


# Files of strangers: a description or a header that was written with a valid digest.


def saved(path, described=None, arrays=None, **texts):
    """A file that `tensors.write` makes of any description and any arrays."""
    model = nn.Sequential(linear(2, UNITS), nn.LIF(UNITS, beta=0.9))
    spyx.save(path, model)
    found = tensors.read(path)
    now = dict(found.texts)
    if described is not None:
        now["spyx.model"] = described if isinstance(described, str) else json.dumps(described)
    tensors.write(path, found.arrays if arrays is None else arrays(dict(found.arrays)), {**now, **texts})
    return path


def made(cls="spyx.nn.IF", **args):
    return {"class": cls, "args": args}


DEEP = '{"class":"spyx.nn.Sequential","args":{"layers":[' * 5000


def held(constraint):
    return {"variable": "Param", "meta": {"constraint": constraint}}


RANGE = {"within": [0, 1, "code"]}
DESCRIPTIONS = [
    ("[1, 2]", "the model that is no layer"),
    (DEEP, "JSON that is nested too deeply|deep nesting"),
    ('{"class": "spyx.nn.IF", "class": "spyx.nn.LIF", "args": {}}', "JSON that repeats a name"),
    ('{"class": "spyx.nn.IF", "args": {"hidden_shape": 3, "threshold": NaN}}', "the number NaN"),
    ('{"class": "spyx.nn.IF", "args": {"hidden_shape": 3, "threshold": 1e999}}', "the number 1e999"),
    ("{", "no JSON"),
    (made("os.system", command="true"), "of the class 'os.system', which is not known"),
    (made("spyx.nn.Neuron", hidden_shape=3), "of the class 'spyx.nn.Neuron', which is not known"),
    (made("builtins.eval"), "which is not known"),
    ({"class": ["spyx.nn.IF"], "args": {}}, "which is not known"),
    ({"class": "spyx.nn.IF"}, "the model with class"),
    ({"class": "spyx.nn.IF", "args": [3]}, "with other arguments than IF takes"),
    (made(hidden_shape=3, __init__=1), "with other arguments than IF takes"),
    (made(hidden_shape=-3), r"does not accept: .*hidden_shape=\): expected sizes of at least 1"),
    (made(hidden_shape="3"), "does not accept"),
    (made(hidden_shape=3, threshold={"variable": "Param", "meta": {}}), "no array 'threshold'"),
    (made("spyx.nn.LIF", hidden_shape=3, beta=held(RANGE)), "beta with the range"),
    (made("spyx.nn.LIF", hidden_shape=3, beta=held(3)), "beta with a constraint that is no range"),
    (made(hidden_shape=3, threshold={"variable": "object", "meta": {}}), "that is no variable"),
    (made(hidden_shape=3, activation={"surrogate": "surrogate", "options": {}}), "surrogate 'surrogate', which is not"),
    (made(hidden_shape=3, activation={"surrogate": "arctan", "options": {"k": "x"}}), "that cannot be made"),
    (made(hidden_shape=3, activation={"own": "print"}), "'print', which is not of spyx or Flax"),
    (made(hidden_shape=3, dynamics={"value": "spyx.nn.Dynamics", "fields": {"reset": "code"}}), "that cannot be made"),
    (made(hidden_shape=3, dynamics={"value": "pathlib.Path", "fields": {}}), "which is not known"),
    (made(hidden_shape=3, dynamics={"__class__": 3}), "dynamics with __class__"),
    (made(hidden_shape=10**30), "with the number"),
    (made("spyx.nn.Sequential", layers=[{"same": "layers.0"}]), "that repeats a layer which was not there before"),
    (made("flax.nnx.Linear", in_features=10**9, out_features=10**9), "array"),
    (made("spyx.nn.RLIF", hidden_shape=10**7, beta=0.5), "array"),
    (made("spyx.experimental.PSN", hidden_shape=1, num_steps=10**9), "array"),
    (made("flax.nnx.Dropout", rate=0.5, rngs={"rngs": ["0; import os"]}), "with the random streams"),
]  # fmt: skip


@pytest.mark.parametrize(("described", "message"), DESCRIPTIONS, ids=range(len(DESCRIPTIONS)))
def test_a_description_makes_known_layers_with_checked_arguments_only(described, message, tmp_path):
    with pytest.raises(
        ValueError, match=rf"(?s)^spyx.load\('m'\): expected a model that spyx.save wrote; got .*({message})"
    ):
        spyx.load(saved(tmp_path / "m", described))


def test_a_description_in_which_a_layer_is_too_deep(tmp_path):
    described = made(hidden_shape=3)
    for _ in range(60):
        described = made("spyx.nn.Sequential", layers=[described])
    with pytest.raises(ValueError, match="nested too deeply"):
        spyx.load(saved(tmp_path / "m", described))


ARRAYS = [
    (lambda a: {**a, "more": np.zeros(2, np.float32)}, "the array 'more', which no layer has"),
    (lambda a: {n: v for n, v in a.items() if n != "layers.0.bias"}, "no array 'layers.0.bias'"),
    (lambda a: {**a, "layers.0.bias": np.zeros(4, np.float32)}, r"layers.0.bias of float32 \(4,\) in the place of"),
    (lambda a: {**a, "layers.0.bias": np.zeros(3, np.int32)}, "layers.0.bias of int32"),
    (lambda a: {**a, "layers.0.bias": np.zeros(3, np.float64)}, "of float64. Set jax_enable_x64"),
    (lambda a: {**a, "layers.0.bias": np.float32([1, np.inf, 0])}, "layers.0.bias with 1 of 3 numbers that are not"),
    (lambda a: {**a, "layers.1.beta": np.float32(np.nan)}, "layers.1.beta with 1 of 1 numbers"),
]  # fmt: skip


@pytest.mark.parametrize(("arrays", "message"), ARRAYS, ids=range(len(ARRAYS)))
def test_arrays_that_are_not_those_of_the_description(arrays, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        spyx.load(saved(tmp_path / "m", arrays=arrays))
    with pytest.raises(ValueError, match=message):
        spyx.load(tmp_path / "m", into=nn.Sequential(linear(2, UNITS), nn.LIF(UNITS, beta=0.9)))


HEADERS = [
    (lambda h: {**h, "layers.0.bias": {**h["layers.0.bias"], "shape": [10**12]}}, "of shape"),
    (lambda h: {**h, "layers.0.bias": {**h["layers.0.bias"], "shape": [-3]}}, "with the shape"),
    (lambda h: {**h, "layers.0.bias": {**h["layers.0.bias"], "shape": [3.0]}}, "with the shape"),
    (lambda h: {**h, "layers.0.bias": {**h["layers.0.bias"], "dtype": "O"}}, "with the dtype 'O'"),
    (lambda h: {**h, "layers.0.bias": {**h["layers.0.bias"], "data_offsets": [0, 10**15]}}, "bytes|in "),
    (lambda h: {**h, "layers.0.bias": h["layers.0.kernel"]}, "is next"),
    (lambda h: {n: v for n, v in h.items() if n != "layers.1.beta"}, "bytes that belong to no array|is next"),
    (lambda h: {**h, "layers.0.bias": 3}, "without dtype"),
    (lambda h: {**h, "__metadata__": {"spyx.model": 3}}, "metadata that is no text"),
    (lambda h: {**h, "__metadata__": {}}, "no SHA-256"),
    (lambda h: [h], "no JSON object"),
]


@pytest.mark.parametrize(("edit", "message"), HEADERS, ids=range(len(HEADERS)))
def test_a_header_whose_sizes_do_not_fit(edit, message, tmp_path):
    content = saved(tmp_path / "m").read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.dumps(edit(json.loads(content[8 : 8 + length]))).encode()
    (tmp_path / "m").write_bytes(len(header).to_bytes(8, "little") + header + content[8 + length :])
    with pytest.raises(ValueError, match=message):
        spyx.load(tmp_path / "m")


def test_every_changed_byte_and_every_cut_is_noticed(tmp_path):
    content = saved(tmp_path / "m").read_bytes()
    rng = np.random.default_rng(0)
    damaged = [content[:cut] for cut in (0, 3, 8, 100, len(content) - 1)] + [content + b"\0", b"\xff" * 9]
    for place in rng.integers(0, len(content), 150):
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(rng.integers(0, 8))
        damaged.append(bytes(flipped))
    for one in damaged:
        (tmp_path / "m").write_bytes(one)
        with pytest.raises(tensors.Damaged):
            tensors.read(tmp_path / "m")


def test_files_of_others_are_refused(tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")
    numpy.save_file({"a": np.zeros(3)}, tmp_path / "m")
    with pytest.raises(ValueError, match="no SHA-256 of the contents"):
        spyx.load(tmp_path / "m")
    with pytest.raises(ValueError, match="without the description of a model"):
        spyx.load(saved(tmp_path / "m", format="other"))


def test_numbers_of_64_bits_need_x64(tmp_path):
    with jax.enable_x64(True):
        model = nn.LIF(2, beta=jnp.full(2, 0.1, jnp.float64))
        spyx.save(tmp_path / "m", model)
        assert_same(spyx.load(tmp_path / "m"), model)
    with pytest.raises(ValueError, match="got beta of float64. Set jax_enable_x64"):
        spyx.load(tmp_path / "m")
