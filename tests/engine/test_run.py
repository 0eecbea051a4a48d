"""Whole runs on a tiny model: outputs, resume, data-parallel training, and what is refused."""

import json
import math
import multiprocessing
import os

import pytest
import torch

from tests.engine.conftest import CONFIG
from tests.engine.quick_processes import run_group, start_group
from tests.patience import exit_codes
from xray_lazy.config import load_config
from xray_lazy.engine.run import RunOptions, run
from xray_lazy.errors import RunFailure, UserError
from xray_lazy.tracking.run_record import RunRecord

# training alone, where it is not about what comes after it
LEAN = ["~hooks.evaluation", "~hooks.prediction_pictures"]


def start(overrides, processes=1, **options):
    """A run in this process, or in a group of others."""
    options = RunOptions(options.pop("config_file", CONFIG), overrides, **options)
    if processes == 1:
        run(options)
    else:
        run_group(run, options, processes=processes)


def lines_of(folder):
    return [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]


def losses_of(folder):
    # metrics that come late, as of an evaluation that a resumed run has done, have a line of their own
    return {line["iteration"]: line["total_loss"] for line in lines_of(folder) if "total_loss" in line}


def rates_of(folder):
    return {line["iteration"]: line["lr"] for line in lines_of(folder)}


def weights_of(path):
    return torch.load(path, weights_only=True)["model"]


def assert_same_weights(one, other, exact=True):
    assert one.keys() == other.keys()
    for name, value in one.items():
        if exact:
            assert torch.equal(value, other[name]), name
        else:
            torch.testing.assert_close(value, other[name], rtol=1e-3, atol=1e-5)


def test_a_run_leaves_what_the_design_promises(output):
    folder, overrides = output
    start(overrides)
    for name in ("config.yaml", "run.json", "log.txt", "metrics.json", "model_0000001.pth", "model_final.pth"):
        assert (folder / name).is_file(), name
    assert (folder / "last_checkpoint").read_text() == "model_final.pth"
    assert list((folder / "tensorboard").iterdir())
    assert len(list((folder / "visualizations").glob("*.jpg"))) == 3
    assert "wrote 2 images of detections" in (folder / "log.txt").read_text()  # the third file is the sheet of both
    for iteration in (1, 3):
        results = folder / "evaluation" / "tiny" / f"iter_{iteration}"
        assert {p.name for p in results.iterdir()} == {"metrics.json", "per_category.csv", "predictions.json"}
    last = lines_of(folder)[-1]
    assert last["iteration"] == 3 and {"bbox/AP", "segm/AP", "loss_mask", "lr", "images_seen"} <= last.keys()
    assert last["images_seen"] == 8 and last["epoch"] == 1.0
    assert not list(folder.rglob("*.tmp"))


def test_the_saved_config_trains_again_to_the_same_weights(output, tmp_path):
    folder, overrides = output
    start(overrides)
    again = tmp_path / "again"
    start([f"train.output_dir={again}"], config_file=str(folder / "config.yaml"))
    assert_same_weights(weights_of(folder / "model_final.pth"), weights_of(again / "model_final.pth"))
    assert losses_of(again) == losses_of(folder)


def test_a_resumed_run_ends_with_the_weights_of_an_undisturbed_one(output, tmp_path):
    folder, overrides = output
    start(overrides)
    broken = tmp_path / "broken"
    overrides = [*overrides, f"train.output_dir={broken}"]
    with pytest.raises(ZeroDivisionError):
        start([*overrides, "+hooks.crash={_target_: tests.engine.hooks_for_tests.CrashAt, iteration: 2}"])
    assert (broken / "last_checkpoint").read_text() == "model_0000001.pth"
    start(overrides, resume=True, overwrite=True)
    assert_same_weights(weights_of(folder / "model_final.pth"), weights_of(broken / "model_final.pth"))
    assert losses_of(folder) == losses_of(broken)


def test_a_resumed_run_takes_the_learning_rate_from_its_config(output):
    folder, overrides = output[0], [*output[1], *LEAN]
    start([*overrides, "train.max_iter=2"])
    before = rates_of(folder)
    lr = load_config(CONFIG, overrides).optimizer.lr
    start([*overrides, "train.max_iter=4", f"optimizer.lr={2 * lr}"], resume=True, overwrite=True)
    undisturbed = folder.parent / "undisturbed"
    start([*overrides, "train.max_iter=4", f"optimizer.lr={2 * lr}", f"train.output_dir={undisturbed}"])
    assert {**rates_of(undisturbed), **before} == rates_of(folder)


