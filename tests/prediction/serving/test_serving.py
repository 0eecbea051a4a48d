"""The HTTP API on loopback: its answers, its limits, and what must not get in or out."""

import base64
import io
import json
import re
import socket
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import requests
import tifffile
from PIL import Image

from tests.patience import wait_until
from tests.prediction.serving.served import THRESHOLD, serving
from xray_lazy.data.check import check_sets, open_sets
from xray_lazy.data.coco_file import read_coco
from xray_lazy.data.image_files.image_file import read_samples
from xray_lazy.errors import UserError
from xray_lazy.prediction.run_prediction import PredictOptions, run_prediction
from xray_lazy.prediction.serving import http_routes
from xray_lazy.prediction.serving.correction_set import CorrectionSet

# of an image that the test sends under several names
OF_COPIES = ("duplicate_picture", "near_duplicate", "copy_labelled_otherwise")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def server(run_folder, place):
    with serving(run_folder, place, megabytes=1, megapixels=0.01) as address:
        yield address


@pytest.fixture(scope="module")
def expected(run_folder, images, tmp_path_factory):
    """By the file's name, what tools/predict.py finds, without ids."""
    output = tmp_path_factory.mktemp("predicted")
    options = PredictOptions(
        str(run_folder), [str(image) for image in images], str(output), THRESHOLD, device="cpu", overlays=False
    )
    run_prediction(options)
    content = read_coco(output / "annotations.json")
    names = {one["id"]: one["file_name"] for one in content["images"]}
    found = {name: [] for name in names.values()}
    for one in json.loads((output / "predictions.json").read_text()):
        found[names[one.pop("image_id")]].append(one)
    return found


def detect(server, *files, **query):
    """`files` are paths, or pairs of a name and bytes."""
    parts = [("files", (one.name, one.read_bytes()) if isinstance(one, Path) else one) for one in files]
    return requests.post(f"{server}/api/detect", files=parts, params=query, timeout=60)


def found_in(answer):
    return {one["name"]: [{k: v for k, v in d.items() if k != "class"} for d in one["detections"]] for one in answer}


def without_rounding(found):
    """Scores and boxes of equal inputs depend on the batch that they were in by rounding alone."""
    return {
        name: [(one["category_id"], one["bbox"], one["score"], one["segmentation"]["size"]) for one in items]
        for name, items in found.items()
    }


def assert_same(found, expected):
    found, expected = without_rounding(found), without_rounding(expected)
    assert found.keys() == expected.keys()
    for name, items in expected.items():
        assert len(found[name]) == len(items)
        for one, other in zip(found[name], items, strict=True):
            assert one[0] == other[0] and one[3] == other[3]
            assert one[1] == pytest.approx(other[1], abs=0.05) and one[2] == pytest.approx(other[2], abs=1e-4)


