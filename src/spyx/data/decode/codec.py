"""Unpacking of compressed packets, with a limit on what one packet may grow to."""

from __future__ import annotations

from collections.abc import Callable

from spyx.data.decode.flatbuffer import Damaged

LOWEST, HIGHEST = 0, 4
NONE, LZ4 = (0,), (1, 2)
LARGEST_PACKET = 1 << 28


def unpacker(compression: int) -> Callable[[bytes], bytes]:
    """Returns the function that unpacks a packet; it raises `Damaged`."""
    if compression in NONE:
        return lambda packet: packet
    try:
        return _lz4() if compression in LZ4 else _zstandard()
    except ImportError as missing:
        raise ImportError(
            f"read_events: expected the package {missing.name}, which unpacks this AEDAT4 file; got no such package. "
            "Run pip install 'spyx-jax[data]'."
        ) from missing


def _lz4() -> Callable[[bytes], bytes]:
    import lz4.frame

    def unpack(packet: bytes) -> bytes:
        stream = lz4.frame.LZ4FrameDecompressor()
        try:
            whole = stream.decompress(packet, max_length=LARGEST_PACKET)
        except (RuntimeError, EOFError, MemoryError, ValueError) as fault:
            raise Damaged(str(fault) or type(fault).__name__) from None
        if not stream.eof:
            raise Damaged(f"a packet that is cut, or larger than {LARGEST_PACKET} bytes")
        return whole

    return unpack


def _zstandard() -> Callable[[bytes], bytes]:
    import zstandard

    def unpack(packet: bytes) -> bytes:
        try:
            size = zstandard.get_frame_parameters(packet).content_size
            known = size != zstandard.CONTENTSIZE_UNKNOWN
            if known and size > LARGEST_PACKET:
                raise Damaged(f"a packet of {size} bytes, more than {LARGEST_PACKET}")
            reader = zstandard.ZstdDecompressor(max_window_size=LARGEST_PACKET).stream_reader(packet)
            whole = reader.read(size if known else LARGEST_PACKET)
        except (zstandard.ZstdError, MemoryError, ValueError) as fault:
            raise Damaged(str(fault) or type(fault).__name__) from None
        if known and len(whole) != size:
            raise Damaged(f"{len(whole)} bytes of {size}")
        return whole

    return unpack
