"""Files that lie: an error with the node's name, never a crash, a hang or another network."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from flax import nnx

from reference.nir_graphs import UNITS, graph_of
from reference.nir_mutations import outcomes
from spyx import nn

nir = pytest.importorskip("nir")
h5py = pytest.importorskip("h5py")
from spyx.data import _guarded  # noqa: E402
from spyx.nir import check, from_nir, read, simulate, to_nir, write  # noqa: E402
from spyx.nir._io import DIGEST  # noqa: E402

MUTATIONS = int(os.environ.get("SPYX_NIR_MUTATIONS", "150"))


@pytest.fixture(scope="module")
def model():
    rngs = nnx.Rngs(0)
    conv = nn.Conv(1, 2, (3, 3), rngs=rngs)
    rest = (nn.IF((5, 5, 2)), nn.SumPool(2, 2, "VALID"), nn.Flatten(), nnx.Linear(8, 3, rngs=rngs))
    return nn.Sequential(conv, *rest, nn.RLIF(3, beta=0.5, threshold=0.2, rngs=rngs), nn.LI(3))


@pytest.fixture
def path(model, tmp_path):
    write(tmp_path / "model.nir", to_nir(model, 1e-3, input_shape=(5, 5, 1)))
    return tmp_path / "model.nir"


def node(file, name):
    return file["node/nodes"][name]


@pytest.fixture(autouse=True, scope="module")
def _no_process_is_left():
    yield
    _guarded.end()


def without_digests(file):
    """As if another program had written it."""
    file.visititems(lambda _, item: item.attrs.pop(DIGEST, None) and None)


def set_value(group, key, value):
    del group[key]
    group.create_dataset(key, data=value)


EDITS = {
    "type": (lambda f: set_value(node(f, "if_1"), "type", "Izhikevich"), "node 'if_1' has the type 'Izhikevich'"),
    "lost": (lambda f: node(f, "if_1").pop("r"), r"node 'if_1' \(IF\) lacks r"),
    "extra": (lambda f: node(f, "if_1").create_dataset("tau", data=[1.0]), "'if_1' .IF. has the unknown tau"),
    "tau": (lambda f: set_value(node(f, "li_6"), "tau", [0.1, -0.1, 0.1]), r"node 'li_6' \(LI\): tau has the value -0.1"),  # noqa: E501
    "nan": (lambda f: set_value(node(f, "li_6"), "r", [0.1, np.nan, 0.1]), r"node 'li_6' \(LI\): r is not finite"),
    "shape": (lambda f: set_value(node(f, "li_6"), "r", [0.1, 0.1]), r"'li_6' \(LI\).*shape"),
    "text": (lambda f: set_value(node(f, "li_6"), "r", "heavy"), r"'li_6' \(LI\) has a text where r has numbers"),
    "nothing": (lambda f: set_value(node(f, "li_6"), "r", []), r"li_6"),
    "width": (lambda f: set_value(node(f, "linear_4"), "weight", np.ones((3, 7))), r"'linear_4' \(Affine\): takes the shape"),  # noqa: E501
    "half a stride": (lambda f: set_value(node(f, "conv_0"), "stride", [1.5, 1.0]), "stride is .*: whole numbers"),
    "many groups": (lambda f: set_value(node(f, "conv_0"), "groups", [1, 1]), "'conv_0' .Conv2d.: groups has the shape"),  # noqa: E501
    "where it starts": (lambda f: set_value(node(f, "flatten_3"), "start_dim", [0, 0]), "'flatten_3' .Flatten.*"),
    "no word": (lambda f: set_value(node(f, "if_1"), "type", np.ones(3)), "node 'if_1' has the type"),
    "no time": (lambda f: set_value(f["node"], "metadata/dt", "soon"), "expected a number as dt in the metadata"),
    "channels": (lambda f: set_value(node(f, "conv_0"), "weight", np.ones((2, 2, 3, 3))), r"'conv_0' \(Conv2d\)"),
    "stride": (lambda f: set_value(node(f, "conv_0"), "stride", [0, 1]), r"'conv_0' \(Conv2d\)"),
    "edge": (lambda f: set_value(f["node"], "edges", [[b"input", b"gone"]]), r"edge \('input', 'gone'\): there is no node"),  # noqa: E501
    "edges": (lambda f: set_value(f["node"], "edges", [1, 2, 3]), "edges that are not pairs"),
    "cut off": (lambda f: set_value(f["node"], "edges", f["node/edges"][()][1:]), "no edge"),
    "node gone": (lambda f: f["node/nodes"].pop("if_1"), "there is no node 'if_1'"),
    "order": (lambda f: node(f, "output").create_dataset("metadata/order", data="channels last"), "'output' .Output.: says"),  # noqa: E501
    "soft link": (lambda f: f["node/nodes"].__setitem__("more", h5py.SoftLink("/node")), "node 'more' is a link to somewhere else"),  # noqa: E501
    "file link": (lambda f: node(f, "li_6").__setitem__("r2", h5py.ExternalLink("/etc/passwd", "/x")), "r2, is a link to"),  # noqa: E501
    "loop": (lambda f: f["node/nodes"].__setitem__("more", f["node"]), "node 'more' is in the file twice"),
    "object": (lambda f: node(f, "li_6").create_dataset("q", data=np.zeros(2, [("a", "f4")])), "dtype"),
    "no graph": (lambda f: f.pop("node"), "has no group 'node'"),
    "reset": (lambda f: set_value(node(f, "if_1"), "metadata/reset", "never"), r"reset"),
}  # fmt: skip


@pytest.mark.parametrize("name", EDITS)
def test_damage_is_reported_with_the_node(path, name):
    edit, message = EDITS[name]
    with h5py.File(path, "r+") as file:
        edit(file)
        without_digests(file)
    with pytest.raises(ValueError, match=message):
        from_nir(path)


def test_limits_come_before_reading(path):
    with h5py.File(path, "r+") as file:
        del node(file, "linear_4")["weight"]
        node(file, "linear_4").create_dataset("weight", shape=(2**20, 2**20), dtype="f8", chunks=(64, 64))
    with pytest.raises(ValueError, match=r"node 'linear_4', weight, takes 8796093022208 bytes, over the limit"):
        read(path)


def test_limits_can_be_chosen(path):
    with pytest.raises(ValueError, match="over the limit"):
        read(path, max_array_bytes=64)
    with pytest.raises(ValueError, match="over the limit"):
        read(path, max_total_bytes=500)
    with pytest.raises(ValueError, match="too many"):
        read(path, max_nodes=3)


def test_what_is_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"spyx.nir.read: expected a file"):
        read(tmp_path / "none.nir")
    (tmp_path / "text.nir").write_text("hello")
    with pytest.raises(ValueError, match="expected an HDF5 file with a NIR graph"):
        read(tmp_path / "text.nir")
    with pytest.raises(TypeError, match=r"spyx.nir.from_nir: expected a nir.NIRGraph"):
        from_nir({"nodes": {}}, 1.0)


def test_damaged_files_are_refused_or_read_as_they_were():
    """Damage to bytes never gives another network. SPYX_NIR_MUTATIONS=5000 makes it the long run."""
    found = outcomes(write, MUTATIONS, seed=0)
    assert found["different"] == 0, found
    assert MUTATIONS / 4 < found["refused"] < MUTATIONS


def test_files_without_a_digest_are_refused_or_sound():
    """Other programs write none, so that a number may be another one; what cannot run is refused."""
    found = outcomes(nir.write, MUTATIONS // 3, seed=0) + outcomes(nir.write, MUTATIONS // 3, seed=0, edit=True)
    assert found["refused"] > MUTATIONS / 4


def test_a_change_in_place_is_refused_unless_it_is_on_purpose(path, tmp_path):
    with h5py.File(path, "r+") as file:
        node(file, "li_6")["tau"][1] *= 2
    with pytest.raises(ValueError, match=r"'model.nir'.*: expected what spyx wrote; got .* node 'li_6' changed since"):
        from_nir(path)
    edited = read(path, verify=False)
    assert edited.nodes["li_6"].tau[1] == 2 * edited.nodes["li_6"].tau[0]
    nir.write(tmp_path / "again.nir", edited)  # another program's own file
    assert read(tmp_path / "again.nir").nodes["li_6"].tau[1] == edited.nodes["li_6"].tau[1]


@pytest.mark.parametrize("what", ["edges", "metadata/dt"])
def test_a_change_around_the_nodes_is_seen(path, what):
    with h5py.File(path, "r+") as file:
        value = file["node"][what][()]
        set_value(file["node"], what, value[::-1] if what == "edges" else 2 * value)
    with pytest.raises(ValueError, match="the graph changed since"):
        read(path)


def test_digests_that_are_gone_are_missed(path):
    with h5py.File(path, "r+") as file:
        del file["node"].attrs[DIGEST]
    with pytest.raises(ValueError, match="the graph changed since"):
        read(path)
    with h5py.File(path, "r+") as file:
        file["node"].attrs[DIGEST] = "short"
        node(file, "li_6").attrs[DIGEST] = np.ones(3)
    with pytest.raises(ValueError, match="node 'li_6' changed since"):
        read(path)


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs signals that stop a process")
def test_a_reader_that_has_to_wait_is_waited_for(path):
    """A busy machine: the process stands still for longer than it may compute."""
    read(path)
    process = _guarded._reader().process
    process.send_signal(signal.SIGSTOP)
    timer = threading.Timer(1.0, process.send_signal, [signal.SIGCONT])
    timer.start()
    assert "li_6" in read(path, timeout_s=0.5).nodes
    assert _guarded._reader().process is process


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits are those of Linux")
@pytest.mark.parametrize(
    ("act", "end"),
    [("while True: pass", -getattr(signal, "SIGXCPU", 0)), ("bytearray(2**30)", 1), ("bytearray(2**20)", 0)],
)
def test_a_reader_ends_itself_when_it_takes_too_much(act, end):
    limits = {"seconds": 0, "array": 2**24, "total": 2**24, "bytes": 0}
    code = f"import sys; sys.path.insert(0, sys.argv[1]); import _guarded_worker as w; w.limit({limits})\n{act}"
    folder = str(Path(_guarded.__file__).parent)
    done = subprocess.run([sys.executable, "-I", "-c", code, folder], capture_output=True, timeout=60)
    assert done.returncode == end
    assert b"MemoryError" in done.stderr or end <= 0


def test_names_that_a_file_cannot_hold():
    graph = graph_of(nir.Scale(np.ones(UNITS)))
    graph.nodes["a/b"] = graph.nodes.pop("n0")
    graph.edges = [("input", "a/b"), ("a/b", "output")]
    with pytest.raises(ValueError, match=r"node 'a/b': a name is not empty, has no '/'"):
        from_nir(graph, 1.0)
    with pytest.raises(ValueError, match="has no '/'"):
        write("unused.nir", graph)
    assert not os.path.exists("unused.nir")


def test_a_failed_write_leaves_the_old_file(path, monkeypatch):
    before = path.read_bytes()

    def fail(name, graph):
        with open(name, "wb") as file:
            file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(nir, "write", fail)
    with pytest.raises(OSError, match="disk full"):
        write(path, graph_of(nir.Scale(np.ones(UNITS))))
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["model.nir"]


def test_all_problems_come_at_once():
    graph = graph_of(
        nir.LI(tau=-np.ones(UNITS), r=np.full(UNITS, np.inf), v_leak=np.zeros(UNITS)),
        nir.Scale(np.ones(3)),
    )
    graph.nodes["lonely"] = nir.Scale(np.ones(3))
    with pytest.raises(ValueError, match=r"(?s)tau has the value -1.*r is not finite.*'lonely'.*no edge leads to it"):
        from_nir(graph, 1.0)


def test_the_time_step_is_asked_for():
    graph = graph_of(nir.Scale(np.ones(UNITS)))
    with pytest.raises(ValueError, match=r"spyx.nir.from_nir\(dt=\): expected a time step"):
        from_nir(graph)
    with pytest.raises(ValueError, match="expected a time step above 0"):
        from_nir(graph, -1.0)
    with pytest.raises(ValueError, match=r"spyx.nir.simulate\(inputs=\): expected \(time, 4\)"):
        simulate(graph, np.ones((3, 5)), 1.0)


def test_a_relative_path_is_that_of_the_folder_now(tmp_path, monkeypatch):
    """The process that reads files was started in another folder, where the name means nothing or another file."""
    graph = nir.NIRGraph.from_list(nir.Linear(np.ones((2, 2))))
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        write("a.nir", graph)
        assert set(read("a.nir").nodes) == set(graph.nodes)


def test_long_delays_and_huge_maps_are_refused_before_memory_is_taken():
    with pytest.raises(ValueError, match=r"'n0' \(Delay\): 4 units wait up to 1e\+09 steps, which takes more than"):
        from_nir(graph_of(nir.Delay(np.full(UNITS, 1e6))), 1e-3)
    huge = nir.NIRGraph(
        {
            "in": nir.Input({"input": np.array([1, 20_000, 20_000])}),
            "scale": nir.Scale(np.ones((1, 1, 1))),
            "out": nir.Output({"output": np.array([1, 20_000, 20_000])}),
        },
        [("in", "scale"), ("scale", "out")],
        type_check=False,
    )
    with pytest.raises(ValueError, match=r"gives 400000000 values a step, over the limit of 134217728"):
        from_nir(huge, 1e-3)
    with pytest.raises(ValueError, match=r"spyx.nir.check\(steps=\): expected a trial of at most 1073741824 values"):
        check(graph_of(nir.Scale(np.ones(UNITS))), 1.0, steps=10**9, others=False)
