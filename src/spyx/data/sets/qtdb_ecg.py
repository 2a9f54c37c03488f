"""QTDB electrocardiograms as spikes: which of six waves is it, at every step?"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spyx.data import _guarded
from spyx.data._disk import size_of
from spyx.data._split import Dataset, Split

CITATION = (
    "P. Laguna, R. G. Mark, A. Goldberg and G. B. Moody (1997). A database for evaluation of algorithms for "
    "measurement of QT and other waveform intervals in the ECG. Computers in Cardiology 24. "
    "doi:10.1109/CIC.1997.648140. Spikes: B. Yin, F. Corradi and S. M. Bohte (2021). Accurate and efficient "
    "time-domain classification with adaptive spiking recurrent neural networks. doi:10.1038/s42256-021-00397-w"
)
NUM_CLASSES = 6


def load(*, root: str | Path, validation: float = 0.1, unlabelled: int = 0) -> Dataset:
    """Loads `QTDB_train.mat` and `QTDB_test.mat`: level crossings of two ECG leads, up and down.

    Args:
        root: the folder with the two files.
        validation: share of the training segments held out, in (0, 1). Default 0.1. They are the last ones in the
            file, in one block, because segments that follow one another may come from one heart.
        unlabelled: the label of the 8 to 10 % of the steps that the files leave without a mark. Default 0: in the
            publishers' results they count as class 0. With -1 a loss or a metric can leave them out, `ignore=-1`.

    Returns:
        Splits with `x` of shape (samples, 1301, 4), float32 in {-1, 0, 1}, and `y` of shape (samples, 1301), int32 in
        0..5, or `unlabelled`: one label for each step.

    Raises:
        ValueError: if files are missing, damaged or of another layout.
    """
    whole, test = (_read(Path(root) / f"QTDB_{part}.mat", unlabelled) for part in ("train", "test"))
    training = len(whole) - round(validation * len(whole))
    if not 0 < training < len(whole):
        raise ValueError(f"qtdb_ecg: expected validation in (0, 1) that leaves both parts; got {validation}.")
    return Dataset(
        name="qtdb_ecg",
        train=whole.take(range(training)),
        validation=whole.take(range(training, len(whole))),
        test=test,
        num_classes=NUM_CLASSES,
        citation=CITATION,
        licence="ODC-By 1.0 (PhysioNet); spike files MIT",
        split_note=f"test as published; the last {len(whole) - training} training segments held out in one block",
        sensor_size=(4,),
    )


def _read(path: Path, unlabelled: int = 0) -> Split:
    try:
        content = _guarded.matrices(str(path), ["x", "y"], _guarded.limits_for(size_of(path, "qtdb_ecg")))
    except (OSError, _guarded.Damaged, _guarded.Refused) as fault:
        raise ValueError(f"qtdb_ecg: expected the MATLAB file {path}; got {fault}. Check root=.") from None
    x, y = content.get("x"), content.get("y")
    if x is None or y is None or x.ndim != 3 or y.shape != (*x.shape[:2], NUM_CLASSES) or (y.sum(-1) > 1).any():
        raise ValueError(
            f"qtdb_ecg: expected x of shape (samples, time, 4) and y one-hot in {NUM_CLASSES} classes; "
            f"got {None if x is None else x.shape} and {None if y is None else y.shape} in {path}."
        )
    labels = np.where(y.sum(-1) > 0, y.argmax(-1), unlabelled)
    return Split(x.astype(np.float32), labels.astype(np.int32))
