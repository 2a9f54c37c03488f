"""What the figures draw, read off the figures: values, places, labels, the sample that was asked for."""

from __future__ import annotations

import numpy as np
import pytest

from spyx import axn, graph, nn, report

pytest.importorskip("matplotlib")
LIGHT, DARK = "#1f2430", "#e8eaf0"


def test_history_draws_its_numbers_over_epochs_from_one():
    history = [
        {"train_loss": 4.0, "eval_loss": 5.0, "eval_acc": 0.25},
        {"train_loss": 2.0},
        {"train_loss": 1.0, "eval_loss": 3.0, "eval_acc": 0.5},
    ]
    figure = report.plot_history(history, loss_name="hinge")
    loss, accuracy = figure.axes
    train, held_out = loss.lines
    assert train.get_xdata().tolist() == held_out.get_xdata().tolist() == [1, 2, 3]
    assert list(train.get_ydata()) == [4.0, 2.0, 1.0]
    np.testing.assert_array_equal(held_out.get_ydata(), [5.0, np.nan, 3.0])
    np.testing.assert_array_equal(accuracy.lines[0].get_ydata(), [25.0, np.nan, 50.0])
    assert (loss.get_ylabel(), loss.get_xlim(), len(accuracy.lines)) == ("hinge", (0.5, 3.5), 1)
    assert loss.get_yscale() == "linear"
    alone = report.plot_history([{"train_loss": 1.0}], test_accuracy=0.5)
    assert alone.axes[0].lines[0].get_marker() == "o"
    assert alone.axes[0].get_xticks().tolist() == [1]
    assert set(alone.axes[1].lines[0].get_ydata()) == {50.0}
    wide = report.plot_history([{"train_loss": value} for value in (3.0, 0.3, 0.02)])
    assert wide.axes[0].get_yscale() == "log"


def test_a_sample_is_drawn_with_its_true_class():
    x = np.zeros((2, 4, 2, 3))
    x[1, 2, 0, 1] = x[1, 0, 1, 2] = 1.0  # channels 1 and 5
    spikes = np.zeros((2, 4, 3))
    spikes[0], spikes[1, 3, 2] = 1.0, 1.0
    membranes = np.zeros((2, 4, 3))
    membranes[0, :, 0], membranes[1, :, 2], membranes[1, 1, 1] = 9.0, [1.0, 2.0, 3.0, 4.0], 5.0
    named = {
        "1": report.LayerRecord("1 LIF", {"spikes": spikes}),
        "2": report.LayerRecord("2 LI", {"spikes": membranes}),
    }
    figure = report.plot_sample(x.reshape(2, 4, 6), named, sample=1, label_of=1, step_ms=0.5)
    given, hidden, readout = figure.axes
    assert sorted(given.collections[0].get_offsets().tolist()) == [[0.0, 5.0], [1.0, 1.0]]
    assert hidden.collections[0].get_offsets().tolist() == [[1.5, 2.0]]
    assert (given.get_ylim(), hidden.get_ylim()) == ((-0.5, 5.5), (-0.5, 2.5))
    drawn = {tuple(line.get_ydata()) for line in readout.lines}
    assert drawn == {(0.0,) * 4, (1.0, 2.0, 3.0, 4.0), (0.0, 5.0, 0.0, 0.0)}
    assert [text.get_text() for text in readout.texts] == ["class 1: true", "class 2: prediction"]
    assert readout.get_xlim() == (-0.25, 1.75)
    right = report.plot_sample(x.reshape(2, 4, 6), named, sample=1, label_of=2, names=["a", "b", "c"])
    assert [text.get_text() for text in right.axes[-1].texts] == ["c: prediction, right"]
    graded = report.plot_sample(np.arange(12.0).reshape(1, 4, 3), {}).axes[0]
    np.testing.assert_array_equal(graded.images[0].get_array(), np.arange(12.0).reshape(4, 3).T)
    events = report.plot_sample(np.ones((1, 8, 6, 6, 2)), {}).axes[0]
    assert [tick.get_text() for tick in events.get_xticklabels()] == [str(n) for n in range(8)]
    with pytest.raises(ValueError, match=r"plot_sample: expected input .*; got shape \(2, 4, 6\) and sample 5"):
        report.plot_sample(x.reshape(2, 4, 6), named, sample=5)


