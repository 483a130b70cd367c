#!/usr/bin/env bash
# For a machine with an accelerator: the tests marked for one, then every benchmark of speed,
# in less than 8 minutes on one GPU. Finished results go to benchmarks/results/<device>/, and from
# there into the pages. `make accelerator` installs what it needs and runs it.
# Python is $PYTHON, or that of .venv, or python3; it needs '.[test,cuda]' or '.[test,tpu]'.
#
#   bash benchmarks/accelerator.sh [FOLDER]           copies logs and JSON to FOLDER as well
#   SMOKE=1 bash benchmarks/accelerator.sh [FOLDER]   a rehearsal, on any machine
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:-${OUT:-build/accelerator}}
python=${PYTHON:-.venv/bin/python}
[[ -n ${PYTHON:-} || -x $python ]] || python=python3
smoke=${SMOKE:+--smoke}
mkdir -p "$out"
export PYTHONPATH=$PWD:$PWD/examples PYTHONUNBUFFERED=1 JAX_DISABLE_MOST_OPTIMIZATIONS=0
export XLA_PYTHON_CLIENT_PREALLOCATE=false # PyTorch takes part too

if ! backend=$("$python" -c 'import flax, optax, pytest, jax; print(jax.default_backend())'); then
    echo "$python lacks a package; $python -m pip install -e '.[test,cuda]', or tpu for cuda" >&2
    exit 1
fi
if [[ $backend == cpu && -z $smoke ]]; then
    echo "JAX finds no accelerator here; SMOKE=1 rehearses without one" >&2
    exit 1
fi

failed=0
timed() { # SECONDS NAME COMMAND...: stopped in time, its output kept
    local seconds=$1 name=$2 status
    shift 2
    timeout --signal INT --kill-after 10 "$seconds" "$@" 2>&1 | tee "$out/$name.log"
    status=${PIPESTATUS[0]}
    if ((status == 124)); then
        echo "$name: stopped after $seconds s"
    elif ((status)); then
        failed=1
    fi
}

touch "$out/began"
mapfile -t marked < <(grep -l 'mark\.device' tests/*.py)
timed 100 tests "$python" -m pytest -q -n 4 -m device "${marked[@]}"
timed 80 compare "$python" -m benchmarks compare $smoke
timed 70 step "$python" -m benchmarks step $smoke
timed 40 train_step "$python" -m benchmarks train_step $smoke
timed 140 polar "$python" -m benchmarks polar $smoke

results=$("$python" -c 'from benchmarks.record import folder; print(folder())')
find "$results" -maxdepth 1 -name '*.json' -newer "$out/began" -exec cp {} "$out" \;
[[ -n $smoke ]] || "$python" -m benchmarks report
exit $failed
