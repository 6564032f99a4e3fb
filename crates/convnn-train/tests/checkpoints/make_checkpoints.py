"""Writes the checkpoints beside it: python make_checkpoints.py (needs torch and safetensors).

Two small models under the authors' names, as people save them, and files that hold more than tensors.
"""
import argparse
import os
import torch
import torch.nn as nn
from safetensors.torch import save_file

HERE = os.path.dirname(os.path.abspath(__file__))
D, MLP, PATCH, IMAGE, CLASSES = 8, 8, 4, 32, 10


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.W_q, self.W_k, self.W_v, self.W_o = (nn.Linear(D, D, bias=False) for _ in range(4))
        self.conv = nn.Conv1d(D, D, 3, stride=3, groups=D, bias=False)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = Attention()
        self.norm1, self.norm2 = nn.LayerNorm(D), nn.LayerNorm(D)
        self.mlp = nn.Sequential(nn.Linear(D, MLP), nn.GELU(), nn.Dropout(), nn.Linear(MLP, D))


class Positions(nn.Module):
    def __init__(self, length):
        super().__init__()
        self.cls_tokens = nn.Parameter(torch.randn(1, 1, D))
        position = torch.arange(length).float()[:, None]
        frequency = torch.exp(torch.arange(0, D, 2).float() * (-torch.log(torch.tensor(10000.0)) / D))
        pe = torch.zeros(length, D)
        pe[:, 0::2], pe[:, 1::2] = torch.sin(position * frequency), torch.cos(position * frequency)
        self.register_buffer("pe", pe[None])


class Embedding(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear_projection = nn.Conv2d(3, D, PATCH, stride=PATCH)
        self.norm = nn.LayerNorm(D)


class ViT(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch_embedding = Embedding()
        self.positional_encoding = Positions((IMAGE // PATCH) ** 2 + 1)
        self.transformer_encoder = nn.Sequential(Block())
        self.classifier = nn.Linear(D, CLASSES)


class VGG(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, padding="same"), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2))
        self.classifier = nn.Linear(4, 100)


class Calls:
    """What a pickle can do to whoever loads it."""

    def __reduce__(self):
        return os.system, ("touch convnn_was_here",)


def path(name):
    return os.path.join(HERE, name)


torch.manual_seed(0)
vit, vgg = ViT(), VGG()
for module in vgg.modules():
    if isinstance(module, nn.BatchNorm2d):
        module.running_mean.normal_()
        module.running_var.uniform_(0.5, 2)
        module.num_batches_tracked.fill_(7)
torch.save(vit.state_dict(), path("vit.pth"))
save_file(vit.state_dict(), path("vit.safetensors"))
# Saved while wrapped for several devices, beside an optimizer, as parameters, one transposed, one in half precision.
state = dict(nn.DataParallel(vgg).state_dict())
save_file({name.removeprefix("module."): tensor.contiguous() for name, tensor in state.items()}, path("vgg.safetensors"))
state["module.classifier.weight"] = nn.Parameter(vgg.classifier.weight.data.T.contiguous().T)
state["module.features.0.bias"] = state["module.features.0.bias"].half()
optimizer = torch.optim.AdamW(vgg.parameters()).state_dict()
torch.save({"epoch": 3, "state_dict": state, "optimizer": optimizer}, path("vgg_wrapped.pth"))
# As the published code writes it: beside the best accuracy, which is a tensor too, and the arguments of the run.
arguments = argparse.Namespace(
    dataset="cifar10", layer="ConvNNAttention", K=3, num_heads=1, sampling_type="random", num_samples=16, metric="cosine",
    conv_type="depthwise", softmax_topk_val=True, lr=1e-4, seed=42, clip=None, milestones=[50, 100], extra={"a": 1},
)
torch.save(
    {"epoch": 3, "model_state_dict": vit.state_dict(), "best_acc": torch.tensor(75.3), "args": arguments}, path("published.pth")
)
torch.save({"model": vgg.state_dict(), "args": argparse.Namespace(lr=0.1)}, path("namespace.pth"))
torch.save({"model": vit.state_dict(), "args": argparse.Namespace(dataset="ImageNet1K")}, path("imagenet.pth"))
for name, dtype in [("half.pth", torch.float16), ("bfloat16.pth", torch.bfloat16)]:
    torch.save({key: tensor.to(dtype) for key, tensor in vit.state_dict().items()}, path(name))
# The fast layers of the 2026 code.
fast = {key.replace(".conv.weight", ".conv_weight"): tensor for key, tensor in vit.state_dict().items()}
torch.save(fast, path("fast.pth"))
# A hundred tensors in one storage of 4 KB.
storage = torch.arange(1024).float()
torch.save({f"part.{i}": storage[i : i + 2] for i in range(100)}, path("views.pth"))
torch.save({"weight": torch.zeros(1), "other": Calls()}, path("calls.pth"))
torch.save({"weight": torch.zeros(1), "args": argparse.Namespace(call=Calls())}, path("namespace_calls.pth"))
torch.save(vgg.state_dict(), path("before_1_6.pth"), _use_new_zipfile_serialization=False)
