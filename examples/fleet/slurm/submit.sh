#!/bin/bash
# Submits one big model: windows, then one task a shard, then merge and prune. Prints the number of the last job.
#
#   MODEL=/nfs/model WORK=/nfs/fleet SHARDS=4 SPARSITY=30% examples/fleet/slurm/submit.sh [sbatch options...]
#
# MODEL and WORK lie on a file system that all nodes mount.
set -euo pipefail
: "${MODEL:?folder of the model}" "${WORK:?folder for the results}" "${SHARDS:?number of shards}" "${SPARSITY:?such as 30%}"
here=$(cd "$(dirname "$0")" && pwd)
export MODEL WORK SHARDS SPARSITY
mkdir -p "$WORK/shards"

submit() { sbatch --parsable --chdir="$WORK" "$@"; }
windows=$(submit "$@" "$here/windows.sbatch")
shards=$(submit "$@" --dependency="afterok:$windows" --array="1-$SHARDS" "$here/observe.sbatch")
submit "$@" --dependency="afterok:$shards" "$here/prune.sbatch"