def test_a_resumed_run_takes_the_optimizers_numbers_from_its_config(output):
    folder, overrides = output[0], [*output[1], *LEAN]
    start([*overrides, "train.max_iter=2"])
    changed = ["optimizer.momentum=0.5", "optimizer.weight_decay=0.25"]
    start([*overrides, "train.max_iter=3", *changed], resume=True, overwrite=True)
    groups = torch.load(folder / "model_final.pth", weights_only=True)["optimizer"]["param_groups"]
    assert [(group["momentum"], group["weight_decay"]) for group in groups] == [(0.5, 0.25), (0.5, 0.0)]


ADAM = ["optimizer._target_=torch.optim.Adam", "~optimizer.momentum"]


@pytest.mark.parametrize(
    ("before", "now", "words"),
    [
        ([], ADAM, "the optimizer was SGD and is Adam"),
        (ADAM, [], "the optimizer was Adam and is SGD"),  # torch takes this state, and fails at the first step
        ([], ["+optimizer.nesterov=True"], r"optimizer\.nesterov was False and is True"),
        ([], ["train.freeze=[backbone]"], "parameters in groups of .*, as with other parts frozen"),
    ],
    ids=["other kind", "kind whose state fits", "switch", "frozen"],
)
def test_a_run_is_not_resumed_with_another_kind_of_optimizer(output, before, now, words):
    folder, overrides = output
    start([*overrides, "train.max_iter=2", *before])
    config = (folder / "config.yaml").read_text()
    with pytest.raises(UserError, match=words):
        start([*overrides, "train.max_iter=3", *now], resume=True, overwrite=True)
    assert (folder / "config.yaml").read_text() == config


def test_a_run_is_resumed_with_a_loss_scaler_that_it_had_not(output):
    folder, overrides = output
    start([*overrides, "train.max_iter=2"])
    amp = ["train.amp.enabled=True", "train.amp.dtype=float16"]
    start([*overrides, "train.max_iter=3", *amp], resume=True, overwrite=True)
    assert torch.load(folder / "model_final.pth", weights_only=True)["scaler"]["scale"] > 0


def test_a_run_of_another_model_is_not_resumed(output):
    _, overrides = output
    start([*overrides, "train.max_iter=2"])
    with pytest.raises(UserError, match=r"the shapes of 3 weights differ: roi_heads\.mask_head"):
        start([*overrides, "model.roi_heads.mask_head.conv_dims=[16,24]"], resume=True, overwrite=True)


def resume_beside(folder, overrides):
    """As on machines that share no disk: each process has an output folder of its own."""
    rank = os.environ["RANK"]
    start([*overrides, f"train.output_dir={folder}/{rank}"], resume=True, overwrite=True)


def test_processes_that_see_different_checkpoints_do_not_train(output, tmp_path):
    _, overrides = output
    start([*overrides, "train.max_iter=2", f"train.output_dir={tmp_path}/0"])
    log = tmp_path / "log.txt"
    group = start_group(resume_beside, tmp_path, overrides, processes=2, log=log)
    assert set(exit_codes(group, log)) <= {1, 2}
    assert "they would begin at the iterations 2, 0" in log.read_text()


def test_no_process_that_reads_outlives_the_training(output):
    _, overrides = output
    start([*overrides, "dataloader.train.num_workers=2"])
    assert not multiprocessing.active_children()


def test_a_run_whose_record_is_lost_goes_on_in_its_wandb_run(output):
    folder, overrides = output
    overrides = [*overrides, "writers.wandb.mode=offline", "train.checkpointer.period=1"]
    start([*overrides, "train.max_iter=1"])
    run_id = RunRecord.read(folder / "run.json").wandb_id
    (folder / "run.json").unlink()
    start([*overrides, "train.max_iter=2"], resume=True, overwrite=True)
    assert RunRecord.read(folder / "run.json").wandb_id == run_id is not None


