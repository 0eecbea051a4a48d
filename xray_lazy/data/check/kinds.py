"""The kinds of faults: how bad each is, what it is called and how to fix it."""

from typing import NamedTuple

ERROR, WARNING, NOTE = "error", "warning", "note"
SEVERITIES = (ERROR, WARNING, NOTE)


class Kind(NamedTuple):
    """One kind of fault.

    `error`: the set, or the entry in question, can't be trained on. `warning`: it can, but look. `note`: good to know.
    """

    severity: str
    title: str
    fix: str


KINDS: dict[str, Kind] = {
    # the set as a whole
    "no_pictures": Kind(ERROR, "the set has no images", "export it again; the list `images` is empty"),
    "no_instances": Kind(ERROR, "the set has no annotations", "export it again with its annotations"),
    "box_form": Kind(
        ERROR,
        "boxes are not [x, y, width, height] in pixels",
        "write all of them in COCO's form; `repair` changes no box of such a set",
    ),
    "nothing_to_train": Kind(
        ERROR,
        "no annotation can be trained on",
        "correct what else is told of them; crowd regions (`iscrowd` 1, as CVAT writes masks) only count in "
        "evaluation: set `iscrowd` to 0 where each is one item",
    ),
    "no_classes": Kind(ERROR, "the set declares no classes", "list the classes under `categories`"),
    "other_format": Kind(
        ERROR, "annotations are not those of instances", "export the set with boxes and classes: COCO instances"
    ),
    "not_an_entry": Kind(ERROR, "list entry is not an object", "`repair` drops it"),
    "repeated_key": Kind(
        ERROR,
        "an object gives a key several times, with different values",
        "see which one is meant: the last one counts, in training, too; `repair` keeps that",
    ),
    "number_as_text": Kind(ERROR, "number written as text, or whole number as decimal", "`repair` writes numbers"),
    "id_no_number": Kind(
        WARNING,
        "id is a text, a decimal or beyond 2**53",
        "`repair` writes whole numbers, which every tool takes; training here takes it as it is",
    ),
    # classes
    "class_id_no_number": Kind(ERROR, "class id is no whole number from 0 to 2**53", "`repair` numbers it"),
    "class_name_no_text": Kind(WARNING, "class name is a number", "`repair` writes it as text, as training takes it"),
    "class_name_odd": Kind(
        WARNING,
        "class name has spaces around it, or a line break or another control character",
        "the formats of `export` have no place for these: give it another name in `categories`",
    ),
    "class_ids_shifted": Kind(
        ERROR,
        "annotations count the classes from another number than `categories`",
        "give `categories` the ids that the annotations use, in the order of its names",
    ),
    "class_fields": Kind(ERROR, "class without an id or a name", "give it an id and a name"),
    "duplicate_class_id": Kind(
        ERROR, "class id is given twice", "`repair` drops copies; classes of different names need ids of their own"
    ),
    "duplicate_class_name": Kind(WARNING, "class name is given twice", "`repair` makes one class of them"),
    "similar_class_names": Kind(
        WARNING, "class names differ only in case or spaces", "give them the same name, then `repair` joins them"
    ),
    "class_id_gap": Kind(WARNING, "class ids are not 1, 2, ... N (or from 0)", "`repair` numbers them from 1"),
    "class_not_trained": Kind(
        ERROR,
        "class has no instance that can be trained on",
        "annotate some, or remove it from `categories`; crowd regions (`iscrowd` 1) are none",
    ),
    "class_without_instances": Kind(
        WARNING, "class has no instances", "its AP is undefined here: split again, or remove the class"
    ),
    "classes_differ": Kind(
        WARNING, "classes are not those of the first set", "use the same list `categories` in all sets"
    ),
    # images
    "picture_fields": Kind(ERROR, "image without an id or a file name", "give it an id and a file_name"),
    "duplicate_picture_id": Kind(
        ERROR, "image id is given twice", "`repair` drops copies; different images need ids of their own"
    ),
    "duplicate_file_name": Kind(
        WARNING,
        "file is listed twice",
        "`repair` drops entries without annotations, and with --merge-copies joins those of the others",
    ),
    "size_missing": Kind(
        WARNING, "width or height is missing or 0", "`repair` reads it from the file (or --scanner, --size)"
    ),
    "size_differs": Kind(ERROR, "width and height are not the file's", "`repair` takes them from the file"),
    "size_turned": Kind(
        ERROR,
        "width and height are those before the EXIF orientation",
        "`repair` takes the upright size; then look whether the boxes lie right",
    ),
    "size_conflict": Kind(
        ERROR,
        "file has another size than its annotations were made for",
        "put the original image back, or scale (turn) its annotations",
    ),
    "picture_thin": Kind(
        WARNING,
        "image is a strip, which is hardly anything when it is as short as the network's input",
        "look at it, and leave it out if it is no scan",
    ),
    "picture_missing": Kind(
        ERROR, "image file is missing", "copy it into the folder, or `repair --drop-unreadable` leaves it out"
    ),
    "picture_name": Kind(
        ERROR, "file name is not that of the file, which is there", "`repair` takes the name in the folder"
    ),
    "picture_unreadable": Kind(
        ERROR, "image can't be read", "export it again, or `repair --drop-unreadable` leaves it out"
    ),
    "picture_truncated": Kind(
        ERROR, "image file is cut off", "copy it again, or `repair --drop-unreadable` leaves it out"
    ),
    "picture_pages": Kind(
        ERROR,
        "image file has several pages or frames, of which the first alone would be looked at",
        "save each as an image of its own, or `repair --drop-unreadable` leaves it out",
    ),
    "picture_damaged": Kind(
        WARNING,
        "image file is damaged, but can be read: parts may be grey or shifted",
        "look at it, and copy or export it again",
    ),
    "picture_dark": Kind(
        WARNING,
        "image of more than 8 bits that training sees (almost) nothing of",
        "training takes the upper 8 of 16 bits: set dataloader.reader.window to their range, or export 8 bits",
    ),
    "bits_unused": Kind(
        WARNING,
        "the upper bits of the samples are never used",
        "fine where dataloader.reader.window is the range of what is used, as proposed above",
    ),
    "duplicate_picture": Kind(WARNING, "the same image under two names", "keep one of them, with all its annotations"),
    "copy_labelled_otherwise": Kind(
        WARNING,
        "the same image again with other annotations: in training, the items of each are background in the other",
        "`repair --merge-copies` makes one image of them, with the items of all",
    ),
    "near_duplicate": Kind(
        WARNING,
        "the same scan under two names, with other pixels (compressed, resized, brighter, cropped, mirrored)",
        "fine within one set if meant so; `split --group-by duplicates` keeps them together",
    ),
    "picture_in_two_sets": Kind(
        WARNING,
        "image is also in another set (leak)",
        "remove it from one of them, or split again: results on it tell nothing",
    ),
    "near_duplicate_in_two_sets": Kind(
        WARNING,
        "scan is also in another set (leak), with other pixels (compressed, resized, brighter, cropped, mirrored)",
        "remove it from one of them, or split again with `split --group-by duplicates`",
    ),
    "bag_not_named": Kind(
        WARNING,
        "image has no `bag`, or no `view`, where others of the set have",
        "give it both; without a bag it counts as one by itself",
    ),
    "view_missing": Kind(
        WARNING, "bag without a view that others of the set have", "add that image; a bag's alarm is of what is there"
    ),
    "view_twice": Kind(
        WARNING, "view of a bag is given twice", "keep one of the images, or name what they are views of rightly"
    ),
    "bag_in_two_sets": Kind(
        WARNING,
        "another view of the bag is in another set (leak)",
        "split again: images that name their bag stay together",
    ),
    "picture_without_annotations": Kind(
        NOTE, "image without annotations", "fine for harmless bags; else annotate them"
    ),
    "unlisted_picture": Kind(NOTE, "file in the folder is not in the JSON", "fine if meant so; else add it"),
    # instances
    "instance_without_picture": Kind(
        ERROR, "annotation of an image that is not in the list", "add the image, or `repair` drops the annotation"
    ),
    "undeclared_class": Kind(
        ERROR, "annotation of an undeclared class", "declare it in `categories`, or `repair` drops the annotation"
    ),
    "instance_id_missing": Kind(ERROR, "annotation without an id", "`repair` numbers it"),
    "duplicate_instance_id": Kind(ERROR, "annotation id is given twice", "`repair` renumbers the later ones"),
    "instance_id_zero": Kind(
        WARNING, "annotation id is 0, which COCO's evaluation takes for `no match`", "`repair` renumbers it"
    ),
    "duplicate_instance": Kind(
        WARNING, "the same annotation twice (image, class, box and mask)", "`repair` drops the later ones"
    ),
    "iscrowd_value": Kind(WARNING, "iscrowd is missing or not 0 or 1", "`repair` sets it, missing as 0"),
    "crowd": Kind(NOTE, "crowd region", "fine: left out of training, ignored in evaluation"),
    "box_missing": Kind(ERROR, "annotation without a box", "`repair` takes it from the mask, else drops it"),
    "box_malformed": Kind(
        ERROR, "box is not four finite numbers", "`repair` takes it from the mask, else drops the annotation"
    ),
    "box_empty": Kind(
        ERROR, "box without width or height", "`repair` takes it from the mask, else drops the annotation"
    ),
    "box_outside": Kind(
        ERROR, "box lies outside the image", "`repair` takes it from the mask, else drops the annotation"
    ),
    "box_beyond": Kind(WARNING, "box reaches beyond the image", "`repair` clips it"),
    "box_differs": Kind(WARNING, "box is not that of the mask", "`repair` takes it from the mask"),
    "box_mask_conflict": Kind(
        ERROR, "box and mask hardly overlap, one of them is wrong", "look which, correct it or remove it: it is a guess"
    ),
    "box_only": Kind(NOTE, "instance without a mask, as all of this set", "fine for Faster R-CNN"),
    "mask_missing": Kind(
        WARNING, "instance without a mask in a set with masks", "add its mask; training of masks leaves it out"
    ),
    "mask_malformed": Kind(ERROR, "mask is neither polygons nor RLE", "`repair` drops the mask"),
    "polygon_flat": Kind(ERROR, "polygon is not inside a list of polygons", "`repair` wraps it"),
    "polygon_nested": Kind(
        ERROR, "polygon in other lists, points or text than a list of coordinates", "`repair` rewrites it"
    ),
    "polygon_malformed": Kind(ERROR, "polygon with something else than finite numbers", "`repair` drops the part"),
    "polygon_odd": Kind(ERROR, "polygon with an odd number of coordinates", "`repair` drops the part"),
    "polygon_short": Kind(ERROR, "polygon of fewer than 3 points", "`repair` drops the part"),
    "polygon_flattened": Kind(ERROR, "polygon without area (all points on a line)", "`repair` drops the part"),
    "polygon_outside": Kind(ERROR, "polygon lies outside the image", "`repair` drops the part"),
    "polygon_beyond": Kind(WARNING, "polygon reaches beyond the image", "`repair` clips it"),
    "rle_invalid": Kind(ERROR, "RLE can't be decoded", "`repair` drops the mask"),
    "rle_empty": Kind(ERROR, "RLE without a set pixel", "`repair` drops the mask"),
    "rle_size": Kind(ERROR, "RLE of another size than the image", "export the mask again at the image's size"),
    "area_missing": Kind(WARNING, "area is missing or no number", "`repair` computes it"),
    "area_differs": Kind(WARNING, "area disagrees with the mask (or exceeds the box)", "`repair` computes it"),
}