def png(width, height, data=b""):
    """A PNG whose header tells of so many pixels."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def tiff(array, **settings):
    stream = io.BytesIO()
    tifffile.imwrite(stream, array, **settings)
    return stream.getvalue()


def test_answers_are_those_of_the_predict_tool(server, images, expected):
    answer = detect(server, *images)
    assert answer.status_code == 200
    content = answer.json()["images"]
    assert [one["name"] for one in content] == [image.name for image in images]
    assert_same(found_in(content), expected)
    assert all(expected.values()), "there is something to compare in each image"
    assert {(one["width"], one["height"]) for one in content} == {(64, 48)}
    assert {item["class"] for one in content for item in one["detections"]} <= {"gun", "knife"}


def test_each_of_many_clients_gets_the_answers_to_its_own_images(server, images, expected):
    def ask(client):
        image = images[client % len(images)]
        name = f"client_{client}.png"
        (one,) = detect(server, (name, image.read_bytes())).json()["images"]
        return one["name"] == name, found_in([one])[name], expected[image.name]

    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(ask, range(96)))
    for is_own, found, of_image in answers:
        assert is_own
        assert_same({"x": found}, {"x": of_image})
    batches = requests.get(f"{server}/metrics", timeout=60).text
    sizes = dict(re.findall(r'xray_batch_scans_bucket\{le="([\d.]+)"\} ([\d.]+)', batches))
    assert float(sizes["4.0"]) > float(sizes["1.0"]), "scans of several clients went through together"


def test_the_picture_is_what_people_see_of_the_scan(server, images):
    (one,) = detect(server, images[0], picture=True).json()["images"]
    kind, _, data = one["picture"].partition(",")
    assert kind == "data:image/jpeg;base64"
    encoded = cv2.imencode(".jpg", cv2.imread(str(images[0])), [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
    assert base64.b64decode(data) == encoded.tobytes()


@pytest.mark.parametrize(
    ("name", "content", "status", "message"),
    [
        ("a.png", b"not an image", 422, "image a.png is not an image"),
        ("a.png", b"", 422, "image a.png is not an image"),
        ("a.txt", b"text", 422, "image a.txt is no image; known are"),
        ("a.png", png(60000, 60000), 413, "has too many pixels"),
        ("a.png", png(9000, 9000), 413, "image a.png is 9000x9000, and 0.01 megapixels are the most"),
        ("a.tif", tiff(np.zeros((60, 90, 90), np.uint16), compression="zlib"), 413, "is 90x90 of 60 channels"),
        ("a.png", png(64, 48, b"cut off"), 422, "image a.png can't be read"),
    ],
    ids=["text", "empty", "suffix", "bomb", "wide", "many_channels", "damaged"],
)
def test_what_is_no_scan_is_refused_with_its_reason(server, name, content, status, message):
    answer = detect(server, (name, content))
    assert answer.status_code == status
    (one,) = answer.json()["images"]
    assert message in one["problem"]
    assert requests.get(f"{server}/health", timeout=60).status_code == 200


def dicom(frames, syntax=None):
    """A file of so many frames of 64x48, whose pixels need not be there."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax or ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    data = FileDataset("x", {}, file_meta=meta, preamble=b"\0" * 128)
    data.Rows, data.Columns, data.NumberOfFrames, data.SamplesPerPixel = 48, 64, frames, 1
    stream = io.BytesIO()
    data.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def test_a_dicom_file_is_no_way_around_the_limits(server):
    answer = detect(server, ("a.dcm", dicom(1000)))
    assert answer.status_code == 413 and "is 64x48 of 1000 channels" in answer.text
    answer = detect(server, ("a.dcm", dicom(1, "1.2.840.10008.1.2.1.99")))
    assert answer.status_code == 422 and "is compressed as a whole" in answer.text


def test_beside_good_scans_a_bad_one_is_told_of(server, images):
    answer = detect(server, images[0], ("broken.png", b"broken"), images[1])
    assert answer.status_code == 200
    assert ["problem" in one for one in answer.json()["images"]] == [False, True, False]


@pytest.mark.parametrize("sent", ["with_length", "in_pieces"])
def test_a_request_that_is_too_large_is_refused(server, sent):
    body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n' + b"x" * 2**21
    data = body if sent == "with_length" else iter([body[:1000], body[1000:]])
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    try:
        answer = requests.post(f"{server}/api/detect", data=data, headers=headers, timeout=60)
    except requests.ConnectionError:  # the server has closed it before all was sent
        pass
    else:
        assert answer.status_code == 413 and "detail" in answer.json()
    counts = requests.get(f"{server}/metrics", timeout=60).text
    assert re.search(r'xray_requests_total\{route="[^"]*",status="413"\}', counts)


@pytest.mark.parametrize("name", ["../../outside.png", "/etc/outside.png", "..\\..\\outside.png", "a/./..//b/c.png"])
def test_names_lead_nowhere_else(server, images, name, place):
    (one,) = detect(server, (name, images[0].read_bytes())).json()["images"]
    assert one["name"] in ("outside.png", "etc/outside.png", "a/b/c.png") and one["detections"]
    assert not list(place.rglob("*outside*"))


def test_messages_do_not_tell_where_the_server_keeps_its_files(server, place):
    cut_off = cv2.imencode(".png", np.zeros((48, 64, 3), np.uint8))[1].tobytes()[:-30]
    for content in (b"broken", png(64, 48, b"x"), cut_off):
        text = detect(server, ("deep/a.png", content)).text
        assert "deep/a.png" in text and str(place) not in text and "uploads" not in text


