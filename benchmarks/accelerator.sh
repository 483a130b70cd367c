#!/usr/bin/env bash
# On a machine with an accelerator, its JAX installed: the tests marked for one, then every
# benchmark of speed; under 8 minutes on one GPU. What there was time for is kept.
#
#   bash benchmarks/accelerator.sh [FOLDER]           copies logs and JSON to FOLDER as well
#   SMOKE=1 bash benchmarks/accelerator.sh [FOLDER]   a rehearsal, on any machine
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:-${OUT:-build/accelerator}}
python=${PYTHON:-python3}
smoke=${SMOKE:+--smoke}
mkdir -p "$out"
export PYTHONPATH=$PWD PYTHONUNBUFFERED=1
export XLA_PYTHON_CLIENT_PREALLOCATE=false # PyTorch takes part too

backend=$($python -c 'import jax; print(jax.default_backend())') || exit
if [[ $backend == cpu && -z $smoke ]]; then
    echo "JAX finds no accelerator here; SMOKE=1 rehearses without one" >&2
    exit 1
fi

failed=0
timed() { # SECONDS NAME COMMAND...: stopped in time, its output kept
    local seconds=$1 name=$2
    shift 2
    timeout --signal INT --kill-after 10 "$seconds" "$@" 2>&1 | tee "$out/$name.log" || failed=1
}

mapfile -t marked < <(grep -l 'mark\.device' tests/*.py)
timed 120 tests "$python" -m pytest -q -n 4 -m device "${marked[@]}"
timed 70 step "$python" -m benchmarks step $smoke
timed 50 train_step "$python" -m benchmarks train_step $smoke
timed 210 polar "$python" -m benchmarks polar $smoke
[[ $smoke ]] && exit $failed

results=$($python -c 'from benchmarks.record import folder; print(folder())')
cp "$results"/{polar,step,train_step}.json "$out"
exit $failed
