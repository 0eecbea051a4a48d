"""DICOM files are images of any channels and bits wherever images are read; others of DICOM's are refused."""

from pathlib import Path

import numpy as np
import pytest
from coco_examples import SIZE, sound_set
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    DICOSDigitalXRayImageStorageForProcessing,
    DICOSThreatDetectionReportStorage,
    ExplicitVRLittleEndian,
    generate_uid,
)

from xray_lazy.data.check import check_sets
from xray_lazy.data.check.coco_set import CocoSet
from xray_lazy.data.image_files.image_bytes import MissingImage, UnreadableImage
from xray_lazy.data.image_files.image_file import image_size, read_image, read_samples
from xray_lazy.data.image_reader import ImageReader
from xray_lazy.data.likely_reader import picture

WIDTH, HEIGHT = SIZE


def write_dicom(path: Path, samples: np.ndarray, bits_stored: int = 16) -> Path:
    """A scan of samples (height, width), (frames, height, width) or (height, width, 3) RGB, as DICOS has it."""
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID, image.SOPInstanceUID = DICOSDigitalXRayImageStorageForProcessing, generate_uid()
    image.StudyInstanceUID, image.PatientID, image.Modality = generate_uid(), "bag 7", "DX"
    is_colour = samples.ndim == 3 and samples.shape[-1] == 3
    image.SamplesPerPixel = 3 if is_colour else 1
    image.PhotometricInterpretation = "RGB" if is_colour else "MONOCHROME2"
    if is_colour:
        image.PlanarConfiguration = 0
    elif samples.ndim == 3:
        image.NumberOfFrames = len(samples)
    image.Rows, image.Columns = samples.shape[:2] if is_colour else samples.shape[-2:]
    image.BitsAllocated = 8 * samples.itemsize
    image.BitsStored = min(bits_stored, image.BitsAllocated)
    image.HighBit, image.PixelRepresentation = image.BitsStored - 1, 0
    image.PixelData = samples.tobytes()
    image.save_as(path, enforce_file_format=True)
    return path


def scan(*shape: int, most: int = 4095, dtype=np.uint16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, most + 1, shape).astype(dtype)


def test_samples_come_as_they_are_stored(tmp_path):
    grey, energies, colours = (
        scan(HEIGHT, WIDTH),
        scan(2, HEIGHT, WIDTH),
        scan(HEIGHT, WIDTH, 3, most=255, dtype=np.uint8),
    )
    one, two, three = (
        write_dicom(tmp_path / f"{name}.dcm", samples)
        for name, samples in zip("abc", (grey, energies, colours), strict=True)
    )
    assert np.array_equal(read_samples(one), grey[:, :, None]) and image_size(one) == (WIDTH, HEIGHT)
    assert np.array_equal(read_samples(two), energies.transpose(1, 2, 0))
    assert np.array_equal(read_samples(three), colours[:, :, ::-1])
    assert np.array_equal(read_samples(three, "RGB"), colours)


def test_a_reader_and_people_see_it_and_8_bit_models_refuse_it(tmp_path):
    file = write_dicom(tmp_path / "bag.dcs", scan(2, HEIGHT, WIDTH), bits_stored=12)
    assert ImageReader(2, [0, 4095], log_attenuation=True).read(file).shape == (HEIGHT, WIDTH, 2)
    assert picture(file).shape == (HEIGHT, WIDTH, 3)
    with pytest.raises(UnreadableImage, match=r"dataloader\.reader\.window says how it is read"):
        read_image(file)


def test_check_reads_a_set_of_them(tmp_path):
    content = sound_set()
    for image in content["images"]:
        image["file_name"] = f"{image['id']}.dcm"
        values = np.random.default_rng(image["id"]).integers(0, 4096, (HEIGHT, WIDTH)).astype(np.uint16)
        write_dicom(tmp_path / image["file_name"], values, 12)
    (report,) = check_sets([CocoSet("set", content, tmp_path)]).sets
    assert report.raw.summary() == "16 bits, of which 12 are used, 1 channel"
    assert {finding.kind for finding in report.findings} == {"bits_unused"}


def test_what_is_no_image_is_refused_with_the_reason(tmp_path):
    with pytest.raises(MissingImage):
        image_size(tmp_path / "none.dcm")
    (tmp_path / "text.dcm").write_text("no DICOM")
    report = Dataset()
    report.file_meta = FileMetaDataset()
    report.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    report.SOPClassUID, report.SOPInstanceUID = DICOSThreatDetectionReportStorage, generate_uid()
    report.Modality = "TDR"
    report.save_as(tmp_path / "report.dcs", enforce_file_format=True)
    file = write_dicom(tmp_path / "cut.dcm", scan(HEIGHT, WIDTH))
    file.write_bytes(file.read_bytes()[:-100])
    for name, why in (("text.dcm", "can't be read"), ("report.dcs", r"without an image \(TDR\)"), ("cut.dcm", "read")):
        with pytest.raises(UnreadableImage, match=why):
            read_samples(tmp_path / name)
