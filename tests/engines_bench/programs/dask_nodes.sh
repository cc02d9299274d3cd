# dask_nodes.sh PYTHON: a scheduler and two workers of Dask on this host, and a client, as on a cluster's nodes.
set -euo pipefail
python=$1 programs=${BASH_SOURCE[0]%/*}
not_workers=(env -u PYLAUNCH_PRELOAD -u PYLAUNCH_IMAGE)
cd "${ENGINES_TOLD%/*}"
rm -f scheduler.json
"$python" -m dask scheduler --host 127.0.0.1 --port 0 --no-dashboard --scheduler-file scheduler.json >scheduler.log 2>&1 &
scheduler=$!
trap 'kill $scheduler $worker 2>/dev/null || true; wait' EXIT
worker=$scheduler
until [[ -s scheduler.json ]]; do sleep 0.05; done
"${not_workers[@]}" "$python" "$programs/tell.py"
"$python" -m dask worker --scheduler-file scheduler.json --nworkers 2 --nthreads 1 --no-dashboard >worker.log 2>&1 &
worker=$!
"${not_workers[@]}" "$python" "$programs/dask_client.py"
