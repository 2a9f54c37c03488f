"""Free Spoken Digit Dataset, heard through a cochlea: English digits as spike trains."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from spyx.data._archive_or_folder import Store
from spyx.data._cochlea import Cochlea
from spyx.data._decode.wav import read_sound
from spyx.data._events import Events
from spyx.data._recordings import Recordings
from spyx.data._split import Dataset, Split

CITATION = "Z. Jackson et al. Free Spoken Digit Dataset (FSDD). doi:10.5281/zenodo.1342401"
NAME = re.compile(r"(?:.*/)?(\d)_([a-z]+)_(\d+)\.wav")
TEST_TAKES, VALIDATION_TAKES = range(5), range(5, 10)


def load(
    *,
    root: str | Path,
    held_out_speaker: str | None = None,
    validation_speaker: str | None = None,
    cochlea: Cochlea | None = None,
) -> Dataset:
    """Loads `recordings/<digit>_<speaker>_<take>.wav` and turns each into spikes when it is asked for.

    Args:
        root: the folder of the data set, or a zip archive of it.
        held_out_speaker: None tests on takes 0 to 4 of every speaker, as the publishers do, and validates on takes 5
            to 9. A name tests on that speaker alone, whom training and validation never hear. Default None.
        validation_speaker: with `held_out_speaker`, another one, who alone is the validation part and whom training
            never hears: choices are then made on a stranger too. Default None: takes 5 to 9 of all who are trained on.
        cochlea: how sound becomes spikes. Default: `Cochlea()`, 64 channels.

    Returns:
        Splits whose `x` are `Recordings` of spiking units and `y` int32 in 0..9.

    Raises:
        ValueError: if `root` holds no recordings, nobody has that name, or the two speakers are one.
    """
    store, cochlea = Store(root), cochlea or Cochlea()
    found = [(name, match) for name in store.names(suffix=".wav") if (match := NAME.fullmatch(name))]
    speakers = sorted({match[2] for _, match in found})
    if not found or (held_out_speaker is not None and held_out_speaker not in speakers):
        raise ValueError(
            f"spoken_digits: expected files <digit>_<speaker>_<take>.wav in {store.root} and a speaker of them; "
            f"got {len(found)} files by {speakers} and held_out_speaker={held_out_speaker!r}."
        )
    others = [name for name in speakers if name != held_out_speaker]
    if validation_speaker is not None and (held_out_speaker is None or validation_speaker not in others):
        raise ValueError(
            f"spoken_digits: expected validation_speaker= with held_out_speaker=, and another of {others}; got "
            f"{validation_speaker!r} with {held_out_speaker!r}. Name two speakers, or leave it out."
        )
    names = [name for name, _ in found]

    def read(name: str) -> Events:
        return cochlea(read_sound(store.read(name), store.label(name), cochlea.sample_rate_hz))

    size = (cochlea.num_channels,)
    recordings = Recordings(names, read, stamp=f"{cochlea!r} {store.stamp(names)}", sensor_size=size)
    whole = Split(recordings, np.array([int(match[1]) for _, match in found], np.int32))
    take = np.array([int(match[3]) for _, match in found])
    if held_out_speaker is None:
        is_test = np.isin(take, TEST_TAKES)
        note = "test is takes 0-4 of each speaker, as published; validation is takes 5-9"
    else:
        is_test = np.array([match[2] == held_out_speaker for _, match in found])
        note = f"test is all of {held_out_speaker}; validation is "
        note += f"all of {validation_speaker}" if validation_speaker else "takes 5-9 of the other speakers"
    is_validation = ~is_test & np.isin(take, VALIDATION_TAKES)
    if validation_speaker is not None:
        is_validation = np.array([match[2] == validation_speaker for _, match in found])
    return Dataset(
        name="spoken_digits",
        train=whole.take(np.flatnonzero(~is_test & ~is_validation)),
        validation=whole.take(np.flatnonzero(is_validation)),
        test=whole.take(np.flatnonzero(is_test)),
        num_classes=10,
        citation=CITATION,
        licence="CC BY-SA 4.0",
        split_note=note,
        sensor_size=size,
    )
