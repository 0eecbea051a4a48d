"""Evaluation beside training gives what evaluation inside training gives, to live and to finished runs."""

import itertools
import json
import os
import re
import shutil
import time
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.engine.conftest import CONFIG
from tests.engine.quick_processes import start_group
from tests.engine.small_training import train_small
from tests.patience import PATIENCE, exit_codes
from xray_lazy.engine.checkpoint_evaluation.queue import CheckpointQueue
from xray_lazy.engine.checkpoint_evaluation.worker import EvaluatorOptions, evaluate_checkpoints
from xray_lazy.engine.hooks.periodic_checkpoint import PeriodicCheckpoint
from xray_lazy.engine.run import RunOptions, run
from xray_lazy.errors import RunFailure, UserError
from xray_lazy.run_folder import read_json_lines
from xray_lazy.tracking.run_record import RunRecord
from xray_lazy.tracking.wandb_files import find_parts

ONCE = EvaluatorOptions(device="cpu", follow=False, poll=0.05)
FOLLOW = EvaluatorOptions(device="cpu", poll=0.1, timeout=PATIENCE)
SHORT = ["train.max_iter=7", "train.checkpointer.period=2", "train.device=cpu", "hooks.best_checkpoint.metric=bbox/AP"]
SHORT += ["~hooks.prediction_pictures", "~hooks.evaluation_media", "train.checkpointer.max_to_keep=1"]
# so that each checkpoint has another AP
SHORT += ["optimizer.lr=0.005", "model.roi_heads.box_predictor.test_score_thresh=0.0"]
BESIDE = ["~hooks.evaluation"]
# no value is better than the first one by so much
NEVER_BETTER = ["hooks.early_stopping.min_delta=1000", "hooks.early_stopping.metric=bbox/AP"]


def train(folder, *overrides, **options):
    run(RunOptions(CONFIG, [*SHORT, f"train.output_dir={folder}", *overrides], **options))


def evaluate(folder, options=ONCE, *overrides) -> list[str]:
    """The lines on the console."""
    lines: list[str] = []
    evaluate_checkpoints(folder, options, overrides, report=lines.append)
    return lines


def evaluated(lines) -> list[str]:
    return [match[1] for line in lines if (match := re.match(r"(model_\w+)\.pth .*/AP", line))]


def metrics_of(folder):
    """By iteration, what evaluation measures."""
    lines = {line["iteration"]: line for line in read_json_lines(folder / "metrics.json")}
    by_iteration = {n: {k: v for k, v in line.items() if k.startswith(("bbox", "segm"))} for n, line in lines.items()}
    return {iteration: metrics for iteration, metrics in by_iteration.items() if metrics}