def test_a_file_is_never_code(server, tmp_path):
    mark = tmp_path / "was_here"

    class Code:
        def __reduce__(self):
            return (Path.touch, (mark,))

    stream = io.BytesIO()
    np.save(stream, np.array([[Code()]]), allow_pickle=True)
    script = f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 50 40\n%%EndComments\n({mark}) (w) file\n%%EOF\n".encode()
    for name, content in (("a.npy", stream.getvalue()), ("a.png", script), ("a.tif", script)):
        assert detect(server, (name, content)).status_code == 422
    assert not mark.exists()
    assert Image.open(io.BytesIO(script)).format == "EPS", "Pillow would hand it to Ghostscript"
    assert "is not an image" in detect(server, ("a.png", script)).text


def test_a_tiff_that_names_a_file_of_the_server_is_not_that_file(server, tmp_path):
    """OME-TIFFs may be sets of files, which tifffile opens by the names that one of them has."""
    secret, name = tmp_path / "secret.tif", tmp_path / "sent.tif"
    scan = np.full((2, 48, 64), 200, np.uint16)
    tifffile.imwrite(secret, scan, ome=True, metadata={"axes": "CYX"}, compression="zlib")
    with tifffile.TiffFile(secret) as file:
        xml = file.ome_metadata
    uuid = re.search(r'UUID="(urn:uuid:[^"]+)"', xml)[1]
    steps = "../" * 20 + str(secret)[1:]
    links = [f'<TiffData FirstC="{c}" IFD="{c}"><UUID FileName="{steps}">{uuid}</UUID></TiffData>' for c in (0, 1)]
    other = re.sub(r"<TiffData[^>]*/>", "".join(links), xml).replace(f'UUID="{uuid}"', f'UUID="{uuid[:-4]}0000"', 1)
    pages = {"description": other, "metadata": None, "contiguous": False}
    tifffile.imwrite(name, np.full((2, 48, 64), 7, np.uint16), **pages, compression="zlib")
    with tifffile.TiffFile(name) as file:
        assert file.is_ome and file.series[0].asarray().max() == 200, "the attack works on tifffile itself"
    assert read_samples(name).max() == 7


def test_one_request_more_than_there_is_room_for_is_told_to_come_again(run_folder, tmp_path, images):
    with serving(run_folder, tmp_path, queue=1) as address:
        port = int(address.rpartition(":")[2])
        form = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
        body = form + images[0].read_bytes() + b"\r\n--x--\r\n"
        head = (
            f"POST /api/detect HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {len(body)}\r\n"
            "Content-Type: multipart/form-data; boundary=x\r\nConnection: close\r\nExpect: 100-continue\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", port), timeout=60) as slow:
            slow.sendall(head.encode())
            assert b"100 Continue" in slow.recv(100)  # it has the place
            slow.sendall(body[:50])
            answer = detect(address, images[1])
            assert answer.status_code == 503 and answer.headers["Retry-After"] == "1"
            assert requests.get(f"{address}/health", timeout=60).status_code == 200
            slow.sendall(body[50:])
            assert b"200 OK" in slow.recv(100)
        wait_until(lambda: detect(address, images[1]).status_code == 200)


def test_pages_of_other_sites_get_nothing(server, images):
    headers = {"Origin": "http://elsewhere.example"}
    answer = requests.post(f"{server}/api/corrections", headers=headers, timeout=60)
    assert answer.status_code == 403
    for host in ("elsewhere.example", "127.0.0.1.elsewhere.example:80", "[::1"):
        answer = requests.get(f"{server}/", headers={"Host": host}, timeout=60)
        assert answer.status_code == 400 and "another name" in answer.json()["detail"]
    for host in ("LOCALHOST:1", "[::1]:8000"):
        assert requests.get(f"{server}/health", headers={"Host": host}, timeout=60).status_code == 200
    page = requests.get(f"{server}/", timeout=60)
    assert page.status_code == 200 and "default-src 'self'" in page.headers["Content-Security-Policy"]


