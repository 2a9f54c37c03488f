"""What the doctor asks of layers and gradients, of the numbers that `probe` has measured."""

from __future__ import annotations

import math

import numpy as np

from spyx.report._findings import Finding
from spyx.report._probe import NeuronProbe, Probe

SILENT, BUSY = 0.9, 0.9
"""Share of silent units, and of steps in which a layer fires, from which either is a finding."""

SLOPE = 6e-4
"""Mean slope of a surrogate at the membranes, over its largest, below which nothing is learnt through it."""

EXPLODING, VANISHING = 1e4, 1e-6
"""Ratio of gradients, early over late in time, or first over last in depth, that is a finding."""

WILD = 300.0
"""Largest state of a spiking layer that is fed back into itself: hundreds of thresholds come from its own weights."""

DROPPED = 0.95
"""Share that a Dropout drops from which it is a finding."""

SMALL = 0.05
"""Largest input below which a silent first layer is blamed on the scale of the input."""

UNSEEN = 0.25
"""Share of the steps, at the end, without any influence on the output, that is a finding."""


def of_layers(seen: Probe, steps: int, largest_input: float) -> list[Finding]:
    """Weights, states and activity, in the order of the layers: a cause hides what follows from it."""
    found: list[Finding] = []
    for name, count in seen.not_finite.items():
        why = "Everything behind it is NaN."
        change = "the weights of an earlier checkpoint, and a smaller learning rate."
        found.append(Finding("NaN in the parameters", name, f"{count} are NaN or infinite", why, change, 99))
    if found:
        return found[:1]
    for connection in seen.connections:
        if connection.zero:
            why = "Nothing passes it, and no gradient passes it on."
            number = f"all {connection.size} weights are 0"
            found.append(Finding("zero weights", connection.name, number, why, "an initialiser that is random.", 95))
        elif connection.same:
            why = "They get the same gradient and stay the same: the layer is one unit wide."
            number = f"all {connection.units} units have the same weights"
            found.append(Finding("equal units", connection.name, number, why, "an initialiser that is random.", 83))
    for name, share in seen.dropped.items():
        if share > DROPPED:
            why = "In training hardly anything passes it; what is measured here is without it."
            number = f"it drops {share:.0%} of its input"
            found.append(Finding("dropout of nearly everything", name, number, why, "a rate of 0.2 to 0.5.", 84))
    wild = [name for name, largest in seen.outputs.items() if not largest <= EXPLODING]
    found += [_explosion(name, "outputs", seen.outputs[name]) for name in wild[:1]]
    silenced = any(finding.what == "zero weights" for finding in found)
    for position, neuron in enumerate(seen.neurons):
        found += of_pins(neuron)
        if not neuron.finite or neuron.largest > (WILD if neuron.spikes and neuron.recurrent else EXPLODING):
            if not wild:
                found.append(_explosion(neuron.name, "states", neuron.largest))
            break
        if neuron.last and not neuron.recurrent and abs(neuron.decay) < 0.05 and steps > 5:
            number = f"{neuron.decay:.2g} of its state is left after a step, of {steps} steps"
            why = "The readout knows the last step alone."
            found.append(Finding("readout without memory", neuron.name, number, why, "beta=0.9.", 76))
        if not neuron.spikes:
            continue
        if not silenced:
            small = largest_input if position == 0 and 0 < largest_input < SMALL else None
            problem = of_activity(neuron, steps, small)
            found += problem
            silenced = any(finding.weight >= 94 for finding in problem)
    return found


def _explosion(where: str, what: str, largest: float) -> Finding:
    number = f"{what} up to {largest:.3g}" if math.isfinite(largest) else f"{what} that are not finite"
    why = "Numbers of that size drown everything else."
    change = "a decay below 1, a smaller recurrent weight, or smaller inputs."
    return Finding("exploding states", where, number, why, change, 93)


