"""What a run is, besides its data, model and optimizer."""

from .tracking import tracking

train = dict(
    output_dir="output/unnamed",  # every experiment names its own
    init_checkpoint="",  # a file, or a URL (detectron2://, https://); empty trains from scratch
    # rows of class layers that start from the checkpoint's: those of equal names, and {"Folding_Knife": "knife"};
    # {"mouse": None} leaves one as initialised, and train.class_map=null all of them
    class_map={},
    checkpoint_classes=None,  # in their order; None: as the checkpoint or its run.json says, or COCO's or LVIS'
    max_iter=5000,
    max_epochs=None,  # a number of epochs decides in place of max_iter; periods may be given as "1 epoch", too
    seed=42,
    deterministic=False,  # same device, same seed: same weights to the last bit, at some cost of speed
    device="auto",  # "auto" takes the GPU where there is one; else "cuda" or "cpu"
    amp=dict(enabled=False, dtype="bfloat16", evaluation=False),  # or "float16", with loss scaling
    # of products of float32 on a GPU: "high" rounds their factors to TF32, as torch does in convolutions anyway
    float32_matmul="highest",
    accumulate=1,  # micro-batches per optimizer step, where a batch doesn't fit into memory
    max_skipped_steps=0,  # steps with a loss or gradient that is not finite: skipped before the run fails
    clip_gradients=dict(enabled=False, max_norm=1.0),  # L2 norm of the gradient of all parameters together
    freeze=[],  # parts that are not trained, by name or pattern: ["backbone.bottom_up.res3"]
    # parts that torch.compile speeds up; dynamic: images differ in size
    compile=dict(enabled=False, parts=["backbone"], mode="default", dynamic=True, backend="inductor"),
    channels_last=False,  # memory order that CPUs, and in half precision GPUs, prefer for convolutions
    ddp=dict(find_unused_parameters=False),  # arguments of DistributedDataParallel
    scale_lr=dict(enabled=False, batch_size=8),  # learning rate times total batch size / batch_size
    log_period=20,  # of the writers; each can have its own
    tracking=tracking,
    eval_period=500,
    # how many of the newest stay (0: all); where keep_every isn't 0, one per this many iterations stays, too
    checkpointer=dict(period=500, max_to_keep=3, keep_every=0),
)
