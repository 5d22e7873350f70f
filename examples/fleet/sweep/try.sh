#!/bin/bash
# Starts Redis and two workers on this machine, ends one of them in the middle of a job, and waits for the table of `tiny.json`.
#
#   apt-get install redis-server   # Debian, Ubuntu
#   npm run build && (cd examples/fleet/sweep && npm install) && examples/fleet/sweep/try.sh
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../../.."
command -v redis-server >/dev/null || { echo 'redis-server is missing: apt-get install redis-server' >&2; exit 2; }

work=$(mktemp -d)
pids=()
stop() {
  status=$?
  kill "${pids[@]}" 2>/dev/null || true
  wait 2>/dev/null || true
  if [ $status = 0 ]; then rm -rf "$work"; else echo "failed; the logs are in $work" >&2; fi
}
trap stop EXIT
trap 'exit 130' INT TERM

port=$(node -e "const s = require('net').createServer().listen(0, () => { console.log(s.address().port); s.close(); })")
redis-server --bind 127.0.0.1 --port "$port" --dir "$work" --save '' --appendonly no >"$work/redis.log" &
pids+=($!)
export REDIS_URL="redis://127.0.0.1:$port"

start_worker() {
  node --import "$here/node_modules/tsx/dist/loader.mjs" "$here/src/worker.ts" >"$work/worker-$1.log" 2>&1 &
  worker=$!
  pids+=("$worker")
}
start_worker 1
first=$worker
node --import "$here/node_modules/tsx/dist/loader.mjs" "$here/src/submit.ts" "$here/tiny.json" "$work/sweep" >"$work/table.md" &
submitted=$!
for ((i = 0; i < 1200; i++)); do grep -q 'begins prune' "$work/worker-1.log" && break; sleep 0.1; done
kill -KILL "$first"
start_worker 2
wait "$submitted"
cat "$work"/worker-*.log "$work/table.md"
[ "$(wc -l <"$work/table.md")" -ge 7 ] # two heads, the dense model, two methods at two sparsities
