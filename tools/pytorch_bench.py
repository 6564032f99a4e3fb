"""The cases of `convnn bench` in PyTorch, for a comparison on one machine:

    cargo xtask bench --peer "python tools/pytorch_bench.py --best" --at-least 1 --cases vgg11_hybrid_step --name pytorch-best

Prints a line of JSON for each case: the seconds of the fastest repeat after one warm-up, and the peak memory of the process.
The networks are those of weights/cifar10_hybrid/model.py at full size, with scores as a matrix product and neighbors by `topk`,
and with dropout. Needs torch; faiss for `--faiss`.

A `*_step` is forward, cross entropy, backward, clipping to norm 1 and an update by AdamW; an `*_infer` is an evaluation. `--ways`
says how, in words joined by +: `fused` (AdamW in one kernel), `channels_last`, `sdpa` (fused attention), `compile`, `bf16`
(autocast). `--best` tries those that make sense for a case, each in its own process, and prints the fastest.
"""

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "weights/cifar10_hybrid"))
import model as convnn

DROPOUT = 0.1
VGG = {"features": [64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"], "head": "adaptive", "hidden": 4096,
       "dropout": 0.5, "classes": 10}
VIT = {"image": 224, "patch": 16, "dim": 192, "mlp": 768, "layers": 12, "dropout": DROPOUT, "classes": 10}
ON_MAPS = {"kind": "branching_2d", "kernel_size": 3, "neighbors": 9, "padding": 1, "similarity": "cosine", "candidates": "all",
           "kernel": "standard"}
NETWORKS = {
    "vgg11_conv": lambda: convnn.Vgg(VGG, {**ON_MAPS, "branch_ratio": 0.0}),
    "vgg11_hybrid": lambda: convnn.Vgg(VGG, {**ON_MAPS, "branch_ratio": 0.5}),
    "vgg11_convnn": lambda: convnn.Vgg(VGG, {**ON_MAPS, "branch_ratio": 1.0}),
    "vit_tiny_attention": lambda: convnn.Vit(VIT, {"kind": "multi_head_attention", "heads": 1}),
    "vit_tiny_convnn": lambda: convnn.Vit(VIT, {"kind": "conv_nn_attention", "heads": 1, "neighbors": 9, "similarity": "dot",
                                                "modulation": "softmax", "kernel": "depthwise", "candidates": "all"}),
}
# Images, channels, tokens, neighbors: layers of VGG-11 on padded 32×32 images, ViT-Tiny, a large image.
SELECT = {f"select_b{b}_c{c}_n{n}_k{k}": (b, c, n, k)
          for b, c, n, k in [(32, 3, 1156, 9), (32, 64, 324, 9), (32, 192, 197, 9), (1, 64, 16384, 9)]}
CASES = [name + end for end in ("_step", "_infer") for name in NETWORKS] + list(SELECT)


def scores(x, y, similarity, squared=True):
    """As `convnn.scores`, by a matrix product."""
    if similarity == "cosine":
        x, y = F.normalize(x, dim=1), F.normalize(y, dim=1)
    return x.transpose(1, 2) @ y


def choose(s, k, own=None, candidates=None):
    """As `convnn.choose`, with ties in any order."""
    if own is not None:
        s = s.clone()
        s[:, torch.arange(len(own)), own] = math.inf
    return torch.topk(s, k, dim=2).indices


def attention(self, x):
    q, k, v = (self.split(w(x)).transpose(1, 2) for w in (self.W_q, self.W_k, self.W_v))
    weights = F.dropout((q @ k.transpose(1, 2) / math.sqrt(q.shape[2])).softmax(-1), DROPOUT, self.training)
    return self.W_o(self.join((weights @ v).transpose(1, 2)))


def fused_attention(self, x):
    q, k, v = (self.split(w(x)).transpose(1, 2).unsqueeze(1) for w in (self.W_q, self.W_k, self.W_v))
    y = F.scaled_dot_product_attention(q, k, v, dropout_p=DROPOUT if self.training else 0.0)
    return self.W_o(self.join(y.squeeze(1).transpose(1, 2)))


def network(name, ways):
    convnn.scores, convnn.choose = scores, choose
    convnn.MultiHeadAttention.forward = fused_attention if "sdpa" in ways else attention
    net = NETWORKS[name]()
    for mixer in net.modules():
        if isinstance(mixer, convnn.ConvNnAttention):
            nn.init.ones_(mixer.conv.weight)
            mixer.conv = nn.Sequential(mixer.conv, nn.Dropout(DROPOUT))
    return net


def work(case, ways):
    """What a repeat of the case runs."""
    if case in SELECT:
        b, c, n, k = SELECT[case]
        x = torch.randn(b, c, n)
        own = torch.arange(n)
        return faiss_search(x, k) if "faiss" in ways else lambda: choose(scores(x, x, "cosine"), k, own)
    name, kind = case.rsplit("_", 1)
    images = torch.randn(*((32, 3, 224, 224) if name.startswith("vit") else (128, 3, 32, 32)))
    labels = torch.randint(0, 10, (len(images),))
    net = network(name, ways).train(kind == "step")
    if "channels_last" in ways:
        net, images = net.to(memory_format=torch.channels_last), images.contiguous(memory_format=torch.channels_last)
    run = torch.compile(net) if "compile" in ways else net
    cast = lambda: torch.autocast("cpu", dtype=torch.bfloat16, enabled="bf16" in ways)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, weight_decay=1e-2, fused="fused" in ways or None)

    def step():
        optimizer.zero_grad(set_to_none=True)
        with cast():
            loss = F.cross_entropy(run(images), labels)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()

    def infer():
        with cast():
            run(images)

    return step if kind == "step" else infer