def test_the_sample_that_is_chosen_has_the_median_of_spikes():
    y, predictions = np.array([0, 0, 0, 1, 1]), np.array([0, 0, 0, 0, 0])
    assert report.choose_samples(y, predictions, np.array([9, 2, 5, 7, 1])) == (2, 4)
    assert report.choose_samples(y[:3], predictions[:3], np.eye(3)[:, None]) == (1, None)
    with pytest.raises(ValueError, match="expected a class, a prediction and spikes of each sample"):
        report.choose_samples(y, predictions[:2], np.zeros(5))


def test_a_raster_is_sorted_and_grouped():
    spikes = np.zeros((5, 4))
    spikes[3, 0] = spikes[1:3, 1] = spikes[0, 2] = 1
    by_rate = report.plot_raster(spikes, sort="rate")
    assert sorted(by_rate.collections[0].get_offsets().tolist()) == [[0.0, 2.0], [1.0, 3.0], [2.0, 3.0], [3.0, 1.0]]
    assert by_rate.get_title(loc="right") == "4 spikes, 20 % of all neurons and steps"
    first = report.plot_raster(spikes, sort="first", step_ms=2.0)
    assert sorted(first.collections[0].get_offsets().tolist()) == [[0.0, 0.0], [2.0, 1.0], [4.0, 1.0], [6.0, 2.0]]
    assert (first.get_xlabel(), first.get_ylabel()) == ("time (ms)", "neuron (index, by first spike)")
    classes = report.preferred_classes(np.stack([spikes, spikes[:, ::-1]]), [3, 5])
    assert classes.tolist() == [3, 3, 5, 5]
    grouped = report.plot_raster(spikes, classes=[5, 3, 5, -1])
    assert [text.get_text() for text in grouped.texts] == ["silent", "class 3", "class 5"]
    with pytest.raises(ValueError, match=r"sort=\): expected 'rate', 'first' or None; got 'size'"):
        report.plot_raster(spikes, sort="size")
    with pytest.raises(ValueError, match="expected one class of each of 4 units"):
        report.plot_raster(spikes, classes=[1])


def test_membranes_rates_and_slopes():
    axes = report.plot_membrane(np.eye(4)[:, :2], spikes=np.eye(4)[:, :2], threshold=0.5, names=["a", "b"])
    assert [line.get_label() for line in axes.lines[:2]] == ["a", "b"]
    assert [ticks.get_offsets().tolist()[0][0] for ticks in axes.collections] == [0.0, 1.0]
    assert (axes.get_ylabel(), axes.get_title(loc="right")) == ("membrane (threshold 0.5)", "2 spikes (ticks above)")
    assert report.plot_membrane([0.5]).lines[0].get_marker() == "o"
    rates = report.plot_rates({"1 LIF": [0.0, 0.0, 0.1, 0.2], "3 LIF": np.full((2, 2), 0.05)}, step_ms=1.0)
    assert rates.get_xlabel() == "rate (Hz)"
    assert [tick.get_text() for tick in rates.get_yticklabels()] == ["3 LIF", "1 LIF"]
    assert "50 % silent" in rates.texts[1].get_text()
    over = report.plot_rate_over_time({"1 LIF": [[0.0, 0.2], [0.2, 0.4]], "3 LIF": [0.5, 0.5]})
    np.testing.assert_allclose(over.lines[0].get_ydata(), [0.1, 0.3])
    assert {text.get_text() for text in over.texts} == {"1 LIF", "3 LIF"}
    slope = report.plot_slope(np.linspace(0, 2, 101), axn.boxcar(1.0, 1.0), threshold=1.0)
    assert slope.get_title(loc="right") == "mean slope at the membranes 50 %"
    assert len(slope.figure.axes) == 2
    with pytest.raises(TypeError, match="expected a surrogate with a slope"):
        report.plot_slope([1.0], np.sin)
    for empty in (report.plot_rates, report.plot_rate_over_time):
        with pytest.raises(ValueError, match="got none"):
            empty({})


