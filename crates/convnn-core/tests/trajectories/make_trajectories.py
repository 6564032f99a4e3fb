"""Writes trajectories.safetensors beside this script: python make_trajectories.py (needs torch and safetensors).

Optimizers, clipping, moving averages and losses of PyTorch in float64, step by step. A case is the group of tensors
`CASE/…`; its options are JSON in the metadata. Optimizers start from `weight` and `bias` and get the gradients
`weight.STEP` and `bias.STEP`, which all of them share.
"""

import json
import unittest.mock
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

STEPS = 6
DTYPE = torch.float64


def number(*shape, scale=1.0):
    return torch.randn(*shape, dtype=DTYPE) * scale


torch.manual_seed(0)
tensors = {"weight": number(3, 5), "bias": number(5)}
for step in range(STEPS):
    tensors |= {f"weight.{step}": number(3, 5, scale=2.0), f"bias.{step}": number(5, scale=0.1)}
cases = {}


def trajectory(name, make, clip_grad_norm=None, clip_grad_value=None, decay_norms_and_biases=True, ema_decay=None, **options):
    weight, bias = (torch.nn.Parameter(tensors[key].clone()) for key in ("weight", "bias"))
    undecayed = {} if decay_norms_and_biases else {"weight_decay": 0.0}
    optimizer = make([{"params": [weight]}, {"params": [bias], **undecayed}], **options)
    model = torch.nn.ParameterList([weight, bias])
    if ema_decay:
        average = torch.optim.swa_utils.AveragedModel(
            model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(ema_decay)
        )
    weights, biases = [], []
    for step in range(STEPS):
        weight.grad, bias.grad = (tensors[f"{key}.{step}"].clone() for key in ("weight", "bias"))
        if clip_grad_norm:
            torch.nn.utils.clip_grad_norm_([weight, bias], clip_grad_norm)
        if clip_grad_value:
            torch.nn.utils.clip_grad_value_([weight, bias], clip_grad_value)
        optimizer.step()
        if ema_decay:
            average.update_parameters(model)
        shown = list(average.module) if ema_decay else [weight, bias]
        weights.append(shown[0].detach().clone())
        biases.append(shown[1].detach().clone())
    tensors.update({f"{name}/weight": torch.stack(weights), f"{name}/bias": torch.stack(biases)})
    cases[name] = {
        "optimizer": make.__name__,
        "clip_grad_norm": clip_grad_norm,
        "clip_grad_value": clip_grad_value,
        "decay_norms_and_biases": decay_norms_and_biases,
        "ema_decay": ema_decay,
        **options,
    }


for make in (torch.optim.AdamW, torch.optim.Adam):
    name = make.__name__.lower()
    trajectory(name, make, lr=0.05, weight_decay=0.1)
    trajectory(f"{name}_norms", make, lr=0.05, weight_decay=0.1, decay_norms_and_biases=False)
    trajectory(f"{name}_options", make, lr=0.2, weight_decay=0.0, betas=(0.8, 0.95), eps=1e-3, clip_grad_norm=1.0)
sgd = torch.optim.SGD
trajectory("sgd", sgd, lr=0.1, weight_decay=0.1)
trajectory("sgd_momentum", sgd, lr=0.1, weight_decay=0.1, momentum=0.9)
trajectory("sgd_nesterov", sgd, lr=0.1, weight_decay=0.1, momentum=0.9, nesterov=True)
trajectory("sgd_norms", sgd, lr=0.1, weight_decay=0.1, momentum=0.9, decay_norms_and_biases=False)
trajectory("sgd_clip_value", sgd, lr=0.1, weight_decay=0.1, momentum=0.9, clip_grad_value=0.5)
trajectory("sgd_clip_both", sgd, lr=0.1, weight_decay=0.0, clip_grad_norm=2.0, clip_grad_value=0.5)


class Muon:
    """PyTorch's Muon for matrices, with its iteration in float64 instead of bfloat16, and AdamW for the rest."""

    def __init__(self, groups, momentum, **options):
        matrices, others = (options | group for group in groups)
        self.muon = torch.optim.Muon([{**matrices, "momentum": momentum}], adjust_lr_fn="match_rms_adamw")
        self.adamw = torch.optim.AdamW([others])

    def step(self):
        with unittest.mock.patch.object(torch, "bfloat16", DTYPE):
            self.muon.step()
        self.adamw.step()


trajectory("muon", Muon, lr=0.05, weight_decay=0.1, momentum=0.95)
trajectory("muon_norms", Muon, lr=0.05, weight_decay=0.1, momentum=0.8, decay_norms_and_biases=False)
trajectory("muon_clip_both", Muon, lr=0.1, weight_decay=0.0, momentum=0.95, clip_grad_norm=2.0, clip_grad_value=0.5)
trajectory("adamw_average", torch.optim.AdamW, lr=0.05, weight_decay=0.1, ema_decay=0.9)

logits, labels = number(4, 7, scale=3.0), torch.tensor([3, 0, 6, 3])
soft = number(4, 7).softmax(1)
one_hot = F.one_hot(labels, 7).to(DTYPE)


def loss(name, function, value, targets, smoothing):
    x = logits.clone().requires_grad_()
    result = function(x)
    result.backward()
    tensors.update({f"{name}/loss": result.detach(), f"{name}/gradient": x.grad})
    cases[name] = {"loss": value, "targets": targets, "label_smoothing": smoothing}


tensors.update({"logits": logits, "labels": labels.to(torch.uint32), "soft": soft})
for smoothing in (0.0, 0.1):
    for targets, target in (("labels", labels), ("soft", soft)):
        name = f"cross_entropy_{targets}_{smoothing}"
        cross_entropy = lambda x: F.cross_entropy(x, target, label_smoothing=smoothing)
        loss(name, cross_entropy, "cross_entropy", targets, smoothing)
loss("mse_labels", lambda x: F.mse_loss(x, one_hot), "mse", "labels", 0.0)
loss("mse_soft", lambda x: F.mse_loss(x, soft), "mse", "soft", 0.0)

metadata = {"cases": json.dumps(cases), "torch": torch.__version__}
save_file({key: value.contiguous() for key, value in tensors.items()}, Path(__file__).with_name("trajectories.safetensors"), metadata)