def test_two_processes_have_the_losses_of_one(output, tmp_path):
    folder, overrides = output
    # in big steps, rounding grows until proposals of about the same score change places
    overrides = [*overrides, "optimizer.lr=0.001"]
    start(overrides)
    parallel = tmp_path / "parallel"
    start([*overrides, f"train.output_dir={parallel}"], processes=2)
    alone, shared = losses_of(folder), losses_of(parallel)
    assert alone.keys() == shared.keys()
    for iteration, loss in alone.items():
        assert math.isclose(loss, shared[iteration], rel_tol=1e-4), iteration
    assert_same_weights(weights_of(folder / "model_final.pth"), weights_of(parallel / "model_final.pth"), exact=False)


def test_two_processes_resume(output, tmp_path):
    folder, overrides = output
    start(overrides, processes=2)
    half = tmp_path / "half"
    overrides = [*overrides, f"train.output_dir={half}"]
    start([*overrides, "+hooks.stop={_target_: tests.engine.hooks_for_tests.StopAt, iteration: 1}"], processes=2)
    assert max(losses_of(half)) == 1
    start(overrides, processes=2, resume=True, overwrite=True)
    assert_same_weights(weights_of(folder / "model_final.pth"), weights_of(half / "model_final.pth"))


def test_evaluation_only_repeats_the_metrics_of_training(output):
    folder, overrides = output
    start(overrides)
    during = (folder / "evaluation" / "tiny" / "iter_3" / "metrics.json").read_text()
    (folder / "evaluation" / "tiny" / "iter_3" / "metrics.json").unlink()
    start([*overrides, f"train.init_checkpoint={folder / 'model_final.pth'}"], eval_only=True)
    assert (folder / "evaluation" / "tiny" / "iter_3" / "metrics.json").read_text() == during


def test_evaluation_refuses_weights_of_other_classes(output):
    folder, overrides = output
    start([*overrides, "train.max_iter=1", "~hooks.evaluation"])
    file = folder / "model_final.pth"
    content = torch.load(file, weights_only=True)
    name = "roi_heads.box_predictor.cls_score.bias"
    content["model"][name] = content["model"][name][:-1]
    torch.save(content, file)
    with pytest.raises(UserError, match=f"{name} 2 -> 3"):
        start([*overrides, f"train.init_checkpoint={file}"], eval_only=True)
    assert not (folder / "evaluation").exists()
    elsewhere = folder.parent / "elsewhere"
    with pytest.raises(UserError, match=name):
        start([*overrides, f"train.init_checkpoint={file}", f"train.output_dir={elsewhere}"], eval_only=True)
    assert not elsewhere.exists()


def test_a_loss_that_is_not_finite_ends_the_run_and_names_iteration_and_images(output):
    folder, overrides = output
    with pytest.raises(RunFailure) as error:
        start([*overrides, "+hooks.poison={_target_: tests.engine.hooks_for_tests.PoisonAt, iteration: 3}"])
    assert "iteration 3" in error.value.message and "bag_" in error.value.message
    assert "model_0000001.pth" in error.value.fix
    assert (folder / "last_checkpoint").read_text() == "model_0000001.pth"
    assert all(torch.isfinite(v.float()).all() for v in weights_of(folder / "model_0000001.pth").values())


def test_the_newest_checkpoint_that_can_be_read_is_resumed(output):
    folder, overrides = output
    start([*overrides, "train.checkpointer.period=1", "train.max_iter=3"])
    (folder / "model_final.pth").write_bytes(b"PK not a checkpoint")
    start([*overrides, "train.checkpointer.period=1", "train.max_iter=3"], resume=True)
    assert "trying the checkpoint before it" in (folder / "log.txt").read_text()
    weights_of(folder / "model_final.pth")


def test_a_run_whose_last_checkpoint_was_damaged_goes_on_from_its_newest(output):
    folder, overrides = output
    start([*overrides, "train.max_iter=2"])
    (folder / "last_checkpoint").write_bytes(b"\x87\xff\x00")
    start([*overrides, "train.max_iter=3"], resume=True, overwrite=True)
    assert sorted(losses_of(folder)) == [0, 1, 2]
    assert torch.load(folder / "model_final.pth", weights_only=True)["iteration"] == 2


def test_a_run_without_iterations_left_tells_where_its_weights_are(output, capsys):
    folder, overrides = output
    overrides = [*overrides, *LEAN, "train.checkpointer.period=1"]
    start([*overrides, "train.max_iter=3"])
    (folder / "model_final.pth").unlink()
    start([*overrides, "train.max_iter=1"], resume=True, overwrite=True)
    assert f"2 of 1 iterations are done, and saved in {folder / 'model_0000001.pth'}" in capsys.readouterr().out


