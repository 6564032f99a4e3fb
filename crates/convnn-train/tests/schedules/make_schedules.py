"""Writes schedules.json beside this script: python make_schedules.py (needs torch).

Learning rates of PyTorch's schedulers, one for each step of a run of 10 epochs with 4 steps. `sets` are the keys of the
configuration that ask for the same schedule; the full rate is 0.1.
"""

import json
from pathlib import Path

import torch
from torch.optim import lr_scheduler as schedulers

EPOCHS, STEPS, RATE = 10, 4, 0.1


def rates(make, count, repeat=1):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=RATE)
    scheduler = make(optimizer)
    found = []
    for _ in range(count):
        found += [optimizer.param_groups[0]["lr"]] * repeat
        optimizer.step()
        scheduler.step()
    return found


def warmed_up(length, make):
    """A linear rise over `length` units, then another schedule."""

    def both(optimizer):
        rise = schedulers.LinearLR(optimizer, start_factor=1 / length, end_factor=1.0, total_iters=length - 1)
        return schedulers.SequentialLR(optimizer, [rise, make(optimizer)], milestones=[length])

    return both


cosine = lambda length: lambda o: schedulers.CosineAnnealingLR(o, T_max=length)
step = lambda every: lambda o: schedulers.StepLR(o, step_size=every, gamma=0.5)
constant = lambda o: schedulers.ConstantLR(o, factor=1.0)
units = EPOCHS * STEPS
drops = ["schedule=step", "step_epochs=3", "step_factor=0.5"]


def one_cycle_rates(count, repeat=1, **options):
    """OneCycleLR cannot step beyond its end."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=RATE)
    scheduler = schedulers.OneCycleLR(optimizer, max_lr=RATE, total_steps=count, **options)
    found = []
    for number in range(count):
        found += [optimizer.param_groups[0]["lr"]] * repeat
        optimizer.step()
        if number + 1 < count:
            scheduler.step()
    return found


cases = [
    (["schedule=constant"], rates(constant, units)),
    (["schedule=constant", "warmup_epochs=2"], rates(warmed_up(8, constant), units)),
    (["schedule=cosine"], rates(cosine(units), units)),
    (["schedule=cosine", "schedule_unit=epoch"], rates(cosine(EPOCHS), EPOCHS, STEPS)),
    (["schedule=cosine", "warmup_epochs=2"], rates(warmed_up(8, cosine(units - 8)), units)),
    (["schedule=cosine", "warmup_epochs=2", "schedule_unit=epoch"], rates(warmed_up(2, cosine(8)), EPOCHS, STEPS)),
    (drops, rates(step(3), EPOCHS, STEPS)),
    (drops + ["schedule_unit=epoch"], rates(step(3), EPOCHS, STEPS)),
    (["schedule=one_cycle"], one_cycle_rates(units)),
    (["schedule=one_cycle", "schedule_unit=epoch"], one_cycle_rates(EPOCHS, STEPS)),
    (["schedule=one_cycle", "warmup_epochs=2"], one_cycle_rates(units, pct_start=0.2)),
]

accuracies = [10.0, 20.0, 20.0, 19.0, 20.0, 21.0, 20.0, 20.0, 20.0, 20.0, 20.0, 20.0, 30.0, 1.0]
optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=RATE)
plateau = schedulers.ReduceLROnPlateau(
    optimizer, mode="max", factor=0.5, patience=2, threshold=0.0, threshold_mode="abs", eps=0.0
)
after = []
for accuracy in accuracies:
    plateau.step(accuracy)
    after.append(optimizer.param_groups[0]["lr"])

result = {
    "torch": torch.__version__,
    "cases": [{"sets": sets, "rates": found} for sets, found in cases],
    "plateau": {"patience": 2, "factor": 0.5, "accuracies": accuracies, "rates": after},
}
Path(__file__).with_name("schedules.json").write_text(json.dumps(result) + "\n")
