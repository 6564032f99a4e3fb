#!/bin/sh
# A stand-in for `convnn` in tests of xtask: describes configurations, and writes run folders like the trainer's, with invented
# numbers.
#   CALLS      file to which every call of `train` is appended
#   FAIL_ON    fails in runs whose settings contain this, after the run has started
#   WAIT_ON    waits there for a signal, and takes half a second to save
#   NO_DATA    refuses to train, as if the data folder were missing
set -eu
sub=$1
shift
preset= json= dry= out= epochs=0 seed=0 data=search
[ "$sub" = info ] && { preset=$1; shift; }
keys= toml=
add() {
    value=$(printf %s "$2" | tr '"' "'")
    keys="$keys\"$1\": \"$value\", "
    toml="$toml\"$1\" = \"$value\"
"
}
all="$*"
while [ $# -gt 0 ]; do
    case $1 in
    --json) json=1; shift; continue ;;
    --dry-run) dry=1; shift; continue ;;
    --resume) shift; continue ;;
    --out) out=$2 ;;
    --preset) preset=$2 ;;
    --epochs) epochs=$2; add epochs "$2" ;;
    --dataset) add dataset "$2" ;;
    --data) data=$2 ;;
    --seed) seed=$2 ;;
    --set) add "${2%%=*}" "${2#*=}" ;;
    esac
    shift 2
done
case $sub in
info)
    echo "{\"params\": 123456, \"gflops\": 0.125, \"memory_bytes\": 5000000, \"config\": {$keys\"preset\": \"$preset\", \"data\": \"search\", \"seed\": 0}}"
    exit 0
    ;;
equivalences)
    echo '[{"operation": "convolution", "choices": "nearest", "f64": 0.0, "f32": 1e-7}]'
    exit 0
    ;;
eval)
    echo '{"top1": 80.0, "top1_interval": [75.0, 85.0], "images": 256}'
    exit 0
    ;;
esac
if [ -n "${NO_DATA:-}" ]; then
    echo "error: CIFAR-10 was not found" >&2
    exit 2
fi
if [ -n "$dry" ]; then
    echo '{"gflops": 0.125, "disk_bytes": 1000000, "seconds_per_epoch": 60.0}'
    exit 0
fi
echo "$all" >>"$CALLS"
mkdir -p "$out"
printf 'preset = "%s"\ndata = "%s"\nseed = %s\n%s' "$preset" "$data" "$seed" "$toml" >"$out/config.toml"
echo '{"convnn": "0", "candle": "0", "device": "cpu", "cpu": null, "threads": 1, "system": "test", "started": 1790000000, "revision": "0123456789"}' >"$out/environment.json"
echo "training $preset" >&2
case $all in *"${FAIL_ON:-nothing}"*)
    echo "error: the loss is not finite" >&2
    exit 1
    ;;
esac
case $all in *"${WAIT_ON:-nothing}"*)
    for signal in INT TERM HUP USR1; do
        case $signal in INT) code=130 ;; TERM) code=143 ;; HUP) code=129 ;; USR1) code=138 ;; esac
        trap "sleep 0.5; echo $signal >'$out/saved'; exit $code" $signal
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