def curves_of(folder):
    """By tag, the steps and values in all event files."""
    curves = {}
    for path in sorted((folder / "tensorboard").iterdir()):
        events = EventAccumulator(str(path)).Reload()
        for tag in events.Tags()["scalars"]:
            curves.setdefault(tag, []).extend((event.step, event.value) for event in events.Scalars(tag))
    return {tag: str(sorted(points)) for tag, points in curves.items() if re.search("bbox|segm", tag)}


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def queue_names(folder):
    return sorted(path.name for path in (folder / "evaluator").iterdir() if path.name.startswith("model"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that was trained without evaluation, with all of its checkpoints."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    train(folder, *BESIDE, "train.checkpointer.max_to_keep=0")
    return folder


@pytest.fixture
def copy(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def test_curves_best_weights_and_results_are_those_of_evaluation_inside_training(tmp_path):
    inside, beside = tmp_path / "inside", tmp_path / "beside"
    options = ["hooks.ema.decay=0.5", "hooks.best_checkpoint.keep=2", "hooks.precise_batch_norm.num_batches=2"]
    train(inside, *options)
    # the evaluator is late: all but one checkpoint would be deleted before it starts
    CheckpointQueue(beside).open()
    train(beside, *options, *BESIDE)
    assert [path.name for path in beside.glob("model_0*.pth")] == ["model_0000005.pth"]
    lines = evaluate(beside)
    assert evaluated(lines) == ["model_0000001", "model_0000003", "model_0000005", "model_final"]
    assert metrics_of(beside) == metrics_of(inside) and sorted(metrics_of(beside)) == [1, 3, 5, 6]
    assert len(metrics_of(beside)[1]) == 56
    assert len({metrics["bbox_EMA/AP"] for metrics in metrics_of(beside).values()} - {0.0}) == 4
    assert files_of(beside / "evaluation") == files_of(inside / "evaluation")
    assert curves_of(beside) == curves_of(inside) and curves_of(beside)
    assert json.loads((beside / "best.json").read_text()) == json.loads((inside / "best.json").read_text())
    best = [sorted(path.name for path in folder.glob("model_best*")) for folder in (inside, beside)]
    assert best[0] == best[1] and len(best[0]) == 3
    for name in best[0]:
        one, other = (torch.load(folder / name, weights_only=True)["model"] for folder in (inside, beside))
        assert all(torch.equal(value, other[key]) for key, value in one.items())
    # what was held for the evaluator is gone
    assert queue_names(beside) == [f"model_{name}.json" for name in ("0000001", "0000003", "0000005", "final")]


@pytest.mark.parametrize("is_open", [True, False])
def test_training_keeps_what_it_deletes_for_an_evaluator_that_is_awaited(tmp_path, is_open):
    queue = CheckpointQueue(tmp_path)
    queue.open()
    if not is_open:
        queue.close()
    train_small(tmp_path, {"checkpoint": PeriodicCheckpoint(1, max_to_keep=1)}, 5)
    assert [path.name for path in tmp_path.glob("model_0*.pth")] == ["model_0000003.pth"]
    assert queue.waiting() == (["model_0000000", "model_0000001", "model_0000002"] if is_open else [])


def test_averaged_weights_alone_are_evaluated_where_training_would_do_so(tmp_path):
    train(tmp_path / "run", "hooks.ema.decay=0.5", "hooks.ema.evaluate=instead", "train.max_iter=2", *BESIDE)
    evaluate(tmp_path / "run")
    assert {name.partition("/")[0] for name in metrics_of(tmp_path / "run")[1]} == {"bbox_EMA", "segm_EMA"}
    assert json.loads((tmp_path / "run" / "best.json").read_text())["metric"] == "bbox_EMA/AP"


def test_a_live_training_is_followed_and_stopped_early(tmp_path):
    folder = tmp_path / "run"
    endless = ["train.max_iter=100000", *NEVER_BETTER, "hooks.early_stopping.patience=2", *BESIDE]
    folder.mkdir()  # it was submitted, and starts later
    (training,) = start_group(train, folder, *endless, log=tmp_path / "training.txt")
    lines = evaluate(folder, FOLLOW)
    log = tmp_path / "training.txt"
    assert exit_codes([training], log) == [0], log.read_text()
    assert lines[0].startswith("waiting for a training to start") and lines[-1].startswith("training has ended")
    names = evaluated(lines)
    assert names == sorted(names) and names[-1] == "model_final" and len(names) >= 4
    log = (folder / "log.txt").read_text()
    assert "that says: early stopping, bbox/AP was not better than" in log and "in 2 evaluations" in log
    assert (folder / "last_checkpoint").read_text() == "model_final.pth"
    assert "of iteration 1 in 2" in (folder / "stop").read_text()
    done = metrics_of(folder)
    # each period's, and the end's
    assert sorted(done)[:-1] == list(range(1, max(done), 2)) and len(done) == len(names)
    losses = [line for line in read_json_lines(folder / "metrics.json") if "total_loss" in line]
    assert [line["iteration"] for line in losses] == list(range(max(done) + 1))


def test_the_wandb_run_of_the_training_gets_the_results_once_it_has_ended(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    folder = tmp_path / "run"
    offline = "writers.wandb.mode=offline"
    train(folder, offline, *BESIDE, "train.max_iter=5", "train.checkpointer.max_to_keep=0")
    evaluate(folder)
    run_id = RunRecord.read(folder / "run.json").wandb_id
    of_training, of_evaluator = find_parts(folder, run_id)
    assert of_evaluator.exit_code() == 0
    assert not [row for row in of_training.rows() if re.search("bbox.*AP", str(row.values))]
    rows = [row.values for row in of_evaluator.rows()]
    losses = {row.values["iteration"]: row.values for row in of_training.rows()}
    assert [row["iteration"] for row in rows] == [1, 3, 4]
    for row in rows:
        assert row["epoch"] == losses[row["iteration"]]["epoch"]
        (precision,) = (value for name, value in row.items() if name.endswith("bbox/AP"))
        assert precision == metrics_of(folder)[row["iteration"]]["bbox/AP"]
    # nothing twice, however often it is started
    evaluate(folder)
    assert len(find_parts(folder, run_id)) == 2


@pytest.mark.parametrize("order", ["oldest", "newest"])
def test_curves_grow_in_the_order_of_training_whichever_checkpoint_is_evaluated_first(copy, order):
    lines = evaluate(copy, EvaluatorOptions(device="cpu", order=order, follow=False))
    names = ["model_0000001", "model_0000003", "model_0000005", "model_final"]
    assert evaluated(lines) == (names if order == "oldest" else names[::-1])
    written = [json.loads(line) for line in (copy / "metrics.json").read_text().splitlines()]
    assert [line["iteration"] for line in written if "bbox/AP" in line] == [1, 3, 5, 6]


def test_images_and_charts_of_each_evaluation_are_shown(copy):
    target = "xray_lazy.engine.hooks.evaluation_media.EvaluationMedia"
    hook = f"+hooks.evaluation_media={{_target_: {target}, period: 2, count: 1}}"
    evaluate(copy, ONCE, hook)
    shown = {}
    for path in sorted((copy / "tensorboard").iterdir()):
        events = EventAccumulator(str(path)).Reload()
        shown |= {tag: [event.step for event in events.Images(tag)] for tag in events.Tags()["images"]}
    assert shown and all(steps == [1, 3, 5, 6] for tag, steps in shown.items() if "worst" not in tag), shown


def test_the_line_of_a_checkpoint_has_its_figures_and_what_is_next(copy):
    first, *_, last, end = evaluate(copy)[1:]
    assert re.fullmatch(
        r"model_0000001\.pth  bbox/AP \d+\.\d\d  segm/AP \d+\.\d\d  \d+\.\d s  next: model_0000003\.pth of 3", first
    )
    assert last.endswith("next: nothing more") and end == "training has ended, and all is evaluated"


def test_a_name_that_something_else_has_is_refused_before_anything_is_written(copy):
    (copy / "metrics.json").unlink()
    (copy / "metrics.json").mkdir()
    before = sorted(copy.rglob("*"))
    with pytest.raises(UserError, match=r"metrics\.json is a folder, and a run makes a file"):
        evaluate_checkpoints(copy, EvaluatorOptions(device="cpu", follow=False))
    assert sorted(copy.rglob("*")) == before


def test_a_checkpoint_that_is_evaluated_stays_so(copy):
    evaluate(copy)
    before = files_of(copy)
    lines = evaluate(copy, ONCE, "dataloader.evaluator.screening.iou=0.4")
    assert evaluated(lines) == [] and not CheckpointQueue(copy).is_open()
    assert lines[-1].endswith(f"to evaluate all again, delete {copy / 'evaluator'}")
    after = files_of(copy)
    assert {name for name in after if after[name] != before.get(name)} == set()


def test_a_checkpoint_that_training_has_made_again_is_evaluated_again(copy):
    evaluate(copy)
    os.utime(copy / "model_0000003.pth")
    assert evaluated(evaluate(copy)) == ["model_0000003"]
    assert [path.name for path in (copy / "evaluator").glob("*.pth")] == []
    assert sorted(metrics_of(copy)) == [1, 3, 5, 6]


def test_damaged_and_half_written_files_are_reported_and_passed_over(copy, capsys):
    whole = (copy / "model_0000003.pth").read_bytes()
    (copy / "model_0000003.pth").write_bytes(whole[: len(whole) // 2])
    (copy / "model_0000005.pth").write_bytes(b"not a checkpoint")
    torch.save({"model": {"other.weight": torch.zeros(3)}, "iteration": 2}, copy / "model_0000002.pth")
    (copy / ".model_0000007.pth.abc.tmp").write_bytes(whole[:1000])
    (copy / "model_best_0000001.pth").write_bytes(whole)
    unread = "all is evaluated, but for what can't be read: model_0000002.pth, model_0000003.pth, model_0000005.pth"
    lines = evaluate(copy)
    assert evaluated(lines) == ["model_0000001", "model_final"] and lines[-1].endswith(unread)
    assert unread in evaluate(copy)[-1]  # not forgotten by the next call
    errors = capsys.readouterr().err
    assert all(f"model_{name}.pth is passed over" in errors for name in ("0000002", "0000003", "0000005"))
    assert sorted(metrics_of(copy)) == [1, 6]
    # a copy that was still under way is whole some time later
    (copy / "model_0000003.pth").write_bytes(whole)
    assert evaluated(evaluate(copy)) == ["model_0000003"]


def test_a_faulty_run_record_is_no_fault_of_the_checkpoints(copy):
    record = (copy / "run.json").read_bytes()
    (copy / "run.json").write_bytes(record[:100])
    with pytest.raises(UserError, match="is not a run record"):
        evaluate(copy)
    (copy / "run.json").write_bytes(record)
    assert len(evaluated(evaluate(copy))) == 4


def test_a_result_that_is_cut_off_is_made_anew(copy):
    evaluate(copy)
    result = copy / "evaluator" / "model_0000003.json"
    result.write_bytes(result.read_bytes()[:20])
    assert evaluated(evaluate(copy)) == ["model_0000003"]


def test_a_checkpoint_that_is_deleted_before_it_is_looked_at_is_no_error(copy, monkeypatch):
    listed = Path.glob

    def glob_then_delete(path, pattern):
        found = list(listed(path, pattern))
        if path == copy:
            (copy / "model_0000003.pth").unlink(missing_ok=True)
        return iter(found)

    monkeypatch.setattr(Path, "glob", glob_then_delete)
    assert evaluated(evaluate(copy)) == ["model_0000001", "model_0000005", "model_final"]


def test_early_stopping_counts_in_order_what_training_would_have_evaluated(copy):
    (copy / "model_final.pth").unlink()
    # what a stop has left between two periods is a point of the curve, and no evaluation to count
    content = torch.load(copy / "model_0000003.pth", weights_only=True)
    torch.save({**content, "iteration": 2}, copy / "model_0000002.pth")
    patience = [*NEVER_BETTER, "hooks.early_stopping.patience=2"]
    (copy / "model_0000005.pth").rename(copy / "kept")
    assert evaluated(evaluate(copy, ONCE, *patience)) == ["model_0000001", "model_0000002", "model_0000003"]
    assert not (copy / "stop").exists()
    (copy / "kept").rename(copy / "model_0000005.pth")
    evaluate(copy, ONCE, *patience)
    assert "bbox/AP was not better" in (copy / "stop").read_text()
    # a training that is started again deletes the file, and is told again
    (copy / "stop").unlink()
    evaluate(copy, ONCE, *patience)
    assert (copy / "stop").exists()
    assert sorted(metrics_of(copy)) == [1, 2, 3, 5]


def test_a_training_that_has_ended_is_not_told_to_stop(copy):
    evaluate(copy, ONCE, *NEVER_BETTER, "hooks.early_stopping.patience=1")
    assert not (copy / "stop").exists()


def test_the_last_evaluation_of_training_itself_does_not_replace_a_better_one_of_the_evaluator(tmp_path):
    folder = tmp_path / "run"
    options = ["hooks.best_checkpoint.mode=min", "train.eval_period=0"]  # the first one is the best
    train(folder, *options, *BESIDE, "train.max_iter=2")
    evaluate(folder)
    best = json.loads((folder / "best.json").read_text())
    assert best["iteration"] == 1
    train(folder, *options, "train.max_iter=4", resume=True, overwrite=True)
    assert metrics_of(folder)[3]["bbox/AP"] > best["value"]
    assert json.loads((folder / "best.json").read_text()) == best
    evaluate(folder)
    assert json.loads((folder / "best.json").read_text()) == best


def test_where_training_evaluates_itself_it_decides_and_curves_get_points(tmp_path, capsys):
    folder = tmp_path / "run"
    train(folder, "train.eval_period=4", "train.checkpointer.max_to_keep=0", "train.max_iter=6")
    best = (folder / "best.json").read_bytes()
    evaluate(folder)
    assert "~hooks.evaluation" in capsys.readouterr().err
    assert sorted(metrics_of(folder)) == [1, 3, 5]
    assert (folder / "best.json").read_bytes() == best


def test_silence_of_a_training_that_has_not_ended_ends_the_evaluator(copy):
    (copy / "model_final.pth").unlink()
    lines: list[str] = []
    with pytest.raises(RunFailure, match="no news from the training"):
        evaluate_checkpoints(copy, EvaluatorOptions("cpu", poll=0.05, timeout=0.3), report=lines.append)
    assert evaluated(lines) == ["model_0000001", "model_0000003", "model_0000005"]


@pytest.mark.parametrize("is_made_again", [False, True])
@pytest.mark.parametrize("beginning", ["evaluating", "model_0000003"])
def test_an_evaluator_whose_folder_is_deleted_says_that_not_all_is_evaluated(copy, beginning, is_made_again):
    def delete(line):
        if line.startswith(beginning):
            shutil.rmtree(copy / "evaluator")
            if is_made_again:
                (copy / "evaluator").mkdir()

    with pytest.raises(RunFailure, match="evaluator was deleted while this evaluated the run in"):
        evaluate_checkpoints(copy, FOLLOW, report=delete)


@pytest.mark.parametrize("goes_on", [False, True])
def test_the_job_of_a_training_is_believed_rather_than_its_silence(copy, goes_on):
    (copy / "model_final.pth").unlink()
    answers, lines = itertools.chain([goes_on], itertools.repeat(False)), []
    options = EvaluatorOptions(device="cpu", poll=0.05, timeout=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("xray_lazy.engine.checkpoint_evaluation.worker.JOB_SECONDS", 1.0)
        evaluate_checkpoints(copy, options, report=lines.append, job_goes_on=lambda: next(answers))
    assert len(evaluated(lines)) == 3 and lines[-1] == "training has ended, and all is evaluated"


def test_a_training_that_is_started_again_has_not_ended(copy):
    now = time.time()
    os.utime(copy / "run.json", (now + 10, now + 10))
    with pytest.raises(RunFailure, match="it has not ended"):
        evaluate(copy, EvaluatorOptions("cpu", poll=0.05, timeout=0.3))


def test_a_run_whose_folder_was_moved_writes_into_the_folder_where_it_is(copy, tmp_path):
    moved = copy.rename(tmp_path / "moved")
    evaluate(moved)
    assert not copy.exists() and sorted(metrics_of(moved)) == [1, 3, 5, 6] and curves_of(moved)


def test_an_override_is_for_this_process(copy):
    before = (copy / "config.yaml").read_bytes()
    evaluate(copy, ONCE, "dataloader.evaluator.max_detections=7")
    results = json.loads((copy / "evaluation" / "tiny" / "iter_1" / "metrics.json").read_text())
    assert results["max_detections"] == 7 and (copy / "config.yaml").read_bytes() == before


def test_faults_are_told_before_anything_is_written(copy):
    with pytest.raises(UserError, match="no_such"):
        evaluate(copy, ONCE, "dataloader.test.dataset.names.json_file=no_such.json")
    with pytest.raises(UserError, match="has no config"):
        evaluate(copy.parent)
    with pytest.raises(UserError, match="cuda:77"):
        evaluate(copy, EvaluatorOptions(device="cuda:77"))
    assert not (copy / "evaluator").exists()