def test_a_fault_of_the_code_is_told_in_json_too(server, images, monkeypatch):
    monkeypatch.setattr(http_routes, "read_items", lambda *_: 1 / 0)
    files = {"files": images[0].open("rb")}
    answer = requests.post(f"{server}/api/corrections", files=files, data={"annotations": "[]"}, timeout=60)
    assert answer.status_code == 500 and answer.json()["detail"] == "the server failed: ZeroDivisionError"


def test_the_model_is_told_of(server):
    content = requests.get(f"{server}/api/model", timeout=60).json()
    assert content["classes"] == [{"name": "gun", "threshold": THRESHOLD}, {"name": "knife", "threshold": THRESHOLD}]
    assert content["limits"] == {"queue": 64, "megabytes": 1, "megapixels": 0.01, "files": 64}
    schema = requests.get(f"{server}/openapi.json", timeout=60).json()
    assert {"/api/detect", "/api/corrections", "/health", "/metrics", "/api/model"} == set(schema["paths"])


def correct(server, image, items, name=None):
    files = [("files", (name or image.name, image.read_bytes()))]
    text = items if isinstance(items, str) else json.dumps(items)
    return requests.post(f"{server}/api/corrections", files=files, data={"annotations": text}, timeout=60)


def test_corrections_are_a_set_that_the_check_passes(run_folder, tmp_path, images):
    with serving(run_folder, tmp_path) as address:
        (one,) = detect(address, images[0]).json()["images"]
        kept, moved, *_ = one["detections"]
        items = [{**kept, "class": "knife"}, {**moved, "bbox": [10.5, 12, 20, 15.5], "moved": True}]
        assert correct(address, images[0], items).json() == {"images": 1, "annotations": 2}
        assert correct(address, images[0], items[:1]).json() == {"images": 1, "annotations": 1}, "said anew"
        drawn = [{"class": "gun", "bbox": [50, 30, 40, 40]}]
        assert correct(address, images[1], drawn, images[0].name).json() == {"images": 2, "annotations": 2}
        assert correct(address, images[1], [*items, *drawn]).json() == {"images": 3, "annotations": 5}, "another name"
        assert correct(address, images[3], [], "../harmless.png").json() == {"images": 4, "annotations": 5}
    folder = tmp_path / "corrections"
    content = read_coco(folder / "annotations.json")
    report = check_sets(open_sets([str(folder / "annotations.json"), str(folder / "images")]))
    faults = {finding.kind for one in report.sets for finding in one.findings}
    assert faults <= {"picture_without_annotations", *OF_COPIES}, faults
    rectangle = content["annotations"][1]
    assert rectangle["bbox"] == [50, 30, 14, 18] and rectangle["area"] == 14 * 18, "cut off at the image's edge"
    assert content["annotations"][3]["bbox"] == [10, 12, 20, 16], "the mask is stretched to the box"
    for one in content["images"]:
        assert (folder / "images" / one["file_name"]).is_file()
    with serving(run_folder, tmp_path / "again") as address:
        assert correct(address, images[0], items).json() == {"images": 1, "annotations": 2}


def test_a_server_goes_on_with_the_set_that_is_there(run_folder, tmp_path, images):
    folder = tmp_path / "corrections"
    folder.mkdir()
    old = {"categories": [{"id": 7, "name": "knife"}, {"id": 9, "name": "old"}], "images": [], "annotations": []}
    (folder / "annotations.json").write_text(json.dumps(old))
    with serving(run_folder, tmp_path) as address:
        correct(address, images[0], [{"class": name, "bbox": [5, 5, 9, 9]} for name in ("gun", "knife")])
    content = read_coco(folder / "annotations.json")
    assert content["categories"] == [*old["categories"], {"id": 10, "name": "gun"}]
    assert [one["category_id"] for one in content["annotations"]] == [10, 7]


