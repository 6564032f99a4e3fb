"""Reads the events of a run with the real TensorBoard, and checks what its pages would show.

    pip install tensorboard
    python tools/read_tensorboard.py runs/first [runs/second ...]

For each run: every scalar with its points, whether their steps rise (they do not if a resumed run writes points twice),
and the hyperparameters as the HParams page groups them. Exits with 1 if something is missing or out of order.
"""

import json
import pathlib
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

STEP = ["step/loss", "step/learning_rate", "step/gradient_norm"]
EPOCH = ["epoch", "loss/train", "loss/test", "top1/train", "top1/test", "top5/test", "learning_rate"]


PARSERS = {
    "_hparams_/experiment": metadata.parse_experiment_plugin_data,
    "_hparams_/session_start_info": metadata.parse_session_start_info_plugin_data,
    "_hparams_/session_end_info": metadata.parse_session_end_info_plugin_data,
}


def hyperparameters(events):
    """The messages of the plugin by their tags, parsed as the plugin does."""
    contents = events.PluginTagToContent("hparams")
    return {tag: PARSERS[tag](content) for tag, content in contents.items()}


def check(run):
    faults = []
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    scalars = events.Tags()["scalars"]
    faults += [f"no scalar {tag}" for tag in STEP + EPOCH if tag not in scalars]
    for tag in scalars:
        points = events.Scalars(tag)
        steps = [point.step for point in points]
        rising = all(a < b for a, b in zip(steps, steps[1:]))
        print(f"  {tag:22} {len(steps):5} points, steps {steps[0]} to {steps[-1]}, last value {points[-1].value:.5g}")
        if not rising:
            faults.append(f"the steps of {tag} do not rise: {steps}")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    if "epoch" in scalars and [point.value for point in events.Scalars("epoch")] != [line["epoch"] for line in lines]:
        faults.append("the epochs are not those of metrics.jsonl")
    found = hyperparameters(events)
    for tag in ["_hparams_/experiment", "_hparams_/session_start_info"]:
        if tag not in found:
            faults.append(f"no {tag}")
    if (run / "DONE").exists() and "_hparams_/session_end_info" not in found:
        faults.append("the run is done, but no _hparams_/session_end_info")
    if "_hparams_/session_start_info" in found:
        start = found["_hparams_/session_start_info"]
        print(f"  {len(start.hparams)} hyperparameters of {start.group_name!r}, among them", end=" ")
        print(", ".join(f"{key} = {start.hparams[key]}".strip() for key in ["seed", "preset", "layer.kind"]))
        described = {info.name for info in found["_hparams_/experiment"].hparam_infos}
        if described != set(start.hparams):
            faults.append("the experiment describes other hyperparameters than the run has")
    return faults


def main():
    if len(sys.argv) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    faults = []
    for run in map(pathlib.Path, sys.argv[1:]):
        print(run)
        faults += [f"{run}: {fault}" for fault in check(run)]
    print("\n".join(faults) or "all in order")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