def test_old_periodic_checkpoints_are_deleted(output):
    folder, overrides = output
    start([*overrides, "train.checkpointer.period=1", "train.checkpointer.max_to_keep=2", "train.max_iter=5"])
    assert sorted(p.name for p in folder.glob("model_0*.pth")) == ["model_0000002.pth", "model_0000003.pth"]


def test_a_file_named_stop_ends_the_run_in_order(output):
    folder, overrides = output
    start([*overrides, "+hooks.stop={_target_: tests.engine.hooks_for_tests.TouchStopFileAt, iteration: 1}"])
    assert max(losses_of(folder)) == 2
    assert (folder / "last_checkpoint").read_text() == "model_final.pth"
    assert (folder / "evaluation" / "tiny" / "iter_2" / "metrics.json").is_file()


def test_a_file_named_stop_counts_for_a_run_that_waits_to_go_on_but_not_for_one_that_is_complete(output):
    folder, overrides = output
    overrides = [*overrides, *LEAN, "train.max_iter=6", "train.checkpointer.period=1"]
    start([*overrides, "+hooks.stop={_target_: tests.engine.hooks_for_tests.StopAt, iteration: 1}"])
    (folder / "stop").touch()
    start(overrides, resume=True, overwrite=True)
    assert max(losses_of(folder)) == 2
    start(overrides, resume=True)
    assert max(losses_of(folder)) == 5 and not (folder / "stop").exists()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_mixed_precision_trains(output, dtype):
    folder, overrides = output
    start([*overrides, "train.amp.enabled=True", f"train.amp.dtype={dtype}"])
    assert all(math.isfinite(loss) for loss in losses_of(folder).values())


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_evaluations_compute_in_half_precision_where_that_is_asked_for(output, precision):
    folder, overrides = output
    dtypes = set()

    def look(module, inputs, result):
        if isinstance(module, torch.nn.Conv2d) and not module.training:
            dtypes.add(str(result.dtype).removeprefix("torch."))

    hook = torch.nn.modules.module.register_module_forward_hook(look)
    half = [] if precision == "float32" else ["train.amp.evaluation=True", f"train.amp.dtype={precision}"]
    try:
        start([*overrides, "train.max_iter=2", "dataloader.test.batch_size=4", *half])
    finally:
        hook.remove()
    assert dtypes == {precision}
    metrics = json.loads((folder / "evaluation" / "tiny" / "iter_1" / "metrics.json").read_text())
    assert math.isfinite(metrics["segm"]["AP"])


def test_products_of_float32_are_as_exact_as_the_config_says(output):
    folder, overrides = output
    before = torch.get_float32_matmul_precision()
    try:
        start([*overrides, "train.max_iter=1", "train.eval_period=0", "train.float32_matmul=high"])
        assert torch.get_float32_matmul_precision() == "high"
        start([*overrides, f"train.output_dir={folder}_2", "train.max_iter=1", "train.eval_period=0"])
        assert torch.get_float32_matmul_precision() == "highest"
        with pytest.raises(UserError, match=r"train\.float32_matmul.*low"):
            start([*overrides, f"train.output_dir={folder}_3", "train.float32_matmul=low"])
    finally:
        torch.set_float32_matmul_precision(before)


def test_adamw_with_a_slower_backbone_and_clipping_trains(output):
    folder, overrides = output
    changes = {"lr": "1e-3", "_target_": "torch.optim.AdamW", "params.lr_factors": "{backbone: 0.1}"}
    adamw = ["~optimizer.momentum", *(f"optimizer.{key}={value}" for key, value in changes.items())]
    start([*overrides, *adamw, "train.clip_gradients.max_norm=0.1"])
    assert all(line["gradient_norm"] > 0 for line in lines_of(folder))
    assert all(line["lr/backbone"] == pytest.approx(0.1 * line["lr"]) for line in lines_of(folder))


def test_a_dry_run_prints_the_config_and_writes_nothing(output, tmp_path, capsys):
    folder, overrides = output
    start([*overrides, "train.max_iter=7"], dry_run=True)
    printed = tmp_path / "printed.yaml"
    printed.write_text(capsys.readouterr().out)
    assert load_config(printed).train.max_iter == 7
    assert not folder.exists()


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("below", ["", "/run"])
def test_an_output_folder_in_the_place_of_a_file_is_refused(output, tmp_path, dry_run, below):
    (tmp_path / "notes").touch()
    with pytest.raises(UserError, match="notes is a file"):
        start([*output[1], f"train.output_dir={tmp_path / 'notes'}{below}"], dry_run=dry_run)