def test_confusion_weights_delays_and_networks():
    axes = report.plot_confusion([0, 0, 1, 2], [0, 1, 1, 1], names=["a", "b", "c"])
    np.testing.assert_allclose(axes.images[0].get_array(), [[50, 50, 0], [0, 100, 0], [0, 100, 0]])
    assert [text.get_text() for text in axes.texts] == ["1", "1", "1", "1"]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["a", "b", "c"]
    with pytest.raises(ValueError, match=r"names=\): expected a name for every class; got 1 for class 1"):
        report.plot_confusion([0, 1], [0, 1], names=["a"])
    with pytest.raises(ValueError, match="expected as many predictions as classes"):
        report.plot_confusion([0, 1], [0, -1])
    weights = report.plot_weights(np.array([[1.0, -2.0], [0.0, 0.5], [0.0, 0.0]]))
    low, high = weights.images[0].get_clim()
    assert low == -high
    assert weights.get_title(loc="right").endswith("50 % zero")
    tiles = report.plot_weights(np.arange(36.0).reshape(3, 3, 2, 2)).images[0].get_array()
    assert tiles.shape == (7, 7)
    np.testing.assert_array_equal(tiles[4:, :3], np.arange(36.0).reshape(3, 3, 2, 2)[:, :, 1, 0])
    assert np.ma.getmaskarray(np.ma.masked_invalid(tiles))[3].all()
    delays = report.plot_delays([0, 1, 1, 3], step_ms=2.0)
    assert [bar.get_height() for bar in delays.patches] == [1, 2, 0, 1]
    assert (delays.get_xlabel(), delays.get_title(loc="right")) == ("delay (ms)", "mean 2.5 ms, longest 6")
    with pytest.raises(ValueError, match="expected 0 steps or more; got -1"):
        report.plot_delays([-1])
    drawn = report.plot_network(nn.Sequential(nn.IF(2), nn.LI(2)))
    assert "0 IF" in {text.get_text() for text in drawn.axes[0].texts}
    assert report.plot_network(graph.feed_forward(nn.IF(2))).axes
    with pytest.raises(TypeError, match="expected a spyx.graph.Graph or a spyx.nn.Sequential; got IF"):
        report.plot_network(nn.IF(2))


def test_frames_and_their_animation(tmp_path):
    image = pytest.importorskip("PIL.Image")
    frames = np.zeros((6, 4, 5, 2))
    frames[0, 0, 0, 0] = frames[5, 3, 4, 1] = 1
    axes = report.plot_frames(frames, count=3, step_ms=2.0)
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0-4", "4-8", "8-12"]
    picture = axes.images[0].get_array()
    assert picture.shape == (4, 3 * 5 + 2, 4)
    coloured = np.argwhere(((picture[..., :3] < 0.99).any(-1)) & (picture[..., 3] == 1)).tolist()
    assert coloured == [[0, 0], [3, 16]]
    path = report.animate(frames, tmp_path / "a.gif", size=20, fps=20)
    with image.open(path) as moving:
        assert (moving.n_frames, moving.size, moving.info["duration"]) == (6, (20, 20), 50)
    with pytest.raises(ValueError, match="ends in .gif; got a.png"):
        report.animate(frames, tmp_path / "a.png")
    with pytest.raises(ValueError, match="expected one channel, or off and on; got 3"):
        report.plot_frames(np.zeros((2, 4, 4, 3)))


def test_curves_of_many_runs_and_the_colours_of_dark_pages():
    axes = report.plot_runs({"a": [[1.0, 2.0, 3.0], [3.0, 4.0]], "b": [[0.001, 0.01, 0.1]]}, quantity="loss (nats)")
    mean = next(line for line in axes.lines if line.get_linewidth() == 2.2)
    assert mean.get_ydata().tolist() == [2.0, 3.0, 3.0]
    assert axes.get_yscale() == "log"
    assert any("(2 runs)" in text.get_text() for text in axes.texts)
    assert report.plot_runs({"a": [[5.0]]}).lines[-1].get_marker() == "o"
    assert report.plot_raster(np.eye(3)).xaxis.label.get_color() == LIGHT
    assert report.plot_raster(np.eye(3), dark=True).xaxis.label.get_color() == DARK
    on_dark = report.plot_raster(np.eye(3), dark=True).figure.subplots()
    assert report.plot_delays([1], on_dark).xaxis.label.get_color() == DARK
    with pytest.raises(ValueError, match="at least one curve"):
        report.plot_runs({"a": []})
