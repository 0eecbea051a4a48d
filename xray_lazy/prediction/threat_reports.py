"""What was found in an image as a DICOS threat detection report, a file of its own (NEMA IIC 1)."""

import io
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import DICOSThreatDetectionReportStorage, ExplicitVRLittleEndian, generate_uid

import xray_lazy
from xray_lazy.data.image_detections import Drawn
from xray_lazy.data.image_files.dicom_files import dicom_header, is_dicom
from xray_lazy.prediction.detection_files import Found
from xray_lazy.utils.atomic_file import atomic_writer

ALGORITHM = "xray-lazy "
# Of the image's file, where it is DICOM: what says whose bag it is, and in which study.
KEPT = ("PatientID", "PatientName", "StudyInstanceUID", "StudyID", "StudyDate", "StudyTime", "AccessionNumber")


def write_threat_report(path: Path, found: Found, class_names: Sequence[str], image: Path) -> None:
    """Write the report of an image: an alarm where anything was found, each item with class, score and box."""
    report = threat_report(found, class_names, dicom_header(image) if is_dicom(image) else Dataset())
    stream = io.BytesIO()
    report.save_as(stream, enforce_file_format=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_writer(path) as file:
        file.write(stream.getvalue())


def is_our_report(path: Path) -> bool:
    """Whether a file is a report that was written here."""
    return ALGORITHM.encode() in path.read_bytes()


def threat_report(found: Found, class_names: Sequence[str], image: Dataset) -> Dataset:
    """The report as pydicom has it; `image` is empty for other files than DICOM's.

    Boxes are the region's upper left corner and its extents, and two opposite corners of the bounding polygon, in
    pixels (column, row, frame) counted from 0.
    """
    now = datetime.now()
    report = Dataset()
    report.file_meta = FileMetaDataset()
    report.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    report.SpecificCharacterSet = "ISO_IR 192"
    report.SOPClassUID, report.SOPInstanceUID = DICOSThreatDetectionReportStorage, generate_uid(prefix=None)
    for name in KEPT:
        if name in image:
            setattr(report, name, image[name].value)
    if "StudyInstanceUID" not in report:
        report.StudyInstanceUID = generate_uid(prefix=None)
    report.SeriesInstanceUID = generate_uid(prefix=None)
    report.Modality = "TDR"
    report.ContentDate, report.ContentTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    report.TDRType = "MACHINE"
    report.ThreatDetectionAlgorithmAndVersion = f"{ALGORITHM}{xray_lazy.__version__}"
    report.AlarmDecision = "ALARM" if len(found) else "NO_ALARM"
    report.AlarmDecisionTime = now.strftime("%Y%m%d%H%M%S.%f")
    report.NumberOfTotalObjects = report.NumberOfAlarmObjects = len(found)
    report.ThreatSequence = [
        _threat(number, item, class_names, image) for number, item in enumerate(found.detections.drawn(), start=1)
    ]
    return report


def _threat(number: int, item: Drawn, class_names: Sequence[str], image: Dataset) -> Dataset:
    left, top, right, bottom = map(float, item.box)
    region = Dataset()
    region.ThreatROIBase, region.ThreatROIExtents = [left, top, 0.0], [right - left, bottom - top, 1.0]
    place = Dataset()
    if "SOPInstanceUID" in image:
        reference = Dataset()
        reference.ReferencedSOPClassUID = image.SOPClassUID
        reference.ReferencedSOPInstanceUID = image.SOPInstanceUID
        place.ReferencedInstanceSequence = [reference]
    place.ThreatROIVoxelSequence = [region]
    place.BoundingPolygon = [left, top, 0.0, right, bottom, 0.0]
    assessment = Dataset()
    assessment.ThreatCategory = "ANOMALY"
    assessment.ThreatCategoryDescription = class_names[item.class_id]
    assessment.ATDAssessmentFlag = "THREAT"
    assessment.ATDAssessmentProbability = float(item.score or 0)
    threat = Dataset()
    threat.PotentialThreatObjectID = number
    threat.PTORepresentationSequence = [place]
    threat.ATDAssessmentSequence = [assessment]
    return threat
