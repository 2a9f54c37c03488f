"""What the figures draw, read off the figures: values, places, labels, the sample that was asked for."""

from __future__ import annotations

import numpy as np
import pytest

from spyx import report

pytest.importorskip("matplotlib")


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
    alone = report.plot_history([{"train_loss": 1.0}], test_accuracy=0.5)
    assert [len(axes.lines) for axes in alone.axes] == [1, 1]
    assert set(alone.axes[1].lines[0].get_ydata()) == {50.0}


def test_raster_draws_the_sample_that_was_asked_for():
    x = np.zeros((2, 4, 2, 3))
    x[1, 2, 0, 1] = x[1, 0, 1, 2] = 1.0  # channels 1 and 5
    spikes = np.zeros((2, 4, 3))
    spikes[0], spikes[1, 3, 2] = 1.0, 1.0
    membranes = np.zeros((2, 4, 3))
    membranes[0, :, 0], membranes[1, :, 2], membranes[1, 1, 1] = 9.0, [1.0, 2.0, 3.0, 4.0], 5.0
    layers = [report.Activity("1 LIF", spikes, True), report.Activity("2 LI", membranes, False)]
    figure = report.plot_raster(x, layers, sample=1, step_ms=0.5)
    given, hidden, readout = figure.axes
    assert sorted(given.collections[0].get_offsets().tolist()) == [[0.0, 5.0], [1.0, 1.0]]
    assert hidden.collections[0].get_offsets().tolist() == [[1.5, 2.0]]
    assert (given.get_ylim(), hidden.get_ylim()) == ((-0.5, 5.5), (-0.5, 2.5))
    assert hidden.get_title(loc="right") == "1 spikes (8.3 % of neurons x steps)"
    drawn = {tuple(line.get_ydata()) for line in readout.lines}
    assert drawn == {(0.0,) * 4, (1.0, 2.0, 3.0, 4.0), (0.0, 5.0, 0.0, 0.0)}
    (winner,) = (line for line in readout.lines if line.get_label().startswith("class"))
    assert winner.get_label() == "class 2, the largest integral"
    assert winner.get_ydata().tolist() == [1.0, 2.0, 3.0, 4.0]
    assert winner.get_xdata().tolist() == [0.0, 0.5, 1.0, 1.5]
    assert readout.get_xlim() == (-0.25, 1.75)


def test_graded_input_is_a_picture_with_time_to_the_right():
    x = np.arange(12.0).reshape(1, 4, 3)
    (axes,) = report.plot_raster(x, []).axes
    (image,) = axes.images
    np.testing.assert_array_equal(image.get_array(), x[0].T)
    assert tuple(image.get_extent()) == (-0.5, 3.5, -0.5, 2.5)
    assert (axes.get_xlabel(), image.origin) == ("time step", "lower")
