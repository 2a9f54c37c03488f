"""The networks on the shelf: cards, weights and what `load` makes of them."""

from __future__ import annotations

import difflib
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from flax import nnx

from spyx import data, saving
from spyx.zoo._encoder import FrameEncoder, ValueEncoder

SHELF = Path(__file__).resolve().parent / "weights"
ENTRIES = ("name", "data", "encoder", "labels", "settings", "score", "cost", "weights")

if TYPE_CHECKING:
    from spyx.data._json import JSON
    from spyx.data._raster import RasterOptions


class Source(TypedDict):
    """Of a card: the data set that a network was trained on."""

    name: str
    citation: str
    licence: str
    split: str


class ValueCode(TypedDict):
    """Of a card: the arguments of a `ValueEncoder`."""

    name: str
    steps: int
    series: bool


class FrameCode(TypedDict):
    """Of a card: the arguments of a `FrameEncoder`; `raster` are those of a `spyx.data.Raster`."""

    raster: RasterOptions
    sensor_size: list[int]


class Score(TypedDict):
    """Of a card: the share of the test part that was predicted right, in [0, 1], and its size."""

    test_accuracy: float
    test_samples: int


class Weights(TypedDict):
    """Of a card: the file with the weights."""

    sha256: str
    bytes: int


class Card(TypedDict):
    """What is known of a network. A card may have more entries than these, which all have.

    Args:
        name: of the network.
        data: that it was trained on.
        encoder: from samples of the data to its input.
        labels: the name of every class.
        settings: of the training, as `spyx train --config` takes them.
        score: on the test part.
        cost: of one sample, under the names of NeuroBench.
        weights: the file.
    """

    name: str
    data: Source
    encoder: ValueCode | FrameCode
    labels: list[str]
    settings: str
    score: Score
    cost: dict[str, JSON]
    weights: Weights


@dataclass(frozen=True)
class Trained:
    """A trained network and what is needed to use it.

    Args:
        name: of the network.
        model: the network, in evaluation mode, delays rounded.
        encoder: from samples of the data to input (batch, time, features).
        labels: the name of every class.
        card: data, licence, settings, seeds, scores, energy and intended use.

    Example:
        >>> trained = load("digits-lif")
        >>> trained.labels[3]
        '3'
    """

    name: str
    model: nnx.Module
    encoder: ValueEncoder | FrameEncoder
    labels: tuple[str, ...]
    card: Card


def names() -> list[str]:
    """The networks that ship with spyx, by name.

    Example:
        >>> "digits-lif" in names()
        True
    """
    return sorted(path.stem for path in SHELF.glob("*.json"))


def card(name: str) -> Card:
    """What is known of a network, without loading it.

    Args:
        name: one of `names()`.

    Raises:
        ValueError: an unknown name; a card that is damaged.

    Example:
        >>> card("digits-lif")["data"]["name"]
        'digits'
    """
    if name not in names():
        near = difflib.get_close_matches(str(name), names(), 1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ValueError(f"spyx.zoo: expected one of {', '.join(names())}; got {name!r}.{hint}")
    path = SHELF / f"{name}.json"
    try:
        found = json.loads(path.read_bytes())
        lost = [entry for entry in ENTRIES if entry not in found]
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"spyx.zoo: expected a card in {path}; got no JSON object. Install spyx again.") from error
    if lost:
        raise ValueError(f"spyx.zoo: expected {lost[0]!r} in the card {path}; got none. Install spyx again.")
    return found


def load(name: str) -> Trained:
    """A trained network, with its encoder and its labels.

    The prediction of a network is the class whose output, summed over time, is largest; where the card says that every
    step has a label, it is the largest output of each step.

    Args:
        name: one of `names()`.

    Raises:
        ValueError: an unknown name; weights that are not those of the card.

    Example:
        >>> from spyx import nn
        >>> trained = load("digits-lif")
        >>> digits = data.load("digits").test
        >>> out, _ = nn.run(trained.model, trained.encoder(digits.x[:100]))
        >>> bool((out.sum(axis=1).argmax(axis=-1) == digits.y[:100]).mean() > 0.9)
        True
    """
    found = card(name)
    path = SHELF / f"{name}.safetensors"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != found["weights"]["sha256"]:
        raise ValueError(
            f"spyx.zoo.load({name!r}): expected weights of SHA-256 {found['weights']['sha256'][:12]}...; got "
            f"{digest[:12]}.... Install spyx again."
        )
    model = saving.load(path)
    model.eval()
    return Trained(name, model, _encoder(found["encoder"]), tuple(found["labels"]), found)


def _encoder(told: ValueCode | FrameCode) -> ValueEncoder | FrameEncoder:
    if "raster" in told:
        return FrameEncoder(data.Raster(**told["raster"]), tuple(told["sensor_size"]))
    return ValueEncoder(told["name"], told["steps"], told["series"])
