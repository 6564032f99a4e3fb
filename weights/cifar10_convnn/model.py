"""This folder's model in plain PyTorch: the numbers of model.safetensors, as config.json describes them.

    python model.py --check          compares the logits with those in reference.safetensors
    python model.py picture.jpg      names what a picture shows (needs Pillow)

    from model import load
    model = load()                   a torch.nn.Module: images (B, 3, S, S) to logits (B, classes)

Needs PyTorch alone. Letters: B batch, C channels, N tokens, T tokens with the padding, K neighbors.
"""
import argparse
import json
import math
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F

HERE = Path(__file__).resolve().parent


# ------------------------------------------------------------------------------------------------ choosing neighbors

def scores(x, y, similarity, squared=True):
    """Of x (B, C, N) with y (B, C, T): (B, N, T), larger is closer. Summed channel by channel, so that equal tokens tie."""
    if similarity == "cosine":
        x, y = (t / t.pow(2).sum(1, keepdim=True).sqrt().clamp(min=1e-12) for t in (x, y))
    total = x.new_zeros(x.shape[0], x.shape[2], y.shape[2])
    for c in range(x.shape[1]):
        a, b = x[:, c, :, None], y[:, c, None, :]
        if similarity in ("cosine", "dot"):
            total += a * b
        elif similarity == "euclidean":
            total -= (a - b) ** 2
        elif similarity == "manhattan":
            total -= (a - b).abs()
        else:
            raise ValueError(f"similarity {similarity}")
    if similarity == "cosine":
        return total.clamp(-1.0, 1.0)
    return -(-total).sqrt() if similarity == "euclidean" and not squared else total


def choose(s, k, own=None, candidates=None):
    """The K best of each row of s (B, N, T), of equal ones the lower index first. With `own`, the token itself is first."""
    if candidates is not None:
        outside = torch.ones(s.shape[2], dtype=torch.bool)
        outside[candidates] = False
        s = s.masked_fill(outside, -math.inf)
    if own is not None:
        s = s.clone()
        s[:, torch.arange(len(own)), own] = math.inf
    return torch.sort(s, dim=2, descending=True, stable=True).indices[..., :k]


def gather(values, index):
    """values (B, C, T) at index (B, N, K): (B, C, N, K)."""
    b, c, _ = values.shape
    flat = index.flatten(1).unsqueeze(1).expand(b, c, -1)
    return values.gather(2, flat).unflatten(2, index.shape[1:])


