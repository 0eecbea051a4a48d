"""The detections of a data set in little memory: arrays and RLE text by image, which travel and are written fast."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from detectron2.utils import comm

from xray_lazy.data.image_detections import ImageDetections
from xray_lazy.data.masks.mask_encoding import EncodedMasks
from xray_lazy.utils.atomic_file import atomic_writer, utf8

# Images of each process that are sent at a time: with 100 masks each, about 50 MB.
IMAGES_AT_ONCE = 1000


class CocoResults(Sequence[dict]):
    """Detections as COCO results, each made when it is asked for: a list of them would take a multiple of the memory.

    Args:
        images: by the data set's image ids, in the order of the results.
        category_ids: the data set's, by class.
    """

    def __init__(self, images: Mapping[int | str, ImageDetections], category_ids: Sequence[int]):
        self._images, self._category_ids = images, category_ids
        self._length = sum(map(len, images.values()))

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[dict]:
        for image_id in self._images:
            yield from self.of_image(image_id)

    def __getitem__(self, index: int) -> dict:
        index = range(self._length)[index]
        for image_id, found in self._images.items():
            if index < len(found):
                return self.of_image(image_id)[index]
            index -= len(found)
        raise IndexError(index)

    def of_image(self, image_id: int | str) -> list[dict]:
        """The results of one image."""
        found = self._images[image_id]
        columns = (found.classes.tolist(), found.xywh.tolist(), found.scores.tolist())
        results = [
            {"image_id": image_id, "category_id": self._category_ids[number], "bbox": box, "score": score}
            for number, box, score in zip(*columns, strict=True)
        ]
        for result, mask in zip(results, found.masks or (), strict=found.masks is not None):
            result["segmentation"] = mask
        return results

    def write(self, path: str | os.PathLike) -> None:
        """Write all as one JSON list, image by image."""
        separator = b"["
        with atomic_writer(path) as stream:
            for image_id, found in self._images.items():
                if len(found):
                    stream.write(separator + utf8(json.dumps(self.of_image(image_id), ensure_ascii=False))[1:-1])
                    separator = b",\n"
            stream.write(b"[]\n" if separator == b"[" else b"]\n")


def gather_detections(images: Mapping[int | str, ImageDetections]) -> dict[int | str, ImageDetections]:
    """The detections of all processes on the main one, an empty dict on the others; all of them must call this.

    They come in portions of some images, packed into a few arrays each. An image that several processes have is
    taken from the first of them.
    """
    if comm.get_world_size() == 1:
        return dict(images)
    ids = list(images)
    portions = max(comm.all_gather(-(-len(ids) // IMAGES_AT_ONCE)))
    gathered: list[dict] = [{} for _ in range(comm.get_world_size())]
    for start in range(0, portions * IMAGES_AT_ONCE, IMAGES_AT_ONCE):
        own = ids[start : start + IMAGES_AT_ONCE]
        for found, portion in zip(gathered, comm.gather(_packed(own, images)), strict=False):
            found.update(_unpacked(*portion))
    return {image_id: found for part in reversed(gathered) for image_id, found in part.items()}


def _packed(image_ids: Sequence[int | str], images: Mapping[int | str, ImageDetections]) -> tuple:
    """Images as a few arrays, which pickle many times as fast as one by one."""
    found = [images[image_id] for image_id in image_ids]
    masks = [one.masks for one in found]
    encoded = [one for one in masks if one is not None]
    return (
        image_ids,
        [len(one) for one in found],
        _joined([one.boxes for one in found], (0, 4), np.float32),
        _joined([one.scores for one in found], (0,), np.float32),
        _joined([one.classes for one in found], (0,), np.int32),
        [None if one is None else (one.size, len(one.counts)) for one in masks],
        b"".join(one.counts for one in encoded),
        _joined([one.ends for one in encoded], (0,), np.uint32),
    )


def _unpacked(
    image_ids: Sequence[int | str],
    lengths: list[int],
    boxes: np.ndarray,
    scores: np.ndarray,
    classes: np.ndarray,
    mask_sizes: list[tuple | None],
    counts: bytes,
    ends: np.ndarray,
) -> Iterator[tuple[int | str, ImageDetections]]:
    row = mask_row = text = 0
    for image_id, length, mask_size in zip(image_ids, lengths, mask_sizes, strict=True):
        rows, masks = slice(row, row + length), None
        row += length
        if mask_size is not None:
            size, text_length = mask_size
            masks = EncodedMasks(size, counts[text : text + text_length], ends[mask_row : mask_row + length])
            mask_row, text = mask_row + length, text + text_length
        yield image_id, ImageDetections(boxes[rows], scores[rows], classes[rows], masks)


def _joined(arrays: list[np.ndarray], empty_shape: tuple[int, ...], dtype: type) -> np.ndarray:
    return np.concatenate(arrays) if arrays else np.zeros(empty_shape, dtype)
