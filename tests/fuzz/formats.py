"""Every format that is read: a sound file, how it is read, and whether a checksum covers all that is read from it."""

from __future__ import annotations

import hashlib
import io
import tarfile
import wave
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from data import event_files
from fuzz.format import Format
from fuzz.runs import runs_and_models
from spyx.cli.config import read as read_settings
from spyx.cli.errors import UserError
from spyx.data import extract, read_events
from spyx.data._archive_or_folder import Store
from spyx.data._cache import Packed, write_packed
from spyx.data._decode.wav import read_sound

COUNT = 60


def formats() -> dict[str, Format]:
    """All formats whose packages are installed, by name."""
    found = [*_events(), *_archives(), *_others(), *runs_and_models(), *_hdf5()]
    return {one.name: one for one in found}


def digest(value: Any) -> str:
    """The same for the same contents, to the last bit."""
    whole = hashlib.sha256()

    def feed(one: Any) -> None:
        if isinstance(one, dict):
            for name in sorted(one, key=str):
                whole.update(f"{name!s}:".encode("utf8", "replace"))
                feed(one[name])
        elif isinstance(one, (list, tuple)):
            whole.update(f"{len(one)}[".encode())
            for part in one:
                feed(part)
        elif isinstance(one, np.ndarray):
            whole.update(f"{one.dtype}{one.shape}".encode() + np.ascontiguousarray(one).tobytes())
        else:
            whole.update(repr(one).encode("utf8", "replace"))

    feed(value)
    return whole.hexdigest()


def _as_arrays(events: Any) -> Any:
    return [events.t, *(getattr(events, name) for name in events.addresses), events.sensor_size]


def _events() -> list[Format]:
    def made(write: Callable[..., bytes], **options: Any) -> Callable[[Path], Any]:
        return lambda path: path.write_bytes(write(event_files.columns(COUNT), **options))

    def read(format: str) -> Callable[[Path], Any]:
        return lambda path: _as_arrays(read_events(path, format))

    suffix = event_files.SUFFIX
    plain = [name for name in event_files.WRITERS if name not in ("hdf5", "npz")]
    found = [
        Format(
            name,
            f"a.{suffix.get(name, name)}",
            made(event_files.WRITERS[name]),
            read(name.rstrip("23") if name[:3] == "evt" else name),
        )  # noqa: E501
        for name in plain
    ]
    found.append(Format("npz", "a.npz", made(event_files.npz), read("npz"), checksum=True))
    try:
        import lz4.frame
        import zstandard
    except ImportError:
        return found
    pack = {"lz4": (1, lz4.frame.compress), "zstd": (3, zstandard.ZstdCompressor(write_checksum=True).compress)}
    for name, (number, squeeze) in pack.items():
        options = dict(pack=squeeze, compression=number)
        found.append(Format(f"aedat4 {name}", "a.aedat4", made(event_files.aedat4, **options), read("aedat4")))
    return found


FILES = {f"folder/{k}.bin": bytes(range(k, 200)) * (k + 1) for k in range(6)}


def _archives() -> list[Format]:
    def tar(mode: str) -> Callable[[Path], Any]:
        def make(path: Path) -> None:
            with tarfile.open(path, mode) as archive:
                for name, content in FILES.items():
                    info = tarfile.TarInfo(name)
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))

        return make

    def zipped(path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in FILES.items():
                archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)

    def unpacked(path: Path) -> Any:
        target = path.parent / "out"
        files = extract(path, target)
        found = {file.relative_to(target).as_posix(): file.read_bytes() for file in files}
        for file in files:
            file.unlink()
        return found

    def stored(path: Path) -> Any:
        store = Store(path)
        return {name: store.read(name) for name in store.names()}

    packed = [
        Format(f"tar.{kind}", f"a.tar.{kind}", tar(f"w:{kind}"), unpacked, checksum=True)
        for kind in ("gz", "bz2", "xz")
    ]  # noqa: E501
    return [
        Format("tar", "a.tar", tar("w:"), unpacked),
        *packed,
        Format("zip", "a.zip", zipped, unpacked, checksum=True),
        Format("zip read in place", "a.zip", zipped, stored, checksum=True),
    ]


def _others() -> list[Format]:
    def sound(path: Path) -> None:
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(8000)
            file.writeframes(np.arange(200, dtype="<i2").tobytes())

    def cache(path: Path) -> None:
        rng = np.random.default_rng(0)
        write_packed(path, (rng.integers(0, 2, (4, 10), np.uint8) for _ in range(9)))

    def settings(text: str) -> Callable[[Path], Any]:
        return lambda path: path.write_text(text)

    toml = 'neuron = "ALIF"\nhidden = [32, 16]\nbatch-size = 8\nlearning_rate = 0.01\n[raster]\nbin_ms = 1.5\n'
    yaml = "neuron: ALIF\nhidden: [32, 16]\nbatch-size: 8\nlearning_rate: 0.01\nraster:\n  bin_ms: 1.5\n"
    return [
        Format("wav", "a.wav", sound, lambda path: read_sound(path.read_bytes(), str(path), 8000)),
        Format("cache", "a.spyx", cache, lambda path: np.asarray(Packed(path)), checksum=True),
        Format("settings in TOML", "a.toml", settings(toml), read_settings),
        Format("settings in YAML", "a.yaml", settings(yaml), read_settings),
    ]


def _hdf5() -> list[Format]:
    try:
        import h5py
        from scipy.io import savemat

        import nir
    except ImportError:
        return []
    from reference.nir_mutations import networks
    from spyx.data.sets.heidelberg import read_split
    from spyx.data.sets.qtdb_ecg import _read as read_ecg
    from spyx.nir import read as read_nir
    from spyx.nir import write as write_nir

    def spikes(path: Path) -> None:
        rng = np.random.default_rng(0)
        with h5py.File(path, "w") as file:
            for name, kind in (("times", np.float16), ("units", np.uint16)):
                data = file.create_dataset(f"spikes/{name}", (5,), h5py.vlen_dtype(kind))
                for k in range(5):
                    data[k] = np.sort(rng.integers(0, 1 if name == "times" else 700, 20)).astype(kind)
            file["labels"] = np.arange(5, dtype=np.uint16)
            file["extra/speaker"] = np.arange(5, dtype=np.uint16)

    def recordings(path: Path) -> Any:
        split, speaker = read_split(path, 20, "shd")
        return [split.y, speaker, [_as_arrays(events) for events in split.x]]

    def matlab(path: Path) -> None:
        y = np.eye(6, dtype=np.uint8)[np.arange(14).reshape(2, 7) % 6]
        savemat(path, {"x": np.ones((2, 7, 4), np.int8), "y": y}, do_compression=True)

    def ecg(path: Path) -> Any:
        split = read_ecg(path)
        return [split.x, split.y]

    graph = networks()[1]
    camera = event_files.hdf5(event_files.columns(COUNT))
    return [
        Format(
            "hdf5 events", "a.h5", lambda path: path.write_bytes(camera), lambda p: _as_arrays(read_events(p, "hdf5"))
        ),
        Format("hdf5 spikes", "a.h5", spikes, recordings),
        Format("mat", "a.mat", matlab, ecg),
        Format("nir of spyx", "a.nir", lambda p: write_nir(p, graph), lambda p: read_nir(p).to_dict(), checksum=True),
        Format("nir of others", "a.nir", lambda p: nir.write(str(p), graph), lambda p: read_nir(p).to_dict()),
    ]


REFUSALS = (ValueError, UserError)
"""What reading a damaged file may raise; anything else is a fault of the reader."""