def faiss_search(x, k):
    import faiss
    faiss.omp_set_num_threads(torch.get_num_threads())

    def search():
        for image in F.normalize(x, dim=1).transpose(1, 2).contiguous().numpy():
            faiss.knn(image, image, k, metric=faiss.METRIC_INNER_PRODUCT)

    return search


def measure(case, ways, repeats):
    torch.manual_seed(0)
    run = work(case, ways.split("+"))
    seconds = math.inf
    with torch.inference_mode(not case.endswith("_step")):
        run()
        for _ in range(repeats):
            start = time.perf_counter()
            run()
            seconds = min(seconds, time.perf_counter() - start)
    memory = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return {"case": case, "ways": ways, "seconds": seconds, "repeats": repeats, "peak_rss_mib": memory}


def worth_trying(case, bf16):
    if case in SELECT:
        return ["eager"]
    first = "fused" if case.endswith("_step") else "eager"
    middle = "channels_last" if case.startswith("vgg") else "sdpa" if "attention" in case else None
    ways = [[first, *extra, *end] for extra in ([], [middle])[:2 if middle else 1] for end in ([], ["compile"])]
    return ["+".join(way + ["bf16"] * bf16) for way in ways]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default="", help="those whose name contains this")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--ways", default="eager")
    parser.add_argument("--best", action="store_true")
    parser.add_argument("--bf16", action="store_true", help="with --best: under autocast")
    parser.add_argument("--faiss", action="store_true", help="select_*: the exact search of faiss")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    cases = [case for case in CASES if options.cases in case and (case in SELECT or not options.faiss)]
    if not cases:
        sys.exit(f"no case contains `{options.cases}`; expected one of\n  " + "\n  ".join(CASES))
    torch.set_num_threads(options.threads)
    if options.alone:
        print(json.dumps(measure(options.cases, options.ways, options.repeats)))
        return
    for case in cases:
        ways = ["faiss"] if options.faiss else worth_trying(case, options.bf16) if options.best else [options.ways]
        found = []
        for way in ways:
            command = [sys.executable, __file__, "--alone", "--cases", case, "--ways", way]
            command += ["--repeats", str(options.repeats), "--threads", str(options.threads)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode == 0:
                found.append(json.loads(done.stdout.splitlines()[-1]))
            else:
                print(f"{case} {way}: {(done.stderr.strip() or 'failed').splitlines()[-1]}", file=sys.stderr)
        if not found:
            sys.exit(1)
        print(json.dumps(min(found, key=lambda row: row["seconds"])), flush=True)


if __name__ == "__main__":
    main()
