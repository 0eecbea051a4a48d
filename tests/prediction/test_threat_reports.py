"""Threat detection reports: what `predict` writes is DICOS that pydicom reads back as what was found."""

import json

import cv2
import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import DICOSDigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from xray_lazy.errors import UserError
from xray_lazy.prediction.run_prediction import PredictOptions, run_prediction

READER = "dataloader.reader.window=[0,255]"


def as_dicom(image_file, path):
    """The same picture as a scanner's DICOS file."""
    pixels = cv2.imread(str(image_file))[:, :, ::-1]
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID, image.SOPInstanceUID = DICOSDigitalXRayImageStorageForPresentation, generate_uid()
    image.StudyInstanceUID, image.PatientID, image.Modality = generate_uid(), "bag 7", "DX"
    image.SamplesPerPixel, image.PhotometricInterpretation, image.PlanarConfiguration = 3, "RGB", 0
    image.Rows, image.Columns = pixels.shape[:2]
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 8, 8, 7, 0
    image.PixelData = np.ascontiguousarray(pixels).tobytes()
    image.save_as(path, enforce_file_format=True)
    return image


def predicted(run_folder, output, *images, **options):
    given = {"output": str(output), "device": "cpu", "overlays": False, "threat_reports": True, **options}
    run_prediction(PredictOptions(model=str(run_folder), inputs=list(map(str, images)), **given))
    return json.loads((output / "predictions.json").read_text())


def test_a_report_names_its_scan_and_has_each_item_with_its_box(run_folder, images, tmp_path):
    scan = as_dicom(images[0], tmp_path / "bag.dcs")
    results = predicted(run_folder, tmp_path / "out", tmp_path / "bag.dcs", threshold=0.05, overrides=[READER])
    report = pydicom.dcmread(tmp_path / "out/threat_reports/bag.dcs")
    assert report.SOPClassUID.name == "DICOS Threat Detection Report Storage"
    assert (report.StudyInstanceUID, report.PatientID) == (scan.StudyInstanceUID, "bag 7")
    assert (report.TDRType, report.AlarmDecision) == ("MACHINE", "ALARM")
    assert report.NumberOfTotalObjects == report.NumberOfAlarmObjects == len(report.ThreatSequence) == len(results) > 0
    names = {1: "gun", 2: "knife"}
    for threat, result in zip(report.ThreatSequence, results, strict=True):
        (place,), (assessment,) = threat.PTORepresentationSequence, threat.ATDAssessmentSequence
        (region,) = place.ThreatROIVoxelSequence
        x, y, width, height = result["bbox"]
        assert [*region.ThreatROIBase[:2], *region.ThreatROIExtents[:2]] == pytest.approx(result["bbox"], abs=0.01)
        assert place.BoundingPolygon == pytest.approx([x, y, 0, x + width, y + height, 0], abs=0.02)
        assert place.ReferencedInstanceSequence[0].ReferencedSOPInstanceUID == scan.SOPInstanceUID
        assert assessment.ThreatCategoryDescription == names[result["category_id"]]
        assert assessment.ATDAssessmentProbability == pytest.approx(result["score"])


def test_a_bag_in_which_nothing_is_found_has_a_report_without_alarm(run_folder, images, tmp_path):
    predicted(run_folder, tmp_path / "out", images[0], threshold=1.0)
    report = pydicom.dcmread(tmp_path / f"out/threat_reports/{images[0].stem}.dcs")
    assert report.AlarmDecision == "NO_ALARM" and report.NumberOfTotalObjects == 0 and not report.ThreatSequence


def test_a_report_does_not_take_the_place_of_a_scan(run_folder, images, tmp_path):
    (tmp_path / "threat_reports").mkdir()
    as_dicom(images[0], tmp_path / "threat_reports/bag.dcs")
    with pytest.raises(UserError, match=r"bag\.dcs"):
        predicted(run_folder, tmp_path, tmp_path / "threat_reports/bag.dcs", overrides=[READER])
