#!/usr/bin/env python
"""Run an exported detector on images: python run_onnx.py MODEL.onnx IMAGE ... [--threshold 0.5] [--output FOLDER]

Needs numpy, opencv-python and onnxruntime, and MODEL.onnx.json beside the model. Writes the images with outlines and
labels drawn in, and prints one JSON line for each detection.
"""

import argparse
import hashlib
import json
import os
from pathlib import Path

import cv2
import numpy as np
import onnxruntime

COLORS = [(60, 20, 220), (0, 140, 0), (200, 60, 0), (180, 0, 180), (0, 90, 200), (120, 120, 0)]  # BGR
FACTS = {"class_names": list, "input_format": str, "padding": list, "dynamic": bool} | dict.fromkeys(
    ("short_edge", "max_size", "height", "width"), int
)


def load(model_file):
    """The session and the facts of a model."""
    onnxruntime.set_default_logger_severity(3)  # it warns of shapes that are known only when it runs
    try:
        facts = json.loads(Path(f"{model_file}.json").read_text(encoding="utf-8"))
        if facts.get("reader"):  # 16 bits, other channels, several files an image
            raise SystemExit("the model takes no files of 8-bit colours: use tools/predict.py, which reads others")
        wrong = [name for name, kind in FACTS.items() if not isinstance(facts.get(name), kind)]
        if wrong:
            raise ValueError(f"{model_file}.json tells of no {', '.join(wrong)}")
        own = hashlib.sha256(Path(model_file).read_bytes()).hexdigest()
        if facts.get("model_sha256", own) != own:
            raise ValueError(f"{model_file}.json is of another export: copy both files of one")
        return onnxruntime.InferenceSession(model_file, providers=onnxruntime.get_available_providers()), facts
    except Exception as error:  # onnxruntime has several of its own
        raise SystemExit(f"can't load {model_file}: {error}") from None


def read(file):
    """A BGR image (h, w, 3); OpenCV itself opens no file whose name is not UTF-8."""
    content = np.fromfile(file, np.uint8) if os.path.isfile(file) else np.empty(0, np.uint8)
    image = cv2.imdecode(content, cv2.IMREAD_COLOR) if content.size else None
    if image is None:
        raise SystemExit("can't read " + file.encode("utf-8", "backslashreplace").decode())
    return image


def prepare(image, facts):
    """From a BGR image (h, w, 3) to the network's input (3, H, W) and its scale (x, y)."""
    height, width = image.shape[:2]
    if facts["dynamic"]:
        scale = min(facts["short_edge"] / min(height, width), facts["max_size"] / max(height, width))
    else:
        scale = min(facts["height"] / height, facts["width"] / width)
    new_width, new_height = max(int(width * scale + 0.5), 1), max(int(height * scale + 0.5), 1)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR  # smooth where it shrinks, as in training
    resized = cv2.resize(image, (new_width, new_height), interpolation=how)
    if facts["input_format"] == "RGB":
        resized = resized[:, :, ::-1]
    # what is left of a fixed size is filled up with the mean image
    size = (new_height, new_width) if facts["dynamic"] else (facts["height"], facts["width"])
    filled = np.full((*size, 3), facts["padding"], np.float32)
    filled[:new_height, :new_width] = resized
    return np.ascontiguousarray(filled.transpose(2, 0, 1)), (new_width / width, new_height / height)


def paste(mask, box, height, width):
    """A mask (M, M) of probabilities in its box as an image (height, width) of 0 and 1."""
    pasted = np.zeros((height, width), np.uint8)
    left, top = np.clip(np.floor(box[:2]), 0, (width, height)).astype(int)
    right, bottom = np.clip(np.ceil(box[2:]), 0, (width, height)).astype(int)
    if left < right and top < bottom:
        x = (np.arange(left, right) + 0.5 - box[0]) / (box[2] - box[0]) * mask.shape[1] - 0.5
        y = (np.arange(top, bottom) + 0.5 - box[1]) / (box[3] - box[1]) * mask.shape[0] - 0.5
        x, y = np.meshgrid(x.astype(np.float32), y.astype(np.float32))
        pasted[top:bottom, left:right] = cv2.remap(mask, x, y, cv2.INTER_LINEAR, borderValue=0) >= 0.5
    return pasted


def detect(session, facts, image, threshold):
    """Detections of a BGR image: dicts of class, score, box (xyxy in its pixels), and mask if the model has any."""
    height, width = image.shape[:2]
    tensor, (scale_x, scale_y) = prepare(image, facts)
    feed = {"picture": tensor}
    if facts.get("batched"):  # several images at once, filled up to one size: here it is one
        feed = {"images": tensor[None], "sizes": np.array([tensor.shape[1:]], np.int64)}
    names = [output.name for output in session.get_outputs()]
    outputs = dict(zip(names, session.run(None, feed), strict=True))
    boxes, scores, classes, masks = (outputs.get(name) for name in ("boxes", "scores", "classes", "masks"))
    boxes = (boxes / (scale_x, scale_y, scale_x, scale_y)).clip(0, (width, height, width, height))
    for index in np.flatnonzero(scores >= threshold):
        number, names = int(classes[index]), facts["class_names"]
        name = names[number] if number < len(names) else str(number)
        found = {"class": name, "class_index": number, "score": float(scores[index]), "box": boxes[index].tolist()}
        yield found | {"mask": paste(masks[index], boxes[index], height, width)} if masks is not None else found


def draw(image, found):
    """Outline and label of a detection, into the image."""
    color = COLORS[found["class_index"] % len(COLORS)]
    left, top, right, bottom = map(int, found["box"])
    if "mask" in found:
        outlines, _ = cv2.findContours(found["mask"], cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(image, outlines, -1, color, 2)
    else:
        cv2.rectangle(image, (left, top), (right, bottom), color, 2)
    # OpenCV ends the process at bytes of a name that are not UTF-8
    label = f"{found['class']} {found['score']:.2f}".encode("utf-8", "backslashreplace").decode()
    cv2.putText(image, label, (left, max(top - 4, 12)), cv2.FONT_HERSHEY_SIMPLEX, 0.5, color, 1, cv2.LINE_AA)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=os.path.expanduser)
    parser.add_argument("images", nargs="+", type=os.path.expanduser)
    parser.add_argument("--threshold", type=float, default=0.5)
    parser.add_argument("--output", type=os.path.expanduser, default="detections")
    arguments = parser.parse_args()
    if not 0 <= arguments.threshold <= 1:
        parser.error(f"--threshold is a score, from 0 to 1: {arguments.threshold}")
    session, facts = load(arguments.model)
    os.makedirs(arguments.output, exist_ok=True)
    for file in arguments.images:
        image = read(file)
        for found in list(detect(session, facts, image, arguments.threshold)):
            draw(image, found)
            print(json.dumps({"picture": file} | {key: value for key, value in found.items() if key != "mask"}))
        cv2.imencode(".png", image)[1].tofile(os.path.join(arguments.output, f"{Path(file).stem}.png"))