def lattice(side, n, margin):
    return [margin + i * (side - 1 - 2 * margin) // max(n - 1, 1) for i in range(n)]


class Chooser(nn.Module):
    """Keeps the neighbors that it chose last, for the check."""

    chosen = None


# ------------------------------------------------------------------------------------------------ layers on feature maps

class OnMap(Chooser):
    def __init__(self, o):
        super().__init__()
        self.k, self.padding, self.similarity, self.options = o["neighbors"], o["padding"], o["similarity"], o["candidates"]

    def enter(self, x):
        """Tokens of the padded map (B, C, T), and the places of the map's own tokens."""
        p, (h, w) = self.padding, x.shape[2:]
        places = torch.arange((h + 2 * p) * (w + 2 * p)).view(h + 2 * p, w + 2 * p)[p:p + h, p:p + w]
        self.candidates = None
        if self.options != "all":
            n, margin = self.options["spatial"]["n"], self.options["spatial"]["margin"]
            if n <= min(h, w):
                self.candidates = places[lattice(h, n, margin)][:, lattice(w, n, margin)].flatten()
        return F.pad(x, (p, p, p, p)).flatten(2), places.flatten()


class ConvNn2d(OnMap):
    def __init__(self, inputs, outputs, o):
        super().__init__(o)
        groups = inputs if o["kernel"] == "depthwise" else 1
        self.conv1d_layer = nn.Conv1d(inputs, outputs, self.k, stride=self.k, groups=groups)

    def forward(self, x):
        tokens, places = self.enter(x)
        s = scores(tokens[:, :, places], tokens, self.similarity)
        self.chosen = choose(s, self.k, places, self.candidates)
        return self.conv1d_layer(gather(tokens, self.chosen).flatten(2)).unflatten(2, x.shape[2:])


class ConvNn2dAttention(OnMap):
    def __init__(self, inputs, outputs, o):
        super().__init__(o)
        self.w_q, self.w_k, self.w_v = (nn.Conv1d(inputs, inputs, 1, bias=False) for _ in range(3))
        self.conv1d_layer = nn.Conv1d(inputs, inputs, self.k, stride=self.k, groups=inputs)
        self.pointwise_conv = nn.Conv1d(inputs, outputs, 1)
        self.w_o = nn.Conv1d(outputs, outputs, 1, bias=False)

    def forward(self, x):
        tokens, places = self.enter(x)
        s = scores(self.w_k(tokens)[:, :, places], self.w_q(tokens), self.similarity)
        self.chosen = choose(s, self.k, places, self.candidates)
        own = 1.0 if self.candidates is not None else 1.1 if self.similarity == "cosine" else 0.1
        logits = s.gather(2, self.chosen)
        logits = torch.cat((torch.full_like(logits[..., :1], own), logits[..., 1:]), -1)
        y = gather(self.w_v(tokens), self.chosen) * logits.softmax(-1).unsqueeze(1)
        return self.w_o(self.pointwise_conv(self.conv1d_layer(y.flatten(2)))).unflatten(2, x.shape[2:])


class Branching(nn.Module):
    def __init__(self, branch, inputs, outputs, o):
        super().__init__()
        ratio, share = o["branch_ratio"], int(outputs * o["branch_ratio"])
        if ratio != 0:
            self.branch1 = branch(inputs, share, o)
        if ratio != 1:
            self.branch2 = nn.Conv2d(inputs, outputs - share, o["kernel_size"], padding="same")
        self.pointwise_conv = nn.Conv2d(outputs, outputs, 1)

    def forward(self, x):
        branches = [getattr(self, name) for name in ("branch1", "branch2") if hasattr(self, name)]
        return self.pointwise_conv(torch.cat([branch(x) for branch in branches], 1))


def layer_2d(o, inputs, outputs):
    kind = o["kind"]
    if kind == "conv2d":
        return nn.Conv2d(inputs, outputs, o["kernel_size"], padding="same")
    branch = ConvNn2dAttention if kind.endswith("attention") else ConvNn2d
    return Branching(branch, inputs, outputs, o) if kind.startswith("branching") else branch(inputs, outputs, o)


class Vgg(nn.Module):
    def __init__(self, m, o):
        super().__init__()
        layers, channels = [], 3
        for entry in m["features"]:
            if entry == "M":
                layers.append(nn.MaxPool2d(2))
            else:
                layers += [layer_2d(o, channels, entry), nn.BatchNorm2d(entry), nn.ReLU()]
                channels = entry
        self.features, self.linear = nn.Sequential(*layers), m["head"] == "linear"
        hidden, dropout = m["hidden"], m["dropout"]
        self.classifier = nn.Linear(channels, m["classes"]) if self.linear else nn.Sequential(
            nn.Linear(channels * 49, hidden), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, m["classes"]))

    def forward(self, images):
        x = self.features(images)
        return self.classifier(x.mean((2, 3)) if self.linear else F.adaptive_avg_pool2d(x, 7).flatten(1))


# ------------------------------------------------------------------------------------------------ token mixers

class Mixer(Chooser):
    def __init__(self, dim, o):
        super().__init__()
        self.heads = o["heads"]
        self.W_q, self.W_k, self.W_v, self.W_o = (nn.Linear(dim, dim, bias=o.get("bias", False)) for _ in range(4))

    def split(self, x):
        """(B, N, D) to (B·heads, d, N)."""
        return x.unflatten(2, (self.heads, -1)).permute(0, 2, 3, 1).flatten(0, 1)

    def join(self, x):
        """(B·heads, d, N) to (B, N, D)."""
        return x.unflatten(0, (-1, self.heads)).permute(0, 3, 1, 2).flatten(2)


class MultiHeadAttention(Mixer):
    def forward(self, x):
        q, k, v = (self.split(w(x)) for w in (self.W_q, self.W_k, self.W_v))
        weights = (q.transpose(1, 2) @ k / math.sqrt(q.shape[1])).softmax(-1)
        return self.W_o(self.join(v @ weights.transpose(1, 2)))


