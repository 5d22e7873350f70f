#!/bin/bash
# Prunes one big model in Hugging Face Jobs: one for the windows, one a shard, one that merges and prunes.
#
#   hf buckets create fleet
#   MODEL=org/model BUCKET=me/fleet SHARDS=4 SPARSITY=30% examples/fleet/hugging-face/run.sh
#
# DRY_RUN=1 prints each Job and submits none.
set -euo pipefail
: "${MODEL:?name of the model on the Hub}" "${BUCKET:?such as me/fleet}" "${SHARDS:?number of shards}" "${SPARSITY:?such as 30%}"
flavor=${FLAVOR:-cpu-xl}
method=${METHOD:-auto}
# Windows that are read again for the input repair of `auto`; REPAIR= for methods that have none.
repair=${REPAIR---windows 32}

# Submits a Job and prints its id: name, then a command for its shell. The model is mounted at /model, the bucket at /fleet. A bucket holds
# whole files: what a run writes bit by bit stays on the Job's own disk, and is copied when it is done.
submit() {
  local name=$1 command=$2
  set -- hf jobs run --detach --quiet --name "$name" --flavor "$flavor" --timeout "${TIMEOUT:-12h}" --attempts 3 \
    --env ONNXRUNTIME_NODE_INSTALL=skip --volume "hf://$MODEL:/model:ro" --volume "hf://buckets/$BUCKET:/fleet" \
    node:22 bash -c "set -eu; $command"
  if [ "${DRY_RUN:-}" = 1 ]; then
    hf jobs run --dry-run "${@:6}" >&2
    echo dry-run
  else
    "$@"
  fi
}
wait_for() { [ "${DRY_RUN:-}" = 1 ] || hf jobs wait "$@"; }

command -v hf >/dev/null || { echo 'hf is missing: pip install huggingface_hub' >&2; exit 2; }
windows=$(submit fang-prune-windows "npx --yes fang-prune observe /model --out /tmp/first --shard 1/$SHARDS --method flap \
  --generate-calibration --windows-file /tmp/windows.jsonl; cp /tmp/windows.jsonl /fleet/")
wait_for "$windows"

jobs=()
for ((i = 1; i <= SHARDS; i++)); do
  shard=$(submit "fang-prune-shard-$i" "cp /fleet/windows.jsonl /tmp/; npx --yes fang-prune observe /model --out /tmp/$i \
    --shard $i/$SHARDS --method $method --windows-file /tmp/windows.jsonl; mkdir -p /fleet/shards; cp -r /tmp/$i /fleet/shards/")
  jobs+=("$shard")
done
wait_for "${jobs[@]}"

prune=$(submit fang-prune-prune "npx --yes fang-prune merge /fleet/shards/* --out /tmp/statistics; \
  npx --yes fang-prune prune /model --out /tmp/pruned --sparsity $SPARSITY --method $method --statistics /tmp/statistics $repair; \
  cp -r /tmp/pruned /fleet/")
wait_for "$prune"
