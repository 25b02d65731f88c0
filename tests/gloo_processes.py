"""A loop that is trained by one process, or by two that share every batch."""

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from selftune import Losses, OnlineTuner, Tune

STEPS, EXAMPLES = 14, 12


def batches(seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(STEPS, EXAMPLES, 5, generator=generator, dtype=torch.float64)
    weights = torch.rand(STEPS, EXAMPLES, 2, generator=generator, dtype=torch.float64)
    return [{"x": rows, "y": rows[:, :2].sin(), "weights": some} for rows, some in zip(x, weights, strict=True)]


def loss(outputs, batch):
    """Weighted, so that a process whose examples weigh more counts for more."""
    return Losses((outputs - batch["y"]).square(), batch["weights"])


def trained(rank, size, method):
    """What a process has found that sees its share of every batch."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 2)).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
    share = slice(rank * EXAMPLES // size, (rank + 1) * EXAMPLES // size)
    mine = [{name: tensor[share] for name, tensor in batch.items()} for batch in batches(0)]
    unweighted = batches(1)[0]
    judged = {name: tensor[share] for name, tensor in unweighted.items()}
    tuner = OnlineTuner(
        DistributedDataParallel(model) if size > 1 else model,
        optimizer,
        {"weight_decay": {"parts": "layer", "strength": Tune(0.02)}, "sam": {}},
        loss=loss,
        validation=([judged], lambda outputs, batch: (outputs - batch["y"]).square().mean(dim=1)),
        forward=lambda model, batch: model(batch["x"]),
        method=method,
        warmup_steps=4,
        train_steps=2,
        learning_rate=0.05,
    )
    for batch in mine:
        tuner.loss(batch).backward()
        tuner.step()
    hypergradients = torch.stack([step.hypergradient for step in tuner.trajectory])
    losses = torch.tensor([step.validation_loss for step in tuner.trajectory])
    values = torch.tensor(list(tuner.hyperparameters.values()))
    weights = torch.cat([parameter.detach().reshape(-1) for parameter in model.parameters()])
    return {"hypergradients": hypergradients, "losses": losses, "values": values, "weights": weights}


def process(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    found = {method: trained(rank, 2, method) for method in ("self_tuning", "implicit")}
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()
