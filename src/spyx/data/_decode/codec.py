"""Unpacking of compressed packets to their end, checksum included, with a limit on what one may grow to."""

from __future__ import annotations

from collections.abc import Callable

from spyx.data._decode.flatbuffer import Damaged

LOWEST, HIGHEST = 0, 4
NONE, LZ4 = (0,), (1, 2)
LARGEST_PACKET = 1 << 28
FED_AT_ONCE = 256
"""Bytes of a Zstandard frame that are unpacked at once; three bytes can stand for 128 KiB."""


def unpacker(compression: int) -> Callable[[bytes, int], bytes]:
    """Returns the function that unpacks a packet to at most so many bytes; it raises `Damaged`."""
    if compression in NONE:
        return lambda packet, most: packet
    try:
        return _lz4() if compression in LZ4 else _zstandard()
    except ImportError as missing:
        raise ImportError(
            f"read_events: expected the package {missing.name}, which unpacks this AEDAT4 file; got no such package. "
            "Run pip install 'spyx-jax[data]'."
        ) from missing


def _lz4() -> Callable[[bytes, int], bytes]:
    import lz4.frame

    def unpack(packet: bytes, most: int) -> bytes:
        stream = lz4.frame.LZ4FrameDecompressor()
        most = max(min(most, LARGEST_PACKET, 255 * len(packet) + 64), 1)  # one byte stands for at most 255
        try:
            whole = stream.decompress(packet, max_length=most)
        except (RuntimeError, EOFError, MemoryError, ValueError) as fault:
            raise Damaged(str(fault) or type(fault).__name__) from None
        if not stream.eof:
            raise Damaged(f"a packet that is cut, or larger than {most} bytes")
        return whole

    return unpack


def _zstandard() -> Callable[[bytes, int], bytes]:
    import zstandard

    def unpack(packet: bytes, most: int) -> bytes:
        most = min(most, LARGEST_PACKET)
        parts: list[bytes] = []
        total = at = 0
        try:
            stream = zstandard.ZstdDecompressor(max_window_size=LARGEST_PACKET).decompressobj()
            while at < len(packet) and not stream.eof:
                parts.append(stream.decompress(packet[at : at + FED_AT_ONCE]))
                at += FED_AT_ONCE
                total += len(parts[-1])
                if total > most:
                    raise Damaged(f"a packet of more than {most} bytes")
        except (zstandard.ZstdError, MemoryError, ValueError) as fault:
            raise Damaged(str(fault) or type(fault).__name__) from None
        if not stream.eof or stream.unused_data or at < len(packet):
            raise Damaged("a packet that does not end where it should")
        return b"".join(parts)

    return unpack
