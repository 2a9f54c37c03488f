"""Handwritten digits, 8 by 8 grey values, embedded in scikit-learn: real data that needs no download."""

from __future__ import annotations

import numpy as np

from spyx.data._split import Dataset, Split, stratified

CITATION = (
    "E. Alpaydin and C. Kaynak (1998). Optical Recognition of Handwritten Digits. "
    "UCI Machine Learning Repository. doi:10.24432/C50P49"
)


def load(*, split_seed: int = 0) -> Dataset:
    """Loads the 1,797 digits that ship with scikit-learn.

    Args:
        split_seed: which stratified 70 / 10 / 20 % split to make. Default 0.

    Returns:
        Splits with `x` of shape (samples, 64), float32 in [0, 1], and `y` of shape (samples,), int32 in 0..9.

    Raises:
        ImportError: if scikit-learn is not installed.

    Example:
        >>> digits = load(split_seed=0)
        >>> digits.train.x.shape, digits.test.y.dtype.name
        ((1258, 64), 'int32')
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as missing:
        raise ImportError(
            "digits: expected scikit-learn, which the data ship in; got no such package. "
            "Run pip install 'spyx-jax[cli]'."
        ) from missing
    grey, labels = load_digits(return_X_y=True)
    x = (np.asarray(grey) / 16).astype(np.float32)
    y = np.asarray(labels, dtype=np.int32)
    whole = Split(x, y)
    test, validation, train = stratified(y, [0.2, 0.1], split_seed)
    return Dataset(
        name="digits",
        train=whole.take(train),
        validation=whole.take(validation),
        test=whole.take(test),
        num_classes=10,
        citation=CITATION,
        licence="CC BY 4.0",
        split_note=f"stratified at random with seed {split_seed}: 70 % train, 10 % validation, 20 % test",
    )