def of_activity(neuron: NeuronProbe, steps: int, small: float | None = None) -> list[Finding]:
    """How a layer of spiking neurons fires, and the slope of its surrogate where its membranes are."""
    if neuron.silent == 1:
        if small is not None:
            number = f"no value is above {small:.2g}, and {neuron.name} is silent"
            why = "Neurons have thresholds near 1, and no unit reaches its own."
            return [Finding("input out of scale", "input", number, why, "divide x by its largest value.", 94)]
        if neuron.input_high <= 0:
            where = neuron.fed_by or neuron.name
            number = f"its output, the input of {neuron.name}, is never above {neuron.input_high:.3g}"
            why = "No unit can reach its threshold."
            change = "a bias of 0, smaller weights, or another seed."
            return [Finding("input never positive", where, number, why, change, 94)]
        number = f"no unit fires; the membrane stays {-neuron.nearest:.3g} below the threshold at best"
        why = "The layers behind it see nothing, and the surrogate has hardly a slope there."
        change = "spyx.nn.calibrate(model, x), a lower threshold, larger weights, or a wider surrogate."
        if neuron.tau_steps > 10 * steps:
            number += f", with a time constant of {neuron.tau_steps:.3g} steps in a sequence of {steps}"
            change = "a smaller decay, then spyx.nn.calibrate(model, x)."
        return [Finding("silent layer", neuron.name, number, why, change, 94)]
    if neuron.rate > BUSY or (neuron.rate > 0.75 and neuron.slope < SLOPE):
        number = f"it fires in {neuron.rate:.0%} of all steps"
        why = "A layer that always fires says nothing, and its membrane is far from the threshold."
        change = "spyx.nn.calibrate(model, x), smaller weights, a higher threshold, or a smaller decay."
        return [Finding("saturated layer", neuron.name, number, why, change, 85)]
    if neuron.slope < SLOPE:
        number = f"the slope at the membranes is {neuron.slope:.1e} of its largest"
        why = "Hardly any gradient passes the spikes."
        return [Finding("surrogate without slope", neuron.name, number, why, "a wider one, axn.superspike(5).", 88)]
    if neuron.silent > SILENT:
        number = f"{neuron.silent:.0%} of its units never fire on this batch"
        why = "They cost as much as the others and learn slowly."
        change = "spyx.nn.calibrate(model, x), a lower threshold or larger weights."
        return [Finding("silent units", neuron.name, number, why, change, 40)]
    return []


def of_pins(neuron: NeuronProbe) -> list[Finding]:
    """Parameters that are clipped."""
    found = []
    for name, share, at in neuron.pinned:
        if share > 0.5:
            number = f"{share:.0%} of {name} is stored outside of its range and clipped to {at:g}"
            why = "A clipped parameter has no gradient and never comes back."
            change = f'a start inside the range, or nn.decay(low=, high=, by="sigmoid") for {name}.'
            found.append(Finding("pinned parameter", neuron.name, number, why, change, 75))
    return found


def of_gradients(seen: Probe, found: list[Finding], steps: int) -> list[Finding]:
    """What the loss does to parameters, through depth and through time."""
    if not seen.loss_finite:
        why = "Nothing can be minimised."
        return [Finding("loss not finite", "loss", "NaN or infinite", why, "look at the loss and the targets.", 92)]
    broken = [name for name, size in seen.gradients.items() if not math.isfinite(size)]
    if broken and not any(finding.what == "exploding states" for finding in found):
        number = f"the gradient of {', '.join(broken)} is NaN or infinite, and the loss is not"
        why = "One update makes the parameters NaN."
        change = "a function that has a derivative at 0, fewer steps, or clipping by norm."
        return [Finding("NaN in the gradient", broken[-1], number, why, change, 91.5)]
    if any(finding.what in CAUSES for finding in found):
        return []
    more = []
    dead = [name for name, size in seen.gradients.items() if size == 0]
    if dead:
        number = f"the gradient of {', '.join(dead)} is exactly 0"
        why = "The loss does not depend on it, or something cuts the gradient (stop_gradient, a step function)."
        more.append(Finding("no gradient", dead[-1], number, why, "look at what lies between it and the loss.", 91))
    return more + _through_depth(seen, dead) + _through_time(seen, steps) + _of_the_end(seen, steps)