class ConvNnAttention(Mixer):
    def __init__(self, dim, o):
        super().__init__(dim, o)
        self.k, self.similarity, self.modulation = o["neighbors"], o["similarity"], o["modulation"]
        self.options, d = o["candidates"], dim // o["heads"]
        conv = lambda size, groups: nn.Conv1d(d, d, size, stride=size, groups=groups, bias=False)
        self.conv = {"standard": lambda: conv(self.k, 1), "depthwise": lambda: conv(self.k, d),
                     "depthwise_separable": lambda: nn.Sequential(conv(self.k, d), conv(1, 1))}[o["kernel"]]()

    def forward(self, x):
        k, q, v = (self.split(w(x)) for w in (self.W_k, self.W_q, self.W_v))
        s = scores(k, q, self.similarity, squared=False)
        s = s / math.sqrt(k.shape[1]) if self.similarity == "dot" else s
        distance = self.similarity in ("euclidean", "manhattan")
        if self.options == "all":
            self.chosen = choose(s, self.k)
            rho = s.gather(2, self.chosen)
        else:
            n, margin = self.options["spatial"]["n"], self.options["spatial"]["margin"]
            self.chosen = choose(s, self.k, torch.arange(s.shape[1]), lattice(s.shape[1], n, margin))
            rho = s.gather(2, self.chosen)
            rho = torch.cat((torch.full_like(rho[..., :1], -1.0 if distance else 1.0), rho[..., 1:]), -1)
        if self.modulation == "softmax":
            rho = rho.softmax(-1)
        elif self.modulation == "none":
            rho = torch.ones_like(rho)
        elif distance:
            rho = 1 / (-rho + 1e-8)
        return self.W_o(self.join(self.conv((gather(v, self.chosen) * rho.unsqueeze(1)).flatten(2))))


class Block(nn.Module):
    def __init__(self, mixer, m):
        super().__init__()
        self.attention, self.norm1, self.norm2 = mixer, nn.LayerNorm(m["dim"]), nn.LayerNorm(m["dim"])
        self.dropout, width = nn.Dropout(m["dropout"]), m["dim"]
        self.mlp = nn.Sequential(nn.Linear(width, m["mlp"]), nn.GELU(), nn.Dropout(m["dropout"]), nn.Linear(m["mlp"], width))

    def forward(self, x):
        x = x + self.dropout(self.attention(self.norm1(x)))
        return x + self.dropout(self.mlp(self.norm2(x)))


class PatchEmbedding(nn.Module):
    def __init__(self, m):
        super().__init__()
        self.linear_projection = nn.Conv2d(3, m["dim"], m["patch"], stride=m["patch"])
        self.norm = nn.LayerNorm(m["dim"])

    def forward(self, images):
        return self.norm(self.linear_projection(images).flatten(2).transpose(1, 2))


class PositionalEncoding(nn.Module):
    def __init__(self, m):
        super().__init__()
        tokens, dim = (m["image"] // m["patch"]) ** 2 + 1, m["dim"]
        self.cls_tokens = nn.Parameter(torch.zeros(1, 1, dim))
        angle = torch.arange(tokens).float()[:, None] * torch.exp(torch.arange(0, dim, 2).float() * (-math.log(1e4) / dim))
        self.register_buffer("pe", torch.stack((angle.sin(), angle.cos()), -1).flatten(1)[None, :, :dim])

    def forward(self, x):
        return torch.cat((self.cls_tokens.expand(x.shape[0], -1, -1), x), 1) + self.pe


class Vit(nn.Module):
    def __init__(self, m, o):
        super().__init__()
        mixer = MultiHeadAttention if o["kind"] == "multi_head_attention" else ConvNnAttention
        self.patch_embedding, self.positional_encoding = PatchEmbedding(m), PositionalEncoding(m)
        self.transformer_encoder = nn.Sequential(*[Block(mixer(m["dim"], o), m) for _ in range(m["layers"])])
        self.classifier = nn.Linear(m["dim"], m["classes"])

    def forward(self, images):
        return self.classifier(self.transformer_encoder(self.positional_encoding(self.patch_embedding(images)))[:, 0])


# ------------------------------------------------------------------------------------------------ use

CONFIG = json.loads((HERE / "config.json").read_text())
CLASSES = CONFIG.get("labels")


def load_file(path):
    """The tensors of a safetensors file by name: the length of a JSON header, the header, and the numbers."""
    data = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(data[:8], "little")
    types = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}
    entries = {name: entry for name, entry in json.loads(data[8:start]).items() if name != "__metadata__"}
    return {name: torch.frombuffer(data[start + e["data_offsets"][0]:start + e["data_offsets"][1]],
                                   dtype=types[e["dtype"]]).reshape(e["shape"]) for name, e in entries.items()}


