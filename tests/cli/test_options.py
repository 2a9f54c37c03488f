"""Settings from the command line and from files; mistakes end in one line and exit code 2."""

from __future__ import annotations

import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cli.conftest import spyx
from spyx import compilation_cache, data, nn
from spyx.cli import doctor, inputs, make_network
from spyx.cli.config import FILE_ONLY, AugmentTable, Config, RasterTable, make_config
from spyx.cli.errors import UserError
from spyx.cli.summary import hints
from spyx.report import Finding

MISTAKES = [
    (("--dataset", "nonsense"), "unknown dataset 'nonsense'. Choose from: digits, randman, yinyang"),
    (("--dataset", "didgits"), "Did you mean digits?"),
    (("--dataset", "nmnist"), "the dataset nmnist is read from files: give their folder with --data FOLDER"),
    (("--data", "x"), "the dataset digits comes with the package or is generated: leave --data out"),
    (("--dataset", "nmnist", "--data", "no-such-folder"), "no-such-folder"),
    (("--neuron", "lief"), "unknown neuron 'lief'. Did you mean LIF? Choose from: ALIF, BRF, GLIF, IF, LI, LIF"),
    (("--surrogate", "superspik"), "Did you mean superspike? Choose from: arctan, boxcar"),
    (("--surrogate", "superspike:-1"), "expected a finite number above 0; got -1.0"),
    (("--surrogate", "superspike:x"), "--surrogate: 'superspike:x' does not work"),
    (("--hold-out-speaker", "theo"), "the dataset digits names no speakers: leave --hold-out-speaker out"),
    (("--encoder", "latent"), "unknown encoder 'latent'. Did you mean latency? Choose from: auto, latency, rate"),
    (("--encoder", "delta"), "does not fit digits, which holds values without a time axis. Choose from: auto, latency"),
    (("--encoder", "phase", "--steps", "9"), "num_steps must be a multiple of num_phases"),
    (("--epochs", "0"), "--epochs: expected a whole number from 1 to 100000; got 0"),
    (("--epochs", "many"), "--epochs"),
    (("--learning-rate", "-1"), "--learning-rate: expected a number from 1e-12 to 10; got -1"),
    (("--beta", "1.5"), "--beta: expected a number from 0 to 1; got 1.5"),
    (("--hidden", "10,0"), "--hidden: expected one size from 1 to 65536 per hidden layer"),
    (("--config", "missing.toml"), "--config: cannot read missing.toml: No such file or directory"),
    (("--epoch", "3"), "unknown option --epoch. Did you mean --epochs? The options are: --batch-size, --beta"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=[" ".join(a) for a, _ in MISTAKES])
def test_a_mistake_is_one_line_and_exit_code_2(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = spyx("train", *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("spyx: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr
    assert not list(tmp_path.iterdir())


def test_the_doctor_looks_at_all_classes_of_a_part_that_is_in_their_order():
    y = np.repeat(np.arange(10, dtype=np.int32), 100)
    part = inputs.Inputs({"train": y[:, None, None]}, {"train": y}, (1,), 10, "none", "", {"train": y + 1}, {})
    x, labels, lengths = doctor.examined_samples(part)
    assert len(x) == doctor.SAMPLES
    assert set(labels.tolist()) == set(range(10))
    assert np.array_equal(x[:, 0, 0], labels)
    assert np.array_equal(lengths, labels + 1)


def test_a_network_without_hidden_layers_is_asked_for_by_none(tmp_path):
    (tmp_path / "linear.toml").write_text("hidden = []")
    assert make_config(tmp_path / "linear.toml", {}).hidden == make_config(None, {"hidden": "none"}).hidden == ()
    assert len(make_network.make_network(make_config(None, {"hidden": "none"}), 64, 10).layers) == 2


def test_a_run_without_hidden_layers_is_scored_again(tmp_path):
    trained = spyx("train", "--hidden", "none", "--epochs", 2, "--output", tmp_path / "run")
    assert trained.exit_code == 0, trained.stderr
    assert make_config(tmp_path / "run/config.toml", {}).hidden == ()
    again = spyx("eval", tmp_path / "run")
    assert again.exit_code == 0, again.stderr
    number = r"test accuracy\s+([\d.]+%)"
    assert re.search(number, again.stdout)[1] == re.search(number, trained.stdout)[1]


def test_other_commands_and_their_mistakes(tmp_path):
    assert "unknown command 'trian'. Did you mean train?" in spyx("trian").stderr
    assert "is not a run: expected a folder with config.toml" in spyx("eval", tmp_path).stderr
    assert spyx("eval").exit_code == 2
    overview = spyx()
    assert overview.exit_code == 0
    assert all(command in overview.stdout for command in ("train", "eval", "info"))


@pytest.mark.parametrize("arguments", [("train", "--dataset", "nonsense"), ("eval", "nowhere")])
def test_training_and_scoring_keep_compiled_programs(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPYX_CACHE", str(tmp_path / "cache"))
    try:
        assert spyx(*arguments).exit_code == 2
        assert {path.name for path in (tmp_path / "cache").iterdir()} == {"kernels", "xla"}
    finally:
        compilation_cache("off")


def test_help_shows_groups_defaults_and_examples():
    text = spyx("train", "--help").stdout
    for word in (
        "Data",
        "Network",
        "Training",
        "Settings and output",
        "Default digits",
        "[augment]",
        "spyx train --neuron ALIF",
    ):
        assert word in text
    named = {f"--{name.replace('_', '-')}" for name in Config.__dataclass_fields__ if name not in FILE_ONLY}
    assert all(option in text for option in named | {"--config", "--output", "--devices", "--coordinator"})


def test_info_names_versions_devices_and_extras():
    result = spyx("info")
    assert result.exit_code == 0
    assert all(word in result.stdout for word in ("spyx", "jax", "flax", "device", "extra cli", jax.__version__))


def test_toml_and_yaml_do_the_same_and_the_command_line_wins(tmp_path):
    (tmp_path / "a.toml").write_text('neuron = "ALIF"\nhidden = [32, 16]\nbatch-size = 8\nlearning_rate = 0.01\n')
    (tmp_path / "a.yaml").write_text("neuron: ALIF\nhidden: [32, 16]\nbatch-size: 8\nlearning_rate: 0.01\n")
    expected = Config(neuron="ALIF", hidden=(32, 16), batch_size=8, learning_rate=0.01)
    assert make_config(tmp_path / "a.toml", {}) == make_config(tmp_path / "a.yaml", {}) == expected
    assert make_config(tmp_path / "a.toml", {"neuron": "IF", "hidden": None}).neuron == "IF"
    (tmp_path / "b.toml").write_text(expected.to_toml())
    assert make_config(tmp_path / "b.toml", {}) == expected


def test_a_setting_that_is_zero_is_given_and_limits_belong_to_their_range(tmp_path):
    (tmp_path / "a.toml").write_text("seed = 3\nhidden = 65536\n")
    assert make_config(tmp_path / "a.toml", {"seed": 0, "smoothing": 0.0, "beta": 1, "steps": 10_000}) == Config(
        seed=0, hidden=(65_536,), smoothing=0.0, beta=1.0, steps=10_000
    )
    for name, value in (
        ("seed", -1),
        ("seed", 2**31),
        ("steps", 0),
        ("steps", 10_001),
        ("beta", 1.001),
        ("epochs", True),
    ):
        with pytest.raises(UserError, match=f"^--{name}: expected a"):
            make_config(None, {name: value})
    with pytest.raises(UserError, match="--hidden: expected one size"):
        make_config(None, {"hidden": "65537"})


def test_only_tables_that_say_something_are_written():
    assert "[" not in Config(hidden=(8,)).to_toml().replace("[8]", "")
    text = Config(raster=RasterTable(bin_ms=2.0)).to_toml()
    assert "[raster]" in text
    assert "[augment]" not in text


def test_a_network_is_made_as_it_is_described():
    config = Config(hidden=(7, 3), beta=0.5, readout_beta=0.75, seed=4, neuron="ALIF", surrogate="arctan:3")
    layers = make_network.make_network(config, 5, 2).layers
    assert [layer.kernel.shape for layer in layers[::2][:3]] == [(5, 7), (7, 3), (3, 2)]
    assert [layer.hidden_shape for layer in layers[1::2]] == [(7,), (3,), (2,)]
    assert [float(layer.beta[...]) for layer in layers[1::2]] == [0.5, 0.5, 0.75]
    assert repr(layers[1].activation) == "arctan(k=3.0)"
    again, other = (make_network.make_network(Config(seed=seed), 5, 2).layers[0].kernel[...] for seed in (4, 5))
    assert not np.array_equal(again, other)
    assert "custom" not in make_network.surrogates()


def test_delays_lead_to_every_hidden_layer_and_shrink():
    config = Config(hidden=(7, 3), delays=4, epochs=10)
    model = make_network.make_network(config, 5, 2)
    assert [layer.delays.shape for layer in model.layers[::2][:2]] == [(5, 7), (7, 3)]
    assert not hasattr(model.layers[4], "delays")
    widths = [model.layers[0].width[...]]
    for epoch in (0, 2, 5, 9):
        make_network.set_widths(config, epoch, model)
        widths.append(model.layers[2].width[...])
    np.testing.assert_allclose(widths, [2.0, 2.0, 0.24, 0.01, 0.01], atol=0.01)


def test_every_part_is_drawn_on_its_own_and_by_the_seed():
    def parts(seed):
        found = inputs.load_inputs(Config(dataset="digits", encoder="rate", steps=4, seed=seed))
        return [np.asarray(found.x[part][:5]) for part in inputs.PARTS]

    same = data.Split(np.full((6, 9), 0.5, np.float32), np.zeros(6, np.int32))
    dataset = data.Dataset("digits", same, same, same, 1, citation="", licence="", split_note="")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "load", lambda name: dataset)
        drawn = [part.tobytes() for seed in (0, 1) for part in parts(seed)]
        assert len(set(drawn)) == 6
        assert [part.tobytes() for part in parts(0)] == drawn[:3]
        few = inputs.load_inputs(Config(encoder="phase", steps=4)).x["test"]
    assert few.shape == (6, 4, 9)


@pytest.mark.parametrize(("binary", "steps"), [(True, 16), (False, 8)])
def test_frames_that_do_not_fit_into_memory_are_refused_before_they_are_made(monkeypatch, binary, steps):
    """1024 x 1024 pixels of two polarities, in 256 recordings: 8 GiB of bytes in 16 steps, or of 2-byte counts in 8."""
    recordings = data.Recordings(["a"] * 256, None, stamp="", sensor_size=(1024, 1024))
    part = data.Split(recordings, np.zeros(256, np.int32))
    dataset = data.Dataset("nmnist", part, part, part, 2, citation="", licence="", split_note="")
    made = []
    monkeypatch.setattr(data, "load", lambda name, **options: dataset)
    monkeypatch.setattr(data, "rasterise", lambda *arguments: made.append(arguments) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        inputs.load_inputs(Config(dataset="nmnist", data="x", steps=steps, raster=RasterTable(binary=binary)))
    assert len(made) == 1
    with pytest.raises(UserError, match="a part would take [89] GiB in memory"):
        inputs.load_inputs(Config(dataset="nmnist", data="x", steps=steps + 1, raster=RasterTable(binary=binary)))
    assert len(made) == 1


def test_all_mistakes_of_a_file_are_told_at_once(tmp_path):
    (tmp_path / "a.toml").write_text('nuron = "LIF"\nepochs = 2.5\nseed = true\nencoder = 3\n')
    with pytest.raises(UserError) as error:
        make_config(tmp_path / "a.toml", {})
    for part in (
        "unknown setting 'nuron'. Did you mean neuron?",
        "--epochs: expected a whole number",
        "--seed",
        "--encoder",
    ):
        assert part in str(error.value)
    for name, text, message in (
        ("a.json", "{}", "expected a .toml, .yaml or .yml file"),
        ("b.toml", "epochs =", "is not valid TOML"),
        ("b.yaml", "[: a", "is not valid YAML"),
        ("c.yaml", "- 1", "got a list"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(UserError, match=message):
            make_config(tmp_path / name, {})


FILES = [
    ("clip = -1", "clip: expected a number from 0 to 1e+06; got -1"),
    ("warmup = 1.0", "warmup: expected a number from 0 to 0.99; got 1.0"),
    ('readout = "men"', "readout: expected one of sum, mean; got 'men'. Did you mean mean?"),
    ("raster = 3", "raster: expected a table of settings, [raster]; got 3"),
    (
        "[raster]\nbin = 3",
        "unknown setting 'raster.bin'. Did you mean binary? The settings of [raster] are: bin_ms",
    ),
    ("[raster]\nbinary = 1", "raster.binary: expected true or false; got 1"),
    ("[raster]\ndownsample = 0", "raster.downsample: expected a whole number from 1 to 4096; got 0"),
    ("[raster]\nbin_ms = 10", "[raster] cuts events into frames, and digits holds none: leave it out"),
    ("[augment]\nshift_spac = 1", "unknown setting 'augment.shift_spac'. Did you mean shift_space?"),
    ("[augment]\ndrop_spikes = 1.5", "augment.drop_spikes: expected a number from 0 to 1; got 1.5"),
]


@pytest.mark.parametrize(("text", "message"), FILES, ids=[text for text, _ in FILES])
def test_a_mistake_in_a_file_is_one_line_and_exit_code_2(text, message, tmp_path):
    (tmp_path / "a.toml").write_text(text)
    result = spyx("train", "--config", tmp_path / "a.toml", "--output", tmp_path / "run")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr
    assert not (tmp_path / "run").exists()


def test_tables_are_written_as_they_are_read(tmp_path):
    raster = RasterTable(bin_ms=2.5, duration_ms=100.0, start="zero", binary=False, polarity="merge", downsample=2)
    config = Config(clip=1.0, readout="mean", raster=raster, augment=AugmentTable(shift_space=1, drop_spikes=0.1))
    (tmp_path / "a.toml").write_text(config.to_toml())
    assert make_config(tmp_path / "a.toml", {}) == config
    (tmp_path / "b.yaml").write_text("raster: {bin-ms: 2.5}\naugment:\n  mask_time: 4\n")
    found = make_config(tmp_path / "b.yaml", {})
    assert (found.raster, found.augment) == (RasterTable(bin_ms=2.5), AugmentTable(mask_time=4))


@pytest.mark.parametrize("name", list(make_network.neurons()))
def test_every_neuron_makes_a_network(name):
    model = make_network.make_network(Config(neuron=name, hidden=(5, 4)), 3, 2)
    assert type(model.layers[1]) is getattr(nn, name)
    assert type(model.layers[3]) is getattr(nn, name)
    assert jax.eval_shape(lambda x: nn.run(model, x)[0], jnp.ones((2, 3, 3))).shape == (2, 3, 2)


def test_dynamics_are_named_and_refused_where_they_do_not_apply():
    model = make_network.make_network(Config(neuron="rlif", dynamics="Paper", hidden=(5,)), 3, 2)
    assert model.layers[1].dynamics == nn.Dynamics.preset("paper")
    assert make_network.make_network(Config(neuron="PLIF", hidden=(5,)), 3, 2).layers[1].dynamics.reset == "zero"
    with pytest.raises(UserError, match="--dynamics: adLIF has dynamics of its own. Those that take others: ALIF"):
        make_network.check_names(Config(neuron="adLIF", dynamics="paper"))
    with pytest.raises(UserError, match="--dynamics: 'snntorch' does not suit ALIF: .*expected delayed=False"):
        make_network.check_names(Config(neuron="ALIF", dynamics="snntorch"))
    with pytest.raises(UserError, match="unknown dynamics 'paperr'"):
        make_network.check_names(Config(dynamics="paperr"))


def test_every_surrogate_can_be_named():
    assert {"superspike", "arctan", "triangular", "straight_through", "sigmoid_surrogate"} <= set(
        make_network.surrogates()
    )
    for name in make_network.surrogates():
        assert make_network.make_surrogate(name)(jnp.float32(1.0)) == 1.0
    assert dict(make_network.make_surrogate("SuperSpike:10").options) == {"k": 10.0}


def test_every_encoder_gives_samples_time_features(monkeypatch):
    def dataset(x):
        part = data.Split(x, np.zeros(len(x), np.int32))
        return data.Dataset("digits", part, part, part, 2, citation="", licence="", split_note="")

    x = np.linspace(0, 1, 12, dtype=np.float32)
    for encoders, values, shape in (
        (("auto", "latency", "rate", "phase", "direct"), x.reshape(3, 4), (3, 8, 4)),
        (("auto", "delta"), x.reshape(2, 3, 2), (2, 3, 4)),
        (("direct",), x.reshape(2, 3, 2), (2, 3, 2)),
        (("auto", "none"), (x > 0.5).astype(np.uint8).reshape(1, 3, 2, 2), (1, 3, 4)),
    ):
        monkeypatch.setattr(data, "load", lambda name, v=values: dataset(v))
        for encoder in encoders:
            found = inputs.load_inputs(Config(encoder=encoder, steps=8))
            assert found.x["test"].shape == shape, encoder
            assert found.encoder == (encoder if encoder != "auto" else found.encoder)


@pytest.mark.parametrize("part", inputs.PARTS)
@pytest.mark.parametrize("encoder", ["direct", "delta"])
def test_nan_and_labels_that_are_no_class_are_refused_in_every_part(monkeypatch, part, encoder):
    good = data.Split(np.ones((3, 4, 2), np.float32), np.array([0, 1, 1]))
    nan = data.Split(np.where(np.arange(24).reshape(3, 4, 2) % 12 == 5, np.nan, 1), good.y)
    told = {f"the {part} part of digits: expected numbers; got NaN in 2 of 24 values": nan}
    for label in (-1, 2):
        text = f"the labels of the {part} part of digits: check_labels: expected labels in 0..1; got 1 of 3 outside"
        told[f"{text}, the first {label} at index 2"] = data.Split(good.x, np.array([0, 1, label]))
    for message, bad in told.items():
        parts = {name: bad if name == part else good for name in inputs.PARTS}
        dataset = data.Dataset("digits", **parts, num_classes=2, citation="", licence="", split_note="")
        monkeypatch.setattr(data, "load", lambda name, d=dataset: d)
        with pytest.raises(UserError) as error:
            inputs.load_inputs(Config(encoder=encoder))
        assert str(error.value).startswith(message)


def test_recordings_need_a_folder_and_no_encoder(shared, tmp_path):
    archive = shared / "data" / "nmnist_small.zip"
    config = Config(dataset="nmnist", data=str(archive), cache=str(tmp_path), steps=2)
    small = data.load("nmnist", root=archive)
    few = small.map(lambda part, split: split.take(range(3)))
    loaded = data.load
    try:
        data.load = lambda name, **options: few
        found = inputs.load_inputs(config)
    finally:
        data.load = loaded
    assert found.x["train"].shape == (3, 2, 34 * 34 * 2)
    assert set(np.unique(found.x["train"])) == {0, 1}


def test_as_a_module_in_a_process_of_its_own():
    command = [sys.executable, "-m", "spyx", "train", "--dataset", "nonsense"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("spyx: unknown dataset 'nonsense'")


def test_a_missing_extra_is_named(monkeypatch):
    import spyx.cli

    for name in [name for name in sys.modules if name.startswith("spyx.cli.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "typer", None)
    with pytest.raises(SystemExit) as stopped:
        spyx.cli.main()
    assert "expected typer; got no such package. Run pip install 'spyx-jax[cli]'" in str(stopped.value)


def finding(what: str, where: str = "1 LIF") -> Finding:
    return Finding(what, where, "a number", "Why.", "a change.", 50)


def test_hints_are_what_the_doctor_finds_in_options_and_what_the_losses_say():
    steady = [{"train_loss": 0.5, "eval_loss": 0.6, "eval_acc": 0.95}] * 5

    def told(found=(), history=steady, **settings):
        return " | ".join(hints(Config(**settings), history, found))

    assert told() == "the doctor finds nothing: input, labels, activity and gradients look healthy."
    silent = "silent layer at 1 LIF: a number. Try: spyx train --calibrate 0.1, or a change."
    assert told([finding("silent layer")]) == silent
    assert told([finding("silent layer")], calibrate=0.1) == "silent layer at 1 LIF: a number. Try: a change."
    alike = [finding("samples that look alike", "input")]
    assert "--encoder delta:0.03, or" in told(alike, encoder="delta")
    assert "--encoder delta:0.006, or" in told(alike, encoder="delta:0.02")
    assert "--steps 32, or" in told(alike, encoder="latency")
    assert "Try: a change." in told(alike, encoder="none")
    assert "--surrogate superspike:5" in told([finding("surrogate without slope")])
    assert "--beta 0.98" in told([finding("time constants too short")])
    assert "try --epochs" not in told([], [{**steady[0], "eval_loss": loss} for loss in (0.5, 0.5, 0.54)])
    assert "lowest after epoch 2: try --epochs 2" in told(
        [], [{**steady[0], "eval_loss": loss} for loss in (0.6, 0.5, 0.56)]
    )

    def falls(*losses):
        return told([], [{**steady[0], "train_loss": loss} for loss in losses], epochs=7)

    assert "the training loss still falls: try --epochs 14" in falls(1.0, 0.5, 0.49, 0.48, 0.47)
    assert "try --epochs" not in falls(1.0, 0.5, 0.495, 0.493, 0.49)
    assert "try --epochs" not in falls(1.0, 0.5, 0.2)


def test_the_threshold_of_the_delta_encoder():
    assert inputs.encoder_of("delta:0.03") == ("delta", 0.03)
    assert inputs.encoder_of("latency") == ("latency", inputs.DELTA_THRESHOLD)
    for text in ("delta:no", "delta:-1", "latency:3"):
        with pytest.raises(UserError, match=r"--encoder: expected a name, or delta and its threshold above 0"):
            inputs.encoder_of(text)
