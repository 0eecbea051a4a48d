"""Training and evaluation of what a config describes: launch, run set-up, trainer, hooks, checkpoints."""
