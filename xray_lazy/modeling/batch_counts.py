"""What sums of losses are divided by: counts of the whole batch, in whichever process its pictures are."""

import torch
from detectron2.utils import comm


def mean_count(count: float | torch.Tensor, device: torch.device, minimum: float = 1.0) -> torch.Tensor:
    """The mean over processes of what is counted in the local pictures.

    A loss that is a sum divided by it has, as a mean over processes, the value that one process with the whole batch
    has. All processes must call it in the same order.

    Args:
        count: a number, or a tensor of some.
        minimum: of the count of the whole batch, which may have nothing to count.
    """
    # the host does not wait for a GPU to take the number
    total = torch.as_tensor(count, dtype=torch.float32).to(device, non_blocking=True).clone()
    world_size = comm.get_world_size()
    if world_size > 1:
        torch.distributed.all_reduce(total)
    return total.clamp(min=minimum) / world_size
