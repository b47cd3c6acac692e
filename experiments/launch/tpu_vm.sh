#!/bin/bash
# A run on Cloud TPU VMs, spot ones too: made, prepared, run on all workers, made anew after each pre-emption, deleted.
#
#   PROJECT=... ZONE=... ACCELERATOR=v5litepod-16 VERSION=v2-alpha-tpuv5-lite NFS=10.0.0.2:/share \
#       experiments/launch/tpu_vm.sh NAME \
#       python3 -m experiments.train --config=experiments/configs/vae_mnist.py --workdir=/shared/runs/NAME
#
# Run it from the repository's root, on a machine that stays up, with gcloud logged in. NFS (Filestore, say) is mounted
# at /shared on all workers: the workdir must be there, for a TPU's own disk goes with it. A bucket through gcsfuse is
# no substitute: checkpoints become whole by a rename, which a bucket does not do in one step.
# SPOT=0 asks for a TPU that is not pre-empted, KEEP=1 leaves it when the run has ended. Not tested on a TPU: only its
# decisions are, with another program in the place of gcloud.
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
printf -v mount '%q' "$NFS"             # a word of the remote shell, whatever it holds
said="vae_jax-$$-$RANDOM-$RANDOM: code" # before a worker's exit code: no program prints this by chance

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

finish() { # and pay no longer
    [ "${KEEP:-0}" = 1 ] || delete
    exit "${1:-0}"
}

give_up() {
    echo "$name: $1" >&2
    finish 1
}

prepare() {
    git archive --format=tar.gz --output="$log.tar.gz" HEAD && # what is committed, and nothing else
        tpu tpu-vm scp "$log.tar.gz" "$name:vae_jax.tar.gz" --worker=all &&
        everywhere "set -e
            mountpoint -q /shared || sudo apt-get install -y -qq nfs-common
            mountpoint -q /shared || { sudo mkdir -p /shared && sudo mount -t nfs $mount /shared; }
            mkdir -p vae_jax && tar -xzf vae_jax.tar.gz -C vae_jax && pip install -q -e 'vae_jax[tpu]'"
}

failures=0 # of the preparation, in a row: a TPU that has just become active may not be reached yet
while :; do
    case $(state) in
    "") create ;;
    SUSPENDING | SUSPENDED) delete ;; # pre-empted
    FAILED) give_up "no such TPU could be made; see gcloud compute tpus queued-resources describe $name" ;;
    ACTIVE)
        if ! prepare; then
            failures=$((failures + 1))
            [ "$failures" -lt 5 ] || give_up "the workers could not be prepared, see above"
        else
            failures=0
            # Each worker says its code: gcloud's own does not tell a lost connection from a failed run. The lock: where
            # only the connection was lost, the run goes on, and this waits for its end.
            everywhere "cd vae_jax && { flock ~/run.lock $command; echo \"$said \$?\"; }" 2>&1 | tee "$log" || true
            codes=$(sed -n "s/.*$said \\([0-9][0-9]*\\)\$/\\1/p" "$log" | sort -un | xargs)
            [ "$codes" != 0 ] || finish
            sleep "$poll" # until the state tells of a pre-emption
            case " $codes " in
            *" 75 "* | "  ") ;;
            *) [ "$(state)" != ACTIVE ] || give_up "ended with code(s) $codes, which a new start would not mend" ;;
            esac
        fi
        ;;
    esac
    sleep "$poll"
done