def load(dtype=torch.float32):
    """The model in evaluation mode. Every tensor of the file must be one of the model, and the other way round."""
    model = {"vgg": Vgg, "vit": Vit}[CONFIG["model"]["architecture"]](CONFIG["model"], CONFIG["layer"])
    tensors = load_file(HERE / "model.safetensors")
    # Computed, not learned; 16 bits would round it.
    positions = {name: buffer.clone() for name, buffer in model.named_buffers() if name.endswith(".pe")}
    # PyTorch counts batches; nothing depends on it in evaluation.
    counters = {name: t for name, t in model.state_dict().items() if name.endswith(".num_batches_tracked")}
    model.load_state_dict({**counters, **tensors, **positions} if positions.keys() <= tensors.keys() else tensors, strict=True)
    return model.to(dtype).eval()


def preprocess(picture):
    """A PIL image as an input (1, 3, S, S): turned upright, the shorter side resized, the center kept, normalized."""
    from PIL import ImageOps

    picture = ImageOps.exif_transpose(picture)
    p, (width, height) = CONFIG["preprocessing"], picture.size
    size, short = p["size"], min(picture.size)
    width, height = (size * side // short for side in (width, height))
    picture = picture.convert("RGB").resize((width, height), resample=2)
    left, top = round((width - size) / 2), round((height - size) / 2)
    square = picture.crop((left, top, left + size, top + size))
    pixels = torch.frombuffer(bytearray(square.tobytes()), dtype=torch.uint8).view(size * size, 3)
    mean, sd = (torch.tensor(p[key]).view(1, 3, 1, 1) for key in ("mean", "sd"))
    return (pixels.T.reshape(1, 3, size, size) / 255 - mean) / sd


def check():
    """Compares logits in 64 bits, and says what 32 bits change."""
    reference = load_file(HERE / "reference.safetensors")
    runs = {}
    for dtype in (torch.float64, torch.float32):
        model = load(dtype)
        with torch.no_grad():
            logits = model(reference["images"].to(dtype))
        chosen = [(name, m.chosen) for name, m in model.named_modules() if getattr(m, "chosen", None) is not None]
        runs[dtype] = logits.double(), chosen
    expected = reference["logits"]
    (logits, exact), (rounded, single) = runs[torch.float64], runs[torch.float32]
    difference = (logits - expected).abs().max().item()
    limit = 1e-5 * max(1.0, expected.abs().max().item())
    # Sets of neighbors, since the order within a tie is not a choice.
    changed, total = 0, 0
    for (_, a), (_, b) in zip(exact, single):
        changed += (a.unsqueeze(-1) != b.unsqueeze(-2)).all(-1).sum().item()
        total += a.numel()
    print(f"{len(expected)} images: logits differ by at most {difference:.1e} in 64 bits (allowed {limit:.1e})")
    print(f"in 32 bits by {(rounded - expected).abs().max().item():.1e}" +
          (f"; {changed} of {total} neighbors change" if total else ""))
    if not difference <= limit:
        raise SystemExit("the logits are not those of the reference")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", nargs="?")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    if arguments.check:
        check()
    elif arguments.picture:
        from PIL import Image
        with torch.no_grad():
            probabilities = load()(preprocess(Image.open(arguments.picture))).softmax(-1)[0]
        for p, index in zip(*probabilities.topk(min(3, len(probabilities)))):
            print(f"{p:6.1%}  {CLASSES[index] if CLASSES else index.item()}")
    else:
        parser.print_help()
