"""Label Studio's run lengths of brush masks: the RGBA bytes of the image as runs and single values in a stream of bits.

The stream starts with the number of bytes (32 bits), the bits of a value less 1 (5) and the four sizes of lengths less
1 (4 each). Each packet is 1 bit (run or values), 2 bits (which size), the length less 1, and one or all values.
"""

from collections.abc import Sequence

import numpy as np

_SIZES = (3, 4, 8, 16)
_CHANNELS = 4


def encode_brush(bitmap: np.ndarray) -> list[int]:
    """The stream of a mask (height, width) of 0 and 1, as bytes."""
    values = np.repeat(bitmap.ravel() > 0, _CHANNELS)
    ends = np.flatnonzero(np.diff(values)) + 1
    starts = np.concatenate([[0], ends])
    lengths = np.diff([*starts, values.size])
    packets = [f"{values.size:032b}", "00111", *(f"{size - 1:04b}" for size in _SIZES)]
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        value = "11111111" if values[start] else "00000000"
        for at in range(0, length, 2 ** _SIZES[-1]):
            part = min(length - at, 2 ** _SIZES[-1])
            which = next(which for which, size in enumerate(_SIZES) if part <= 2**size)
            packets.append(f"1{which:02b}{part - 1:0{_SIZES[which]}b}{value}")
    bits = "".join(packets)
    bits += "0" * (-len(bits) % 8)
    return [int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)]


def decode_brush(stream: Sequence[int], height: int, width: int) -> np.ndarray:
    """The mask (height, width) of booleans.

    Raises:
        ValueError: it is none of an image of this size.
    """
    reader = _Bits(stream)
    total, word = reader.take(32), reader.take(5) + 1
    sizes = [reader.take(4) + 1 for _ in range(4)]
    if total != height * width * _CHANNELS:
        raise ValueError(f"a brush mask of {total // _CHANNELS} pixels for {width}x{height}")
    mask = np.zeros(height * width, bool)  # of the last channel: all four of a large image would take gigabytes
    at = 0
    while at < total:
        is_run, length = reader.take(1), reader.take(sizes[reader.take(2)]) + 1
        end = min(at + length, total)
        if is_run:
            mask[at // _CHANNELS : end // _CHANNELS] = reader.take(word) > 0
        else:
            values = [reader.take(word) > 0 for _ in range(length)][: end - at]
            mask[at // _CHANNELS : end // _CHANNELS] = values[(_CHANNELS - 1 - at) % _CHANNELS :: _CHANNELS]
        at = end
    return mask.reshape(height, width)


class _Bits:
    def __init__(self, stream: Sequence[int]):
        self.data = bytes(stream)  # a ValueError where one is no byte
        self.at = 0

    def take(self, count: int) -> int:
        end = self.at + count
        if end > 8 * len(self.data):
            raise ValueError("a brush mask that is cut off")
        first, last = self.at // 8, -(-end // 8)
        self.at = end
        chunk = int.from_bytes(self.data[first:last], "big") >> (8 * last - end)
        return chunk & ((1 << count) - 1)