CAUSES = {"zero weights", "silent layer", "input never positive", "input out of scale", "surrogate without slope"}
"""Findings behind which a gradient of zero is no news."""


def _through_depth(seen: Probe, dead: list[str]) -> list[Finding]:
    sizes = {name: size for name, size in seen.gradients.items() if size}
    if dead or len(sizes) < 2:
        return []
    (first, early), (last, late) = next(iter(sizes.items())), list(sizes.items())[-1]
    ratio = early / late
    number = f"the gradient of {first} is {ratio:.1e} times that of {last}"
    if ratio > EXPLODING:
        why = "The first layers jump while the last ones hardly move."
        change = "smaller weights, a narrower surrogate, or clipping by norm."
        return [Finding("exploding gradient", first, number, why, change, 87)]
    if ratio < VANISHING:
        why = "The first layers do not learn."
        return [Finding("vanishing gradient", first, number, why, "a wider surrogate, or fewer layers.", 62)]
    return []


def _through_time(seen: Probe, steps: int) -> list[Finding]:
    ratio = seen.time_ratio
    if ratio is None:
        return []
    number = f"the gradient of the first steps is {ratio:.1e} times that of the last"
    if ratio > EXPLODING and seen.unseen < UNSEEN * steps:
        where = next((n.name for n in seen.neurons if n.recurrent), "loss")
        why = "One update follows the first steps alone, and jumps."
        change = "a smaller recurrent weight, clipping by norm, or a narrower surrogate."
        return [Finding("exploding gradient", where, number, why, change, 89)]
    if 0 <= ratio < VANISHING:
        slowest = max((n.tau_steps for n in seen.neurons if not n.recurrent), default=math.inf)
        if slowest < steps / 10:
            where = max((n for n in seen.neurons if not n.recurrent), key=lambda n: n.tau_steps).name
            number = f"the longest is {slowest:.2g} steps, of {steps}, and {number}"
            why = "What happens early is forgotten before the loss is computed."
            change = f"a decay near exp(-1/{steps}) = {math.exp(-1 / steps):.3f}, or fewer steps."
            return [Finding("time constants too short", where, number, why, change, 61)]
        why = "What happens early is not learnt."
        return [Finding("vanishing gradient", "loss", number, why, "a decay closer to 1, or fewer steps.", 60)]
    return []


def _of_the_end(seen: Probe, steps: int) -> list[Finding]:
    if seen.unseen < max(3, UNSEEN * steps):
        return []
    number = f"the last {seen.unseen} of {steps} steps of the input change nothing in the output"
    why = "What happens there is not seen: delays reach beyond the end, or the readout comes too early."
    return [Finding("last steps unseen", "loss", number, why, "steps without input at the end, or shorter delays.", 70)]


def condition(seen: Probe, where: str) -> str:
    """What a layer does now, in words, for a finding that is treated."""
    for neuron in seen.neurons:
        if neuron.name == where:
            text = f"{where} fires in {neuron.rate:.1%} of all steps, {neuron.silent:.0%} of its units never do"
            if neuron.spikes:
                return f"{text}, and the slope at its membranes is {neuron.slope:.2g} of its largest"
            return f"{neuron.decay:.2g} of its state is left after a step, and it is at most {neuron.largest:.3g}"
    if where in seen.gradients and np.isfinite(seen.gradients[where]):
        behind = [neuron for neuron in seen.neurons if neuron.fed_by == where]
        text = f"the largest gradient of its weights is {seen.gradients[where]:.2g}"
        return f"{text}; {condition(seen, behind[0].name)}" if behind else text
    if seen.time_ratio is not None:
        return f"the gradient of the first steps is {seen.time_ratio:.2g} times that of the last"
    return "measured again"
