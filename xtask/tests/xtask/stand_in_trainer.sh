#!/bin/sh
# A stand-in for `convnn train` in tests of xtask: writes a run folder like the trainer's, with invented numbers.
#   CALLS      file to which every call is appended
#   FAIL_ON    fails in run folders whose path contains this, after the run has started
#   WAIT_ON    waits there for a signal, and takes half a second to save
#   BAD_INPUT  rejects everything, as if the data folder were missing
set -eu
echo "$*" >>"$CALLS"
if [ -n "${BAD_INPUT:-}" ]; then
    echo "error: no data" >&2
    exit 2
fi
set=
while [ $# -gt 0 ]; do
    case $1 in
    train | --resume) shift; continue ;;
    --out) out=$2 ;;
    --preset) preset=$2 ;;
    --epochs) epochs=$2 ;;
    --seed) seed=$2 ;;
    --set) set="$set${2%%=*} = ${2#*=}
" ;;
    esac
    shift 2
done
if [ -f "$out/DONE" ]; then exit 0; fi
mkdir -p "$out"
printf 'preset = "%s"\n%s' "$preset" "$set" >"$out/config.toml"
echo '{"convnn": "0", "candle": "0", "device": "cpu", "cpu": null, "threads": 1, "system": "test"}' >"$out/environment.json"
echo "training $preset" >&2
case $out in *"${FAIL_ON:-nothing}"*)
    echo "error: the loss is not finite" >&2
    exit 1
    ;;
esac
case $out in *"${WAIT_ON:-nothing}"*)
    for signal in INT TERM HUP; do
        trap "sleep 0.5; echo $signal >'$out/saved'; exit 130" $signal
    done
    : >"$out/waiting"
    while :; do sleep 0.05; done
    ;;
esac
: >"$out/metrics.jsonl"
epoch=0
while [ $epoch -lt "$epochs" ]; do
    epoch=$((epoch + 1))
    echo "{\"epoch\": $epoch, \"train_loss\": 2.$seed, \"test_top1\": 1$epoch.5, \"seconds\": 1.5}" >>"$out/metrics.jsonl"
done
score='{"top1": 12.5, "top5": 55.0, "loss": 2.25, "epoch": 2}'
cat >"$out/result.json" <<END
{"final": $score, "last5": $score, "best": $score, "params": 123456, "gflops": 0.125, "seconds_per_epoch": 1.5,
 "preset": "$preset", "dataset": "cifar10", "seed": $seed, "epochs": $epochs}
END
: >"$out/DONE"