def test_what_others_do_to_the_set_while_the_server_runs_is_kept(run_folder, tmp_path, images):
    items, file = [{"class": "gun", "bbox": [1, 1, 9, 9]}], tmp_path / "corrections" / "annotations.json"
    with serving(run_folder, tmp_path) as address:
        assert correct(address, images[0], items).json() == {"images": 1, "annotations": 1}
        content = read_coco(file)
        content["annotations"].append({**content["annotations"][0], "id": 2, "note": "drawn by hand"})
        file.write_text(json.dumps(content))
        assert correct(address, images[1], items).json() == {"images": 2, "annotations": 3}
        assert "drawn by hand" in file.read_text()
        file.write_text("{")
        answer = correct(address, images[0], items)
        assert answer.status_code == 500 and "somebody changed the set" in answer.json()["detail"]
        assert file.read_text() == "{"
        file.parent.rename(tmp_path / "put_away")
        assert correct(address, images[1], items).json() == {"images": 1, "annotations": 1}
    assert len(list((file.parent / "images").glob("*/*"))) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": [{"id": 1, "file_name": "a.png"}]}, "its image a.png is not in images/"),
        ({"images": [{"id": "a", "file_name": "a.png"}]}, "its images have no whole numbers of their own as ids"),
        ({"annotations": [{"id": 3}, {"id": 3}]}, "its annotations have no whole numbers of their own"),
        ({"categories": [3]}, "its categories have no whole numbers of their own"),
        ({"categories": [{"id": 1, "name": "gun"}, {"id": 2, "name": "gun"}]}, "have no names of their own"),
    ],
)
def test_a_set_that_nothing_can_be_added_to_is_refused_at_the_start(tmp_path, change, message):
    content = json.dumps({"images": [], "annotations": [], "categories": [], **change})
    (tmp_path / "annotations.json").write_text(content)
    with pytest.raises(UserError, match=re.escape(message)):
        CorrectionSet(tmp_path, ["gun"], with_masks=False)
    assert (tmp_path / "annotations.json").read_text() == content


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ("{", "no JSON"),
        ("{}", "no list"),
        ([{"class": "spoon", "bbox": [1, 1, 9, 9]}], "is of the class 'spoon'"),
        ([{"class": "gun", "bbox": [1, 1, 9]}], "has no bbox"),
        ([{"class": "gun", "bbox": [1, 1, 9, float("nan")]}], "has no bbox"),
        ([{"class": "gun", "bbox": [90, 1, 9, 9]}], "less than a pixel"),
        ([{"class": "gun", "bbox": [1, 1, 9, 9], "segmentation": {"size": [48, 64], "counts": "zzz"}}], "decoded"),
        ([{"class": "gun", "bbox": [1, 1, 9, 9], "segmentation": {"size": [9, 9], "counts": [0, 81]}}], "decoded"),
    ],
)
def test_annotations_that_make_no_sense_are_refused_whole(server, place, images, items, message):
    answer = correct(server, images[0], items)
    assert answer.status_code == 422 and message in answer.json()["detail"]
    assert not (place / "corrections").exists()


def test_an_image_that_can_not_be_read_is_not_saved(server, place):
    files = [("files", ("a.png", png(64, 48, b"x")))]
    answer = requests.post(f"{server}/api/corrections", files=files, data={"annotations": "[]"}, timeout=60)
    assert answer.status_code == 422 and "can't be read" in answer.json()["detail"]
    assert not (place / "corrections").exists()


def test_what_can_not_be_written_leaves_the_set_as_it_was(run_folder, tmp_path, images):
    items = [{"class": "gun", "bbox": [1, 1, 9, 9]}]
    with serving(run_folder, tmp_path) as address:
        assert correct(address, images[0], items).status_code == 200
        before = (tmp_path / "corrections" / "annotations.json").read_bytes()
        (tmp_path / "corrections" / "images").rename(tmp_path / "elsewhere")
        (tmp_path / "corrections" / "images").write_text("a file")
        answer = correct(address, images[1], items)
        assert answer.status_code == 507 and "can't write" in answer.json()["detail"]
        assert str(tmp_path) not in answer.text
        assert (tmp_path / "corrections" / "annotations.json").read_bytes() == before


def test_a_full_disk_while_files_come_is_no_fault_of_the_client(server, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.SpooledTemporaryFile.write", full)
    answer = detect(server, ("a.png", png(64, 48)))
    assert answer.status_code == 507 and answer.json()["detail"].endswith("No space left on device")


def test_more_files_than_a_request_may_have_are_refused(server, images):
    answer = detect(server, *[(f"{place}.png", images[0].read_bytes()) for place in range(65)])
    assert answer.status_code == 400 and "Too many files" in answer.text
