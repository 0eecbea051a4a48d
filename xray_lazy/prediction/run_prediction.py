"""What tools/predict.py does: detect in all that is named, and write images, videos and tables of it."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from xray_lazy.data.check.coco_set import CocoSet
from xray_lazy.data.check.image_facts import darkness_among
from xray_lazy.data.label_export import LABEL_WRITERS, require_class_names, require_free, write_labels
from xray_lazy.data.repair import repair
from xray_lazy.errors import RunFailure, UserError
from xray_lazy.prediction.bags_of_inputs import BAGS, FusedThresholds, bags_of_inputs, fuse_bags, write_bags
from xray_lazy.prediction.detection_files import (
    RESULT_FILES,
    Categories,
    Found,
    data_set,
    is_our_table,
    video_record,
    write_results,
)
from xray_lazy.prediction.detector import Detector, TrainedDetector
from xray_lazy.prediction.input_files import InputFile, Inputs, find_inputs, without_further_files
from xray_lazy.prediction.named_ground_truth import GroundTruth
from xray_lazy.prediction.prediction_console import Console
from xray_lazy.prediction.predictor import Prediction, Predictor, check_threshold
from xray_lazy.prediction.pseudo_labels import agreed_labels, check_same_classes, require_free_set, write_pseudo_labels
from xray_lazy.prediction.videos import Video, VideoNotWritten, writing_video
from xray_lazy.utils.atomic_file import write_json
from xray_lazy.utils.results_place import (
    check_no_input,
    check_result_file,
    check_result_folder,
    check_unchanged,
    json_with,
    sole_writer,
)
from xray_lazy.utils.wording import counted
from xray_lazy.visualization.montage import side_by_side
from xray_lazy.visualization.overlay import draw_instances
from xray_lazy.visualization.prediction_images import is_written_here, write_image

if TYPE_CHECKING:
    from xray_lazy.analysis.screening.operating_point import OperatingPoint

# Images that are drawn and written while the network is busy with others.
WRITERS, WAITING = 2, 8

Item, Result = TypeVar("Item"), TypeVar("Result")


@dataclass(frozen=True)
class PredictOptions:
    """What to detect, with what, and what to write.

    Attributes:
        model: output folder of a training, config file, or exported model.
        inputs: as `find_inputs` takes them, with `image_root`.
        output: folder of the results.
        backend: as `Predictor.of` takes it.
        operating_point: a file with thresholds of the classes, in place of `threshold`.
        group_by: as `bags_of_inputs` takes it.
        ground_truth: COCO file that is drawn beside the predictions.
        overlays: write images and videos, not only tables.
        video_format: a suffix of `xray_lazy.prediction.videos.CODECS`, without its dot.
        grey: draw on a ground without colours.
        pre_annotations: also write what was found in images as labels for people to correct, in this format of
            `xray_lazy.data.label_export.LABEL_WRITERS`.
        tile_width, tile_overlap: pixels; images that are wider are seen by tiles; by default a quarter overlaps.
        threat_reports: also write a DICOS threat detection report for each image.
        pseudo_labels: also write what is found again in the mirrored image as a set to train on.
        second_model: has to find it, too; as `model`.
    """

    model: str
    inputs: Sequence[str]
    output: str = "output/predictions"
    threshold: float = 0.5
    operating_point: str | None = None
    group_by: str | None = None
    weights: str | None = None
    overrides: Sequence[str] = ()
    device: str = "auto"
    backend: str | None = None
    batch_size: int = 8
    threads: int = 2
    image_root: str | None = None
    ground_truth: str | None = None
    overlays: bool = True
    video_format: str = "mp4"
    grey: bool = False
    pre_annotations: str | None = None
    threat_reports: bool = False
    pseudo_labels: bool = False
    second_model: str | None = None
    tile_width: int | None = None
    tile_overlap: int | None = None

    def report_file(self, image: InputFile) -> Path:
        """Where the threat detection report of an image goes."""
        return Path(self.output) / "threat_reports" / image.result.with_suffix(".dcs")

    @property
    def labels_folder(self) -> Path:
        return Path(self.output) / "pre_annotations" / str(self.pre_annotations)

    @property
    def pseudo_labels_folder(self) -> Path:
        return Path(self.output) / "pseudo_labels"


def run_prediction(options: PredictOptions) -> None:
    """Detect in everything that is named. What can't be read or looked at is reported and left out.

    Raises:
        UserError: a fault of what was given, or none of the images and videos can be read.
    """
    check_threshold(options.threshold)
    point = None
    if options.operating_point:
        from xray_lazy.analysis.screening.operating_point import OperatingPoint

        point = OperatingPoint.read(options.operating_point)
        point.check_scores()
    check_result_folder(options.output)
    inputs = find_inputs(options.inputs, options.image_root, options.output)
    if options.image_root and not inputs.coco_files:
        raise UserError(f"--image-root {options.image_root} has no effect: no input is a COCO file", "leave it out")
    _check_targets(options, inputs)
    if options.threat_reports and not inputs.images:
        raise UserError("threat reports are of images, and only videos are given", "leave out --threat-reports")
    if options.pre_annotations:
        if not inputs.images:
            raise UserError("pre-annotations are of images, and only videos are given", "leave out --pre-annotations")
        require_free(options.labels_folder, LABEL_WRITERS[options.pre_annotations], overwrite=True)
    if options.pseudo_labels:
        if not inputs.images:
            raise UserError("pseudo-labels are of images, and only videos are given", "leave out --pseudo-labels")
        require_free_set(options.pseudo_labels_folder)
    if point and point.view_fusion and (inputs.videos or options.pseudo_labels):
        what = "videos" if inputs.videos else "--pseudo-labels"
        raise UserError(
            f"{point.path} weighs the views of bags, and {what} are of single images",
            "choose an operating point without --view-fusion",
        )
    predictor = _predictor(options, options.model, options.weights, options.overrides, point)
    second = None
    if options.second_model:
        second = _predictor(options, options.second_model, None, (), point)
        check_same_classes(predictor, second)
    if options.pre_annotations or options.pseudo_labels:
        require_class_names(predictor.class_names)
    inputs.images[:] = without_further_files(inputs.images, predictor.detector.reader)
    weights = point.view_fusion if point else None
    bags = bags_of_inputs(inputs.images, options.group_by or (weights or {}).get("group_by"))
    fused = fuse_bags(weights, point.path, predictor, inputs.images, bags) if point and weights else None
    with sole_writer(options.output):
        _Run(options, inputs, predictor, second, bags, fused).run()


def _predictor(
    options: PredictOptions,
    model: str,
    weights: str | None,
    overrides: Sequence[str],
    point: "OperatingPoint | None",
) -> Predictor:
    predictor = Predictor.of(
        model,
        weights,
        overrides,
        options.device,
        options.backend,
        batch_size=options.batch_size,
        score_threshold=options.threshold,
        threads=options.threads,
    )
    if options.tile_width:
        overlap = options.tile_width // 4 if options.tile_overlap is None else options.tile_overlap
        _look_at_tiles(predictor.detector, options.tile_width, overlap)
    if point:
        predictor.score_threshold = point.of_classes(predictor.class_names, f"the model {model}")
    return predictor


def _look_at_tiles(detector: Detector, width: int, overlap: int) -> None:
    if not isinstance(detector, TrainedDetector):
        raise UserError(
            "an exported model is for whole images",
            "give the run's folder with PyTorch's backend, or leave out --tile-width",
        )
    detector.look_at_tiles(width, overlap)


def _check_targets(options: PredictOptions, inputs: Inputs) -> None:
    """Refuse to replace what is looked at, or what is not of an earlier call."""
    folder = Path(options.output)
    tables = [folder / name for name in (BAGS, *RESULT_FILES)]
    drawn_images, drawn_videos = (inputs.images, inputs.videos) if options.overlays else ([], [])
    images = [folder / "pictures" / image.result.with_suffix(".jpg") for image in drawn_images]
    reports = [options.report_file(image) for image in inputs.images if options.threat_reports]
    lists = [folder / "videos" / video.result.with_suffix(".json") for video in inputs.videos]
    videos = [folder / "videos" / video.result.with_suffix(f".{options.video_format}") for video in drawn_videos]
    given = filter(None, (options.ground_truth, options.operating_point))
    read = [entry.path for entry in (*inputs.images, *inputs.videos)]
    check_no_input([*tables, *images, *reports, *lists, *videos], [*read, *inputs.coco_files, *map(Path, given)])
    is_earlier: dict[Path, Callable[[Path], bool]] = {
        # each call writes the last of them, whatever it looks at
        **dict.fromkeys(reversed(tables), lambda _: is_our_table(tables[-1])),
        **dict.fromkeys(images, is_written_here),
        **dict.fromkeys(lists, _is_video_list),
        **dict.fromkeys(videos, lambda video: _is_video_list(video.with_suffix(".json"))),
    }
    if reports:
        from xray_lazy.prediction.threat_reports import is_our_report

        is_earlier |= dict.fromkeys(reports, is_our_report)
    for file, is_result in is_earlier.items():
        check_result_file(file, is_result, "a result of an earlier prediction")
    if inputs.images:
        check_unchanged(folder)


def _is_video_list(path: Path) -> bool:
    return json_with(path, "video", "frames")


class _Run:
    def __init__(
        self,
        options: PredictOptions,
        inputs: Inputs,
        predictor: Predictor,
        second: Predictor | None = None,
        bags: Mapping[InputFile, str] | None = None,
        fused: FusedThresholds | None = None,
    ) -> None:
        self.options, self.inputs, self.predictor, self.second = options, inputs, predictor, second
        self.bags, self.fused = bags or {}, fused
        self.output = Path(options.output)
        self.console = Console()
        # ids are those of the COCO file that named the images, too; only a ground truth that is asked for is drawn
        if options.ground_truth:
            self.truth = GroundTruth(options.ground_truth, predictor.class_names)
        elif inputs.coco_files:
            file, root = inputs.coco_files[0], options.image_root
            self.truth = GroundTruth(file, predictor.class_names, needed=("images",), image_root=root)
        else:
            self.truth = None
        self.class_names = predictor.class_names
        self.found: list[Found] = []
        self.found_in_videos: dict[InputFile, list[Found]] = {}
        self.skipped, self.last_problem = 0, None

    def run(self) -> None:
        start = time.perf_counter()
        for problem in self.inputs.unreadable:
            self._skip(problem)
        with ThreadPoolExecutor(WRITERS, thread_name_prefix="write") as pool:
            if self.inputs.images:
                self._detect_in_images(pool)
            for video in self.inputs.videos:
                self._detect_in_video(video, pool)
        seconds = time.perf_counter() - start
        if not self.found and not self.found_in_videos:
            message = f"none of the {self.skipped} inputs could be read"
            fix = "see the lines above"
            if self.inputs.coco_files and not self.options.image_root:
                fix += "; --image-root names the folder of a COCO file's images"
            raise UserError(message, fix) from self.last_problem
        files = self._write_results()
        frames = [frame for frames in self.found_in_videos.values() for frame in frames]
        self.console.summary([*self.found, *frames], self._categories().names, seconds, self.skipped)
        self.console.files(self.output, files, self.options.overlays)

    def _detect_in_images(self, pool: ThreadPoolExecutor) -> None:
        images = self.inputs.images
        # of a reader for 8-bit colours, which takes the upper 8 of 16 bits
        darkness = "" if self.predictor.detector.reader.fingerprint() else darkness_among(images, lambda one: one.path)
        if darkness:
            self.console.warn(
                f"{darkness}: give it images as those of its training, or with their values scaled to all 16 bits; a "
                "model for them is trained with dataloader.reader, which `tools/dataset.py check` proposes"
            )
        ids = self._image_ids(images)
        seen = self.predictor.stream(image.path for image in images)
        if self.fused:
            seen = self.fused((self.bags[image] for image in images), seen)
        predictions = zip(images, ids, seen, strict=True)
        with self.console.progress("images", len(images)) as advance:
            for found, prediction in _in_background(pool, lambda entry: self._draw_image(*entry), predictions):
                if found is None:
                    self._skip(prediction.problem)
                else:
                    self.found.append(found)
                advance()

    def _draw_image(
        self, image: InputFile, image_id: int | str, prediction: Prediction
    ) -> tuple[Found | None, Prediction]:
        if prediction.problem is not None:
            return None, prediction
        found = Found.of(prediction.instances, str(image.name), image_id)
        if self.options.overlays:
            drawn = self._overlay(prediction, found)
            if self.options.ground_truth:
                drawn = self._beside_truth(image, prediction.image, drawn)
            write_image(self.output / "pictures" / image.result.with_suffix(".jpg"), drawn)
        return found, prediction

    def _beside_truth(self, image: InputFile, scan: np.ndarray, drawn: np.ndarray) -> np.ndarray:
        items = self.truth.items(image)
        title = "ground truth" if items is not None else "no ground truth for it"
        truth = draw_instances(scan, items or [], self.truth.class_names, grey=self.options.grey)
        return side_by_side(truth, drawn, (title, "prediction"))

    def _detect_in_video(self, entry: InputFile, pool: ThreadPoolExecutor) -> None:
        try:
            video = Video(entry.path)
        except UserError as problem:
            return self._skip(problem)
        try:
            frames = self._detect_in_frames(entry, video, pool)
        except VideoNotWritten:
            raise
        except UserError as problem:
            return self._skip(problem)
        self.found_in_videos[entry] = frames
        facts = {"video": str(entry.path), **asdict(video.facts)}
        if video.missing_frames:
            facts["missing_frames"] = video.missing_frames
            self.console.warn(
                f"video {entry.path} breaks off: {len(frames)} of the {video.facts.frames} frames that its "
                "header tells of can be read; copy or convert it again"
            )
        # at once: by it the video is known for a result that may be replaced
        write_json(self._video_path(entry, ".json"), video_record(frames, self._categories(), facts))

    def _detect_in_frames(self, entry: InputFile, video: Video, pool: ThreadPoolExecutor) -> list[Found]:
        frames, path = [], self._video_path(entry, f".{self.options.video_format}")
        with self.console.progress(entry.path.name, video.facts.frames) as advance:
            numbered = enumerate(self.predictor.stream(video))
            drawn = _in_background(pool, lambda numbered_one: self._draw_frame(entry, *numbered_one), numbered)
            if self.options.overlays:
                with writing_video(path, video.facts.fps) as file:
                    for found, frame in drawn:
                        frames.append(found)
                        file.write(frame)
                        advance()
            else:
                for found, _ in drawn:
                    frames.append(found)
                    advance()
        return frames

    def _draw_frame(self, entry: InputFile, number: int, prediction: Prediction) -> tuple[Found, np.ndarray | None]:
        if prediction.problem is not None:
            raise RunFailure(f"video {entry.path}, frame {number}: {prediction.problem.message}", "")
        found = Found.of(prediction.instances, str(entry.name), None, number)
        if not self.options.overlays:
            return found, None
        return found, self._overlay(prediction, found)

    def _overlay(self, prediction: Prediction, found: Found) -> np.ndarray:
        instances = found.detections.drawn()
        return draw_instances(prediction.image, instances, self.class_names, grey=self.options.grey)

    def _write_results(self) -> list[Path]:
        categories = self._categories()
        frames = [frame for frames in self.found_in_videos.values() for frame in frames]
        files = write_results(self.output, self.found, frames, categories)
        if self.options.pre_annotations and self.found:
            files.append(self._write_pre_annotations(self.options.pre_annotations, categories))
        if self.options.pseudo_labels and self.found:
            files.append(self._write_pseudo_labels(categories))
        if self.bags and self.found:
            bags = {str(image.name): bag for image, bag in self.bags.items()}
            files.append(write_bags(self.output, self.found, bags, categories.names))
        if self.options.threat_reports:
            files += self._write_threat_reports(categories)
        return files + [self._video_path(entry, ".json") for entry in self.found_in_videos]

    def _write_pre_annotations(self, target: str, categories: Categories) -> Path:
        """Labels of all images, beside links to these; what has no area is left out, as people can't see it."""
        inputs = {str(image.name): image for image in self.inputs.images}
        files = {found.name: inputs[found.name] for found in self.found}
        results = [result for found in self.found for result in found.results(categories.ids)]
        content = data_set(self.found, results, categories)
        for image in content["images"]:
            file = files[image["file_name"]]
            image["file_name"] = file.result.with_suffix(file.path.suffix).as_posix()
        one = repair(CocoSet("predictions", content), facts={})
        paths = {file.result.with_suffix(file.path.suffix).as_posix(): file.path for file in files.values()}
        folder = self.options.labels_folder
        sound = CocoSet("predictions", one.content)
        exported = write_labels(sound, target, folder, paths, overwrite=True, are_predictions=True)
        print(exported.summary())
        print(f"next: {LABEL_WRITERS[target].next_step(folder)}")
        return folder / LABEL_WRITERS[target].mark

    def _write_pseudo_labels(self, categories: Categories) -> Path:
        files = self._files()
        agreed = agreed_labels(self.predictor, self.found, files, self.second)
        reader = self.predictor.detector.reader
        written = write_pseudo_labels(self.options.pseudo_labels_folder, agreed, files, reader, categories)
        items, all_items = sum(len(one.found) for one in agreed), sum(map(len, self.found))
        print(
            f"pseudo-labels: {items:,} of {counted(all_items, 'item')} in {len(agreed):,} of "
            f"{counted(len(self.found), 'image')} are found in every view"
        )
        return written

    def _write_threat_reports(self, categories: Categories) -> list[Path]:
        from xray_lazy.prediction.threat_reports import write_threat_report

        for found, image in zip(self.found, self._files(), strict=True):
            write_threat_report(self.options.report_file(image), found, categories.names, image.path)
        return [Path(self.options.output) / "threat_reports"] if self.found else []

    def _files(self) -> list[InputFile]:
        """Of what was found in images, in its order."""
        by_name = {str(image.name): image for image in self.inputs.images}
        return [by_name[found.name] for found in self.found]

    def _categories(self) -> Categories:
        all_found = [*self.found, *(frame for frames in self.found_in_videos.values() for frame in frames)]
        highest = max((max(found.classes, default=-1) for found in all_found), default=-1)
        return Categories.of(self.class_names, highest, self.truth.category_ids if self.truth else {})

    def _image_ids(self, images: Sequence[InputFile]) -> list[int | str]:
        """Those of the COCO file where it knows the image, each once; others count on from its highest."""
        known = [self.truth.image_id(image) if self.truth else image.image_id for image in images]
        following = max((number for number in known if isinstance(number, int)), default=0) + 1
        ids, taken = [], {None}
        for number in known:
            if number in taken:
                number, following = following, following + 1
            taken.add(number)
            ids.append(number)
        return ids

    def _video_path(self, entry: InputFile, suffix: str) -> Path:
        return self.output / "videos" / entry.result.with_suffix(suffix)

    def _skip(self, problem: UserError) -> None:
        self.skipped, self.last_problem = self.skipped + 1, problem
        self.console.warn(f"skipped: {problem.message}")


def _in_background(pool: ThreadPoolExecutor, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`work(item)` of each, in order; a few items are under way while the next ones are made."""
    pending: deque[Future[Result]] = deque()
    for item in items:
        pending.append(pool.submit(work, item))
        if len(pending) > WAITING:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()
