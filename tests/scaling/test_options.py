"""What `mesh=`, `device_mesh`, `join_processes` and the options of the command line refuse."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from scaling import trainee
from spyx import optimize
from spyx.cli.errors import UserError
from spyx.cli.many_devices import spread_over

MESHES = [
    (4, TypeError, "expected a jax.sharding.Mesh; got int"),
    (jax.sharding.Mesh(np.array(jax.devices()[:1]), ("data",)), ValueError, "expected the axes 'batch'"),
]


@pytest.mark.parametrize(("mesh", "kind", "words"), MESHES)
def test_a_mesh_of_another_kind_is_refused(mesh, kind, words):
    with pytest.raises(kind, match=words):
        trainee.train(mesh, 1)


def test_devices_that_are_not_there_are_refused():
    with pytest.raises(ValueError, match=r"device_mesh\(devices=\): expected 1 to"):
        optimize.device_mesh(10_000)
    with pytest.raises(ValueError, match=r"device_mesh\(units=\): expected a divisor of 1"):
        optimize.device_mesh(1, units=2)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("h", 2, 0), r"\(coordinator=\): expected host:port"),
        (("h:1", 2, 2), r"\(process_id=\): expected 0 to 1; got 2"),
        (("h:1", 0, 0), r"\(processes=\): expected 1 or more"),
    ],
)
def test_a_job_that_cannot_be_is_refused(given, words):
    with pytest.raises(ValueError, match=words):
        optimize.join_processes(*given)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("x", None, None, None, None), "--devices: expected a number such as 4"),
        (("10000", None, None, None, None), "--devices: expected 1 to"),
        ((None, None, 2, None, None), "--processes: expected --coordinator"),
        ((None, "h:1", None, None, None), "--coordinator: expected --processes and --process-id"),
        ((None, "h:1", 2, 5, None), "--process-id: expected 0 to 1"),
    ],
)
def test_options_that_do_not_fit_are_one_line(given, words):
    with pytest.raises(UserError, match=words), spread_over(*given, None):
        pass
