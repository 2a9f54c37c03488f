"""Braille letters read by the twelve touch sensors of a sliding robot finger."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spyx.data._decode.numpy_file import arrays
from spyx.data._decode.source import Source
from spyx.data._split import Dataset, Split, stratified

CITATION = (
    "S. F. Mueller-Cleve, V. Fra, L. Khacef, A. Pequeno-Zurro, D. Klepatsch, E. Forno, D. G. Ivanovich, S. Rastogi, "
    "G. Urgese, F. Zenke and C. Bartolozzi (2022). Braille letter reading. Frontiers in Neuroscience 16:951164. "
    "doi:10.3389/fnins.2022.951164"
)


def load(*, root: str | Path, split_seed: int = 0) -> Dataset:
    """Loads `braille.npz`: 1,350 readings, 50 of each of 26 letters and the space.

    Args:
        root: the file, or the folder that holds it.
        split_seed: which stratified 70 / 10 / 20 % split to make. Default 0.

    Returns:
        Splits with `x` of shape (samples, 76, 12), float32 in [0, 1] (turn it into spikes with an encoder), and `y`
        int32 in 0..26: A to Z, then the space.

    Raises:
        ValueError: if the file is missing or of another layout.
    """
    path = Path(root) / "braille.npz" if Path(root).is_dir() else Path(root)
    if not path.is_file():
        raise ValueError(f"braille: expected the file {path}; got no such file. Check root=.")
    source = Source(str(path), np.fromfile(path, np.uint8))
    found = arrays(source, ("x", "y"))
    if len(found) < 2 or found["y"].ndim != 1:
        raise source.error(0, "arrays x and y", f"{sorted(found)}")
    values, letters = found["x"], found["y"]
    names = sorted(set(letters.tolist()), key=lambda name: (len(str(name)) > 1, name))
    if values.ndim != 3 or values.dtype != np.uint8 or len(letters) != len(values) or len(names) < 2:
        raise ValueError(
            f"braille: expected x of shape (samples, time, sensors), uint8, and letters y; got {values.dtype} "
            f"{values.shape} and {len(letters)} letters in {path}."
        )
    whole = Split((values / 255).astype(np.float32), np.array([names.index(n) for n in letters.tolist()], np.int32))
    test, validation, train = stratified(whole.y, [0.2, 0.1], split_seed)
    return Dataset(
        name="braille",
        train=whole.take(train),
        validation=whole.take(validation),
        test=whole.take(test),
        num_classes=len(names),
        citation=CITATION,
        licence="CC BY 4.0",
        split_note=f"stratified at random with seed {split_seed}: 70 % train, 10 % validation, 20 % test",
        sensor_size=(values.shape[2],),
    )
