#!/bin/bash
# A run on Cloud TPU VMs, spot ones too: made, prepared, run on all workers, made anew after each pre-emption, deleted.
#
#   PROJECT=... ZONE=... ACCELERATOR=v5litepod-16 VERSION=v2-alpha-tpuv5-lite NFS=10.0.0.2:/share \
#       experiments/launch/tpu_vm.sh NAME \
#       python3 -m experiments.train --config=experiments/configs/vae_mnist.py --workdir=/shared/runs/NAME
#
# Run it from the repository's root, on a machine that stays up, with gcloud logged in. NFS (Filestore, say) is mounted at
# /shared on all workers: the workdir must be there, for a TPU's own disk goes with it. A bucket through gcsfuse is no
# substitute: checkpoints become whole by a rename, which a bucket does not do in one step.
# SPOT=0 asks for a TPU that is not pre-empted, KEEP=1 leaves it when the run has ended.
set -euo pipefail

usage() {
    sed -n '2,6p' "$0" >&2
    exit 64
}

[ $# -ge 2 ] || usage
name=$1
shift
: "${PROJECT:?}" "${ZONE:?}" "${ACCELERATOR:?}" "${VERSION:?}" "${NFS:?}"
where=(--project="$PROJECT" --zone="$ZONE")
poll=${POLL:-30} # seconds
log=$(mktemp)
printf -v command '%q ' "$@" --distributed=auto

tpu() {
    gcloud compute tpus "$@" "${where[@]}" --quiet
}

state() { # of the request: WAITING_FOR_RESOURCES, PROVISIONING, ACTIVE, SUSPENDING, SUSPENDED, FAILED, or nothing
    tpu queued-resources describe "$name" --format='value(state.state)' 2>/dev/null || true
}

delete() {
    tpu queued-resources delete "$name" --force || true
    while [ -n "$(state)" ]; do sleep "$poll"; done
}

create() {
    local spot=()
    [ "${SPOT:-1}" = 0 ] || spot=(--spot)
    tpu queued-resources create "$name" --node-id="$name" --accelerator-type="$ACCELERATOR" \
        --runtime-version="$VERSION" "${spot[@]}"
}

everywhere() { # a command on all workers
    tpu tpu-vm ssh "$name" --worker=all --command="$1"
}

prepare() {
    git archive --format=tar.gz --output="$log.tar.gz" HEAD # what is committed, and nothing else
    tpu tpu-vm scp "$log.tar.gz" "$name:vae_jax.tar.gz" --worker=all
    everywhere "set -e
        sudo apt-get install -y -qq nfs-common
        sudo mkdir -p /shared && { mountpoint -q /shared || sudo mount -t nfs $NFS /shared; }
        mkdir -p vae_jax && tar -xzf vae_jax.tar.gz -C vae_jax && pip install -q -e 'vae_jax[tpu]'"
}

while :; do
    case $(state) in
    "") create ;;
    SUSPENDING | SUSPENDED) delete ;; # pre-empted
    FAILED)
        echo "$name: no such TPU could be made; see gcloud compute tpus queued-resources describe $name" >&2
        exit 1
        ;;
    ACTIVE)
        # The workers say their own codes: that of gcloud does not tell a lost connection from a failed run.
        if prepare && everywhere "cd vae_jax && { $command; echo \"exit code \$?\"; }" 2>&1 | tee "$log"; then
            :
        fi
        codes=$(sed -n 's/.*exit code \([0-9][0-9]*\)$/\1/p' "$log" | sort -u)
        if [ "$codes" = 0 ]; then
            [ "${KEEP:-0}" = 1 ] || delete
            exit 0
        fi
        if grep -qvx -e 0 -e 75 -e 134 -e 137 -e 143 <<<"${codes:-75}"; then
            echo "$name: the run ended with code(s) $codes, an error that another start would not mend; see above." >&2
            [ "${KEEP:-0}" = 1 ] || delete
            exit 1
        fi
        sleep "$poll" # pre-empted, or a connection lost: the state will tell
        ;;
    esac
    sleep "$poll"
done
