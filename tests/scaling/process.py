"""One process of a job, or a run alone: `process.py FOLDER EPOCHS [COORDINATOR PROCESSES NUMBER]`.

Process 0 writes the weights to FOLDER/weights.npz. Every process says `training` after its first steps.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax  # noqa: E402
import numpy as np  # noqa: E402

from scaling import trainee  # noqa: E402
from spyx import optimize  # noqa: E402
from spyx.optimize import _checkpoint  # noqa: E402

SLOW_S = float(os.environ.get("SLOW_S", "0"))


def main(folder: Path, epochs: int, *job: str) -> None:
    _checkpoint.SHARE = 0
    if job:
        joined = optimize.join_processes(job[0], int(job[1]), int(job[2]), patience_s=trainee.PATIENCE_S)
        with joined, joined.losses_named():
            learn(folder, epochs, optimize.device_mesh())
    else:
        learn(folder, epochs, None)


def learn(folder: Path, epochs: int, mesh) -> None:
    def step(epoch: int, done: int, loss: float) -> None:
        print("training", epoch, done, flush=True)
        time.sleep(SLOW_S)

    trained = trainee.train(mesh, epochs, folder=folder / "checkpoints", resume=True, on_step=step)
    if jax.process_index() == 0:
        leaves = jax.tree.leaves(trainee.weights(trained.model))
        np.savez(folder / "weights.npz", *leaves, history=[list(row.values()) for row in trained.history])


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