def test_a_dry_run_refuses_a_folder_as_the_run_would(output):
    folder, overrides = output
    start([*overrides, "train.max_iter=1"])
    with pytest.raises(UserError, match=r"optimizer\.lr"):
        start([*overrides, "train.max_iter=1", "optimizer.lr=0.5"], dry_run=True)
    start([*overrides, "train.max_iter=1", "optimizer.lr=0.5"], dry_run=True, overwrite=True)
    assert (folder / "model_final.pth").is_file()


def test_overwriting_leaves_what_a_person_put_into_the_folder(output):
    folder, overrides = output
    quick = [*overrides, "train.max_iter=1", "~hooks.evaluation"]
    start(quick)
    written = ["model_0000007.pth", "model_best.pth", "model_best_0000003.pth", "model_best_loss.pth"]
    own = ["model_pretrained.pth", "model_best_of_peter.pth", "notes.txt"]
    for name in (*written, "model_final_ema.pth", "best_loss.json", *own):
        (folder / name).touch()
    start([*quick, "optimizer.lr=0.5"], overwrite=True)
    assert {path.name for path in folder.glob("model_*.pth")} == {"model_final.pth", *own[:2]}
    assert (folder / "notes.txt").exists() and not (folder / "best_loss.json").exists()


def test_a_folder_with_another_experiment_is_refused(output):
    folder, overrides = output[0], [*output[1], *LEAN]
    start([*overrides, "train.max_iter=1"])
    before = (folder / "config.yaml").read_text()
    with pytest.raises(UserError, match=r"optimizer\.lr"):
        start([*overrides, "train.max_iter=1", "optimizer.lr=0.5"])
    with pytest.raises(UserError, match="checkpoints of this very config") as error:
        start([*overrides, "train.max_iter=1"])
    assert "--resume" in error.value.fix
    assert (folder / "config.yaml").read_text() == before
    start([*overrides, "train.max_iter=2"], overwrite=True)
    assert max(losses_of(folder)) == 1 and min(losses_of(folder)) == 0


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.max_itr=3", "train.max_iter"),
        ("train.max_iter=abc", "train.max_iter"),
        ("train.max_iter=0", "train.max_iter"),
        ("model.roi_heads.num_classes=5", "model.roi_heads.num_classes=2"),
        ("train.init_checkpoint=absent.pth", "absent.pth"),
        ("dataloader.test.dataset.names=xray_nowhere_val", "xray_nowhere_val"),
        ("train.device=tpu", "tpu"),
        ("hooks.best_checkpoint._target_=xray_lazy.engine.hooks.best_checkpoint.BestCheckpont", "BestCheckpoint"),
    ],
)
def test_faults_are_reported_before_anything_is_written(output, override, words):
    folder, overrides = output
    with pytest.raises(UserError) as error:
        start([*overrides, override])
    assert words in str(error.value) and error.value.exit_code == 2
    assert not folder.exists()


def test_more_gpus_than_there_are_is_an_error_that_says_how_many_there_are(output):
    with pytest.raises(UserError, match="1,024 GPUs asked for, but this machine has"):
        start(output[1][:1], num_gpus=1024)


def test_a_batch_must_be_divisible_by_the_processes(output):
    with pytest.raises(UserError, match=r"2 images .* 3 processes"):
        start(output[1], num_processes=3)


def test_a_resumed_run_with_another_batch_size_goes_on_where_it_was_in_the_data(output):
    folder, overrides = output
    quick = [*overrides, *LEAN, "train.log_period=1", "train.max_iter=3"]
    start(quick)
    start([*quick, "train.max_iter=5", "dataloader.train.total_batch_size=4"], resume=True, overwrite=True)
    seen = {line["iteration"]: line["images_seen"] for line in lines_of(folder) if "images_seen" in line}
    assert seen == {0: 2, 1: 4, 2: 6, 3: 10, 4: 14}
    checkpoint = torch.load(folder / "model_final.pth", weights_only=True)
    assert checkpoint["trainer"]["images_seen"] == 14
