"""How much a trained hybrid VGG depends on the order of nearly equal neighbors, measured in PyTorch.

    python tools/near_ties.py CIFAR10 MODEL...

CIFAR10 is the folder with the official binary files, MODEL a folder written by `convnn train` (model.safetensors and
config.json) for a VGG with head `linear`, layer `branching_2d`, cosine similarity and all candidates, such as
`vgg11_compact`. Needs torch, numpy and safetensors.

The same weights classify the first test images three times: in float32 with `topk`, in float32 with a stable sort
(ties by index), and in float64 with a stable sort. The figures of the first layer depend on the images alone.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

IMAGES, BATCH = 256, 8


def read(path):
    """Normalised images and labels."""
    records = torch.from_numpy(np.fromfile(path, dtype=np.uint8).reshape(-1, 3073))[:IMAGES]
    images = records[:, 1:].reshape(-1, 3, 32, 32).float() / 255
    mean, deviation = torch.tensor([[0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]])[..., None, None]
    return (images - mean) / deviation, records[:, 0].long()


def padded_tokens(x, pad):
    return F.pad(x, (pad,) * 4).flatten(2).mT


def cosine(tokens):
    """Scores of every token for every token; the token itself comes first."""
    unit = F.normalize(tokens, dim=2)
    scores = (unit @ unit.mT).clamp(-1, 1)
    torch.diagonal(scores, dim1=1, dim2=2).fill_(torch.inf)
    return scores


def topk(scores, k):
    return scores.topk(k, dim=2).indices


def stable(scores, k):
    return scores.sort(dim=2, descending=True, stable=True).indices[..., :k]


MODES = {
    "f32 topk": (torch.float32, topk),
    "f32 stable": (torch.float32, stable),
    "f64 stable": (torch.float64, stable),
}


def branching(w, name, x, index, pad):
    """The layer `branching_2d`, given the neighbors (B, N, K) of the padded tokens."""
    height, width = x.shape[2:]
    index = index.unflatten(1, (height + 2 * pad, width + 2 * pad))[:, pad : pad + height, pad : pad + width].flatten(1)
    tokens = padded_tokens(x, pad)
    chosen = tokens.gather(1, index[..., None].expand(-1, -1, tokens.shape[2])).mT
    weight, bias = w[name + "branch1.conv1d_layer.weight"], w[name + "branch1.conv1d_layer.bias"]
    first = F.conv1d(chosen, weight, bias, stride=weight.shape[2]).unflatten(2, (height, width))
    second = F.conv2d(x, w[name + "branch2.weight"], w[name + "branch2.bias"], padding="same")
    return F.conv2d(torch.cat((first, second), 1), w[name + "pointwise_conv.weight"], w[name + "pointwise_conv.bias"])


def predict(config, w, x, mode, first_index):
    """Predicted classes, computed as `mode` says."""
    dtype, choose = MODES[mode]
    x, w = x.to(dtype), {name: value.to(dtype) for name, value in w.items()}
    pad, k, i = config["layer"]["padding"], config["layer"]["neighbors"], 0
    for width in config["model"]["features"]:
        if width == "M":
            x, i = F.max_pool2d(x, 2), i + 1
            continue
        index = first_index if i == 0 else choose(cosine(padded_tokens(x, pad)), k)
        x = branching(w, f"features.{i}.", x, index, pad)
        statistics = [w[f"features.{i + 1}.{name}"] for name in ("running_mean", "running_var", "weight", "bias")]
        x, i = F.batch_norm(x, *statistics).relu(), i + 3
    return F.linear(x.mean((2, 3)), w["classifier.weight"], w["classifier.bias"]).argmax(1)


def tied(scores, tokens, k):
    """(B, N): tokens with two candidates of different color and equal scores, both or one of them among the k."""
    top = scores.sort(dim=2, descending=True, stable=True)
    score, index = top.values[..., : k + 1], top.indices[..., : k + 1]
    color = tokens.gather(1, index.flatten(1)[..., None].expand(-1, -1, 3)).unflatten(1, index.shape[1:])
    equal = score[..., 1:] == score[..., :-1]
    return (equal & (color[..., 1:, :] != color[..., :-1, :]).any(3)).any(2)


def first_layer(images, pad, k):
    """The neighbors that each mode chooses for the images themselves, and what differs between the modes."""
    chosen = {mode: [] for mode in MODES}
    ties = {dtype: [] for dtype in (torch.float32, torch.float64)}
    inside = F.pad(torch.ones(1, 32, 32, dtype=torch.bool), (pad,) * 4).flatten()
    for x in images.split(BATCH):
        for dtype in ties:
            tokens = padded_tokens(x.to(dtype), pad)
            scores = cosine(tokens)
            for mode, (of, choose) in MODES.items():
                if of == dtype:
                    chosen[mode].append(choose(scores, k))
            ties[dtype].append(tied(scores, tokens, k)[:, inside].sum(1))
    chosen = {mode: torch.cat(index) for mode, index in chosen.items()}
    tokens = padded_tokens(images, pad)
    for one, other in (("f32 topk", "f32 stable"), ("f32 stable", "f64 stable")):
        a, b = chosen[one][:, inside], chosen[other][:, inside]
        colors = [tokens.gather(1, i.flatten(1)[..., None].expand(-1, -1, 3)) for i in (a, b)]
        share = (a != b).double().mean(), (colors[0] != colors[1]).any(2).double().mean()
        print(f"first layer, {one} against {other}: {share[0]:.2%} of the neighbors differ, {share[1]:.2%} in color")
    for dtype, counts in ties.items():
        low, middle, high = torch.cat(counts).double().quantile(torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64))
        span = f"{low:.0f} to {high:.0f}, median {middle:.0f} of 1024"
        print(f"tokens of an image with a tie between colors, {dtype}: {span}")
    return chosen


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cifar10", type=Path)
    parser.add_argument("models", type=Path, nargs="+")
    arguments = parser.parse_args()
    images, labels = read(arguments.cifar10 / "test_batch.bin")
    first = None
    for folder in arguments.models:
        config, weights = json.loads((folder / "config.json").read_text()), load_file(folder / "model.safetensors")
        first = first or first_layer(images, config["layer"]["padding"], config["layer"]["neighbors"])
        classes = {}
        for mode in MODES:
            batches = zip(images.split(BATCH), first[mode].split(BATCH))
            classes[mode] = torch.cat([predict(config, weights, x, mode, index) for x, index in batches])
        right = ", ".join(f"{mode} {(found == labels).double().mean():.1%}" for mode, found in classes.items())
        changed = [(classes[one] != classes[other]).sum().item() for one, other in
                   (("f32 topk", "f32 stable"), ("f32 stable", "f64 stable"), ("f32 topk", "f64 stable"))]
        print(f"{folder}: right {right}; of {len(images)} images change their class: {changed[0]} topk to stable in "
              f"f32, {changed[1]} f32 to f64 stable, {changed[2]} f32 topk to f64 stable", flush=True)


if __name__ == "__main__":
    main()
