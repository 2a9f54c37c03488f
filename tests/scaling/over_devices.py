"""A program of its own, because devices are counted once: training over four devices, next to one.

Run by `test_scaling.py`. It prints a line for everything that differs.
"""

from __future__ import annotations

import os

os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
os.environ["XLA_FLAGS"] += " --xla_backend_optimization_level=0"
os.environ["JAX_PLATFORMS"] = "cpu"

from functools import partial  # noqa: E402

import jax  # noqa: E402
import numpy as np  # noqa: E402

from scaling import trainee  # noqa: E402
from spyx import data, fn, nn, optimize  # noqa: E402

EPOCHS = 5  # of four batches: twenty steps
BOUND = 1e-5


def arrays(model):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(trainee.weights(model))]


def by_compile_fit(mesh, **how):
    x, y = trainee.samples()
    given = dict(epochs=EPOCHS, eval_data=(x, y), metric_fn=trainee.LOSS, key=jax.random.key(1))
    model, history = optimize.compile_fit(trainee.network(**how), trainee.TX, trainee.loss, (x, y), **given, mesh=mesh)
    return model, [*history["train_loss"], *history["eval_metric"]]


def by_train(mesh, **how):
    trained = trainee.train(mesh, EPOCHS, **how)
    return trained.model, [value for row in trained.history for value in row.values()]


def by_fit(mesh, **how):
    """Batches of a loader, the last of which is padded, of samples of unequal length."""
    x, y = (a.reshape(-1, *a.shape[2:]) for a in trainee.samples())
    lengths = np.arange(len(y)) % 3 + 4
    split = data.Split([a[:n] for a, n in zip(np.asarray(x), lengths, strict=True)][:-3], np.asarray(y)[:-3])
    loader = data.Loader(split, 8, key=0)
    model = trainee.network(**how)
    history = optimize.fit(
        model, trainee.TX, trainee.LOSS, lambda: loader, epochs=EPOCHS, mesh=mesh,
        eval_iter=lambda: data.Loader(split, 8), eval_fn=scores,
    )  # fmt: skip
    return model, [row[name] for row in history for name in ("train_loss", "eval_loss", "eval_acc")]


def scores(model, x, y, mask, lengths):
    traces, _ = nn.run(model, x, lengths=lengths)
    given = {"weights": mask, "lengths": lengths}
    return fn.integral_accuracy()(traces, y, **given)[0], trainee.LOSS(traces, y, **given)


def main() -> None:
    assert jax.device_count() == 4
    meshes = {"four devices": optimize.device_mesh(), "units split": optimize.device_mesh(4, units=2)}
    cases = {
        "compile_fit": by_compile_fit,
        "train, kernels": partial(by_train, mode="fused"),
        "fit, lengths and padding": partial(by_fit, dropout=0.0),
    }
    for case, by in cases.items():
        model, numbers = by(None)
        for name, mesh in meshes.items():
            if (case == "compile_fit") != (name == "units split"):
                continue
            over, found = by(mesh)
            pairs = [*zip(arrays(model), arrays(over), strict=True), (np.asarray(numbers), np.asarray(found))]
            worst = max(float(np.abs(a - b).max()) for a, b in pairs)
            print(f"{case}, {name}: {worst:.1e}", flush=True) if not worst < BOUND else None
            assert all(len(leaf.devices()) == 1 for leaf in jax.tree.leaves(trainee.weights(over)))
    check_plan(meshes["four devices"])
    print("compared", flush=True)


def check_plan(mesh) -> None:
    x, y = (a[0] for a in trainee.samples())
    graphdef, state = trainee.parts(trainee.network(mode="fused"))
    with jax.set_mesh(mesh):
        plan = nn.explain(trainee.network(), x, mode="fused")
        step = jax.jit(jax.grad(lambda w, x, y: trainee.loss_of(graphdef, w, x, y), allow_int=True))
        x, y = (jax.device_put(a, jax.NamedSharding(mesh, jax.P("batch"))) for a in (x, y))
        text = step.lower(state, x, y).compile().as_text()
    if "spyx_forward" not in text or "all-gather" in text or "on each of 4 devices" not in str(plan):
        print(f"not device by device:\n{plan}\n{[line for line in text.splitlines() if 'gather' in line]}")


if __name__ == "__main__":
    main()
