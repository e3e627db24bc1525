#!/usr/bin/env bash
# build.sh builds the images that mcpfleet's tests and its Compose file need, without any image registry: base images from Debian's
# packages, and a node runtime and unmodified MCP servers from npm's. It can also serve them from Debian's docker-registry. It needs
# root and what setup-host.sh installs. A second run finds everything in place and takes a second or two.
#
#   build.sh [all]            every image below; servers in podman, base images in Docker, too
#   build.sh base|go|servers  only these, and what they are built from
#   build.sh haproxy          only the load balancer of docker-compose.ha.yml, which all leaves out; it needs apt's network
#   build.sh registry start   serve the images at 127.0.0.1:PORT, and print how to pull from there
#   build.sh registry stop    stop serving them
#   build.sh registry fill    only write the images to the registry's directory, for the Compose service that serves it
#   build.sh list             names of the server images
#   build.sh clean            remove the images and the cache
#
#   docker.io/library/debian:bookworm-slim   and the tag that deploy/compose/Dockerfile asks for
#   docker.io/library/golang:1.26-bookworm   and the tag that deploy/compose/Dockerfile asks for
#   docker.io/library/haproxy:2.6            in Docker only
#   docker.io/mcp/{everything,filesystem,memory,sequentialthinking,brave-search}
#   localhost/mcpfleet/{node:22,registry:2}
#
# Environment: MCPFLEET_CACHE (default ${XDG_CACHE_HOME:-$HOME/.cache}/mcpfleet), MCPFLEET_REGISTRY_PORT (default 5055),
# DEBIAN_MIRROR (default: the first one in the machine's apt sources).
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
dockerfile=$here/../compose/Dockerfile
cache=${MCPFLEET_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mcpfleet}/images
port=${MCPFLEET_REGISTRY_PORT:-5055}
suite=bookworm
servers=(everything filesystem memory sequentialthinking brave-search)
slim=docker.io/library/debian:bookworm-slim
golang=docker.io/library/golang:1.26-bookworm
node=localhost/mcpfleet/node:22
registry=localhost/mcpfleet/registry:2
haproxy=docker.io/library/haproxy:2.6
registry_data=$cache/registry
# The label of an image with the digest of its inputs.
inputs_label=org.mcpfleet.inputs

export CONTAINERS_CONF=${CONTAINERS_CONF:-$here/containers.conf}

say() { echo "images: $*" >&2; }
die() { say "$*"; exit 1; }

# quiet runs a command and shows its output only if it fails.
quiet() {
  local out
  out=$("$@" 2>&1) || { echo "$out" >&2; die "$1 ${2:-} did not succeed"; }
}

# digest prints a digest of files and words, the inputs of an image.
digest() { sha256sum | cut -c1-16; }

# current IMAGE INPUTS succeeds if the image exists and was built from these inputs.
current() {
  [[ $(podman image inspect --format "{{index .Labels \"$inputs_label\"}}" "$1" 2>/dev/null) == "$2" ]]
}

# wanted ARG prints the Compose Dockerfile's default for a base image, as a full name.
wanted() {
  local ref
  ref=$(sed -n "s/^ARG $1=//p" "$dockerfile" | head -n 1)
  [[ $ref == */*/* ]] && echo "$ref" || echo "docker.io/library/${ref##*/}"
}

# mirror prints the mirror that this machine's apt uses for Debian itself, from either form of its sources.
mirror() {
  if [[ -n ${DEBIAN_MIRROR:-} ]]; then echo "$DEBIAN_MIRROR"; return; fi
  # shellcheck disable=SC2016  # these are apt's
  apt-get indextargets --format '$(REPO_URI) $(COMPONENT) $(ORIGIN) $(CODENAME)' 2>/dev/null |
    awk -v s="$suite" '$2 == "main" && $3 == "Debian" && $4 == s {print $1; exit}'
}

build_base() {
  local arch uri inputs tar=$cache/debian-$suite.tar
  arch=$(dpkg --print-architecture)
  uri=$(mirror)
  [[ -n $uri ]] || die "no Debian mirror for $suite in apt's sources; give one with DEBIAN_MIRROR"
  inputs=$({ declare -f build_base; echo "$arch $uri"; } | digest)
  if ! current "$slim" "$inputs"; then
    if [[ $(cat "$tar.inputs" 2>/dev/null) != "$inputs" ]]; then
      say "debian $suite from packages"
      local root
      root=$(mktemp -d "$cache/root.XXXXXX")
      # shellcheck disable=SC2064  # the name is wanted as it is now
      trap "rm -rf --one-file-system '$root'" EXIT
      quiet debootstrap --variant=minbase "$suite" "$root" "$uri"
      # Like Debian's slim images: no documents, locales or package caches, and packages start no services.
      rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/*.log "$root"/var/log/apt \
        "$root"/usr/share/{doc,man,info,locale,lintian,groff,linda} "${root:?}"/dev/*
      printf 'path-exclude /usr/share/%s/*\n' doc man info locale lintian >"$root/etc/dpkg/dpkg.cfg.d/slim"
      printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
      chmod 755 "$root/usr/sbin/policy-rc.d"
      rm -f "$root/etc/resolv.conf" "$root/etc/hostname" "$root/etc/machine-id"
      tar -C "$root" --numeric-owner -cf "$tar.new" .
      mv "$tar.new" "$tar"
      echo "$inputs" >"$tar.inputs"
      rm -rf --one-file-system "$root"
      trap - EXIT
    fi
    quiet podman import --change 'CMD ["bash"]' --change "LABEL $inputs_label=$inputs" "$tar" "$slim"
  fi
  base_inputs=$inputs
  podman tag "$slim" "$(wanted BASE_IMAGE)"
}

# build IMAGE INPUTS CONTAINERFILE CONTEXT [build options]: none of our Containerfiles runs a command, so none needs a network.
build() {
  local image=$1 inputs=$2 file=$3 context=$4
  shift 4
  say "$image"
  quiet podman build --pull=never --network none --format docker --layers=false --label "$inputs_label=$inputs" "$@" \
    -t "$image" -f "$here/$file" "$context"
}

build_go() {
  local inputs context args=() v
  for v in GOPROXY GOSUMDB GONOSUMDB GOPRIVATE; do args+=(--build-arg "$v=$(go env $v)"); done
  inputs=$({ cat "$here/Containerfile.golang"; go version; cat /etc/ssl/certs/ca-certificates.crt; echo "$base_inputs ${args[*]}"; } | digest)
  if ! current "$golang" "$inputs"; then
    context=$(mktemp -d "$cache/go.XXXXXX")
    # shellcheck disable=SC2064  # the name is wanted as it is now
    trap "rm -rf '$context'" EXIT
    mkdir "$context/go"
    tar -C "$(go env GOROOT)" --exclude ./test --exclude ./doc --exclude ./api --exclude ./pkg/obj -cf - . | tar -C "$context/go" --no-same-owner -xf -
    cp -L /etc/ssl/certs/ca-certificates.crt "$context/"
    build "$golang" "$inputs" Containerfile.golang "$context" "${args[@]}"
    rm -rf "$context"
    trap - EXIT
  fi
  podman tag "$golang" "$(wanted GO_IMAGE)"
}

# npm_ci SET: the packages of one committed lock file, in the cache; prints the directory.
npm_ci() {
  local from=$here/$1 dir inputs
  dir=$cache/npm/$(basename "$1")
  inputs=$({ cat "$from/package.json" "$from/package-lock.json"; dpkg --print-architecture; } | digest)
  if [[ $(cat "$dir/.inputs" 2>/dev/null) != "$inputs" ]]; then
    rm -rf "$dir"
    mkdir -p "$dir"
    cp "$from/package.json" "$from/package-lock.json" "$dir/"
    (cd "$dir" && quiet npm ci --ignore-scripts --omit=dev --no-audit --no-fund --loglevel=error)
    echo "$inputs" >"$dir/.inputs"
  fi
  echo "$dir"
}

build_node() {
  local dir inputs
  dir=$(npm_ci node)
  inputs=$({ cat "$here/Containerfile.node" "$dir/.inputs"; echo "$base_inputs"; } | digest)
  current "$node" "$inputs" || build "$node" "$inputs" Containerfile.node "$(echo "$dir"/node_modules/node-linux-*)"
  node_inputs=$inputs
}

build_servers() {
  local name dir inputs package app
  for name in "${servers[@]}"; do
    dir=$(npm_ci "servers/$name")
    inputs=$({ cat "$here/Containerfile.server" "$dir/.inputs"; declare -f build_servers; echo "$node_inputs"; } | digest)
    current "docker.io/mcp/$name:latest" "$inputs" && continue
    # The authors' images have the package itself at /app, and its dependencies below it. npm installs it beside them.
    package=$(echo "$dir"/node_modules/@modelcontextprotocol/server-*)
    app=$(mktemp -d "$cache/app.XXXXXX")
    # shellcheck disable=SC2064  # the name is wanted as it is now
    trap "rm -rf '$app'" EXIT
    chmod 755 "$app"
    cp -a "$package/." "$app/"
    mkdir -p "$app/node_modules"
    cp -a "$dir/node_modules/." "$app/node_modules/"
    rm -rf "$app/node_modules/@modelcontextprotocol/$(basename "$package")" "$app/node_modules/.bin" "$app/node_modules/.package-lock.json"
    build "docker.io/mcp/$name:latest" "$inputs" Containerfile.server "$app"
    rm -rf "$app"
    trap - EXIT
  done
}

build_registry() {
  local inputs context=$cache/docker-registry
  inputs=$({ cat "$here/Containerfile.registry"; registry_config 0.0.0.0:5000 /var/lib/registry; dpkg-query -W docker-registry; echo "$base_inputs"; } | digest)
  current "$registry" "$inputs" && return
  rm -rf "$context"
  mkdir -p "$context/usr/bin"
  cp "$(command -v docker-registry)" "$context/usr/bin/"
  registry_config 0.0.0.0:5000 /var/lib/registry >"$context/registry.yml"
  build "$registry" "$inputs" Containerfile.registry "$context"
}

# to_docker IMAGE: the same image in the Docker engine, for docker build and Compose.
to_docker() {
  local image=$1 id
  id=$(podman image inspect --format '{{.Id}}' "$image")
  local name=${image#docker.io/library/}
  [[ $(docker image inspect --format '{{.Id}}' "$name" 2>/dev/null) == *"$id" ]] && return
  say "$name into Docker"
  # shellcheck disable=SC2016  # for the inner shell
  quiet bash -c 'set -o pipefail; podman save --format docker-archive "$0" | docker load' "$image"
}

# build_haproxy installs Debian's package in a container, which uses the mirror of the machine's apt.
build_haproxy() {
  local inputs name=${haproxy#docker.io/library/}
  inputs=$({ cat "$here/Containerfile.haproxy"; echo "$base_inputs"; } | digest)
  to_docker "$slim"
  [[ $(docker image inspect --format "{{index .Config.Labels \"$inputs_label\"}}" "$name" 2>/dev/null) == "$inputs" ]] && return
  say "$haproxy"
  quiet docker build --build-arg "BASE_IMAGE=${slim#docker.io/library/}" --label "$inputs_label=$inputs" \
    -t "$name" -f "$here/Containerfile.haproxy" "$here/node"
}

# prune removes images that newer builds have replaced, and that have no name any more.
prune() {
  podman image prune -f --filter "label=$inputs_label" >/dev/null 2>&1 || true
  docker image prune -f --filter "label=$inputs_label" >/dev/null 2>&1 || true
}

all_to_docker() {
  local image
  for image in "$slim" "$golang" "$registry"; do to_docker "$image"; done
  docker tag "${slim#docker.io/library/}" "$(wanted BASE_IMAGE)"
  docker tag "${golang#docker.io/library/}" "$(wanted GO_IMAGE)"
}

registry_config() { # ADDR DIR [read-write]
  local readonly=true
  [[ ${3:-} == read-write ]] && readonly=false
  cat <<YML
version: 0.1
log: {level: warn, accesslog: {disabled: true}}
storage:
  filesystem: {rootdirectory: $2}
  maintenance: {readonly: {enabled: $readonly}}
http: {addr: "$1"}
YML
}

# registries_conf HOST:PORT prints a configuration that takes docker.io/mcp/* from there, so that fleet files need no change.
registries_conf() {
  cat <<TOML
unqualified-search-registries = ["docker.io"]

[[registry]]
prefix = "docker.io/mcp"
location = "docker.io/mcp"

[[registry.mirror]]
location = "$1/mcp"
insecure = true
TOML
}

registry_pid() { # prints the pid of our registry if it is alive
  local pid
  pid=$(cat "$cache/registry.pid" 2>/dev/null) || return 0
  if [[ $(cat "/proc/$pid/comm" 2>/dev/null) == docker-registry ]]; then echo "$pid"; fi
}

registry_start() { # [read-write]
  [[ -z $(registry_pid) ]] || return 0
  registry_config "127.0.0.1:$port" "$registry_data" "${1:-}" >"$cache/registry.yml"
  setsid docker-registry serve "$cache/registry.yml" >"$cache/registry.log" 2>&1 </dev/null 9>&- &
  local pid=$!
  echo "$pid" >"$cache/registry.pid"
  for _ in $(seq 100); do
    # Check both: another program may use the port, and ours may have died of that.
    if ! kill -0 "$pid" 2>/dev/null; then tail -n 5 "$cache/registry.log" >&2; die "docker-registry did not start on port $port"; fi
    if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then return 0; fi
    sleep 0.1
  done
  die "docker-registry does not listen on port $port after 10 s"
}

registry_stop() {
  local pid
  pid=$(registry_pid)
  if [[ -n $pid ]]; then
    kill "$pid"
    for _ in $(seq 100); do [[ -d /proc/$pid ]] || break; sleep 0.1; done
  fi
  rm -f "$cache/registry.pid"
}

# registry_fill pushes every server image over HTTP. Images that the registry has already are skipped.
registry_fill() {
  local name pushed
  pushed=$(for name in "${servers[@]}"; do podman image inspect --format '{{.Id}}' "docker.io/mcp/$name:latest"; done | digest)
  [[ $(cat "$registry_data/.pushed" 2>/dev/null) == "$pushed" ]] && return
  say "filling the registry"
  registry_stop
  rm -rf "$registry_data"
  mkdir -p "$registry_data"
  registry_start read-write
  for name in "${servers[@]}"; do
    quiet podman push --tls-verify=false "docker.io/mcp/$name:latest" "docker://127.0.0.1:$port/mcp/$name:latest"
  done
  registry_stop
  chmod -R a+rX "$registry_data"
  echo "$pushed" >"$registry_data/.pushed"
}

build_all() {
  build_base
  build_go
  build_node
  build_servers
  build_registry
  all_to_docker
  prune
  # Only a container that has run proves that the machine can run containers.
  quiet podman run --rm --pull=never --network none docker.io/mcp/everything:latest </dev/null
}

clean() {
  registry_stop
  local name
  for name in "${servers[@]}"; do podman rmi -f "docker.io/mcp/$name:latest" || true; done
  docker rmi "${haproxy#docker.io/library/}" || true
  for name in "$node" "$registry" "$golang" "$(wanted GO_IMAGE)" "$slim" "$(wanted BASE_IMAGE)"; do
    podman rmi "$name" || true
    docker rmi "${name#docker.io/library/}" || true
  done
  rm -rf "$cache"
}

[[ $(id -u) == 0 ]] || die "needs root"
for tool in podman docker docker-registry debootstrap npm; do
  command -v "$tool" >/dev/null || die "$tool is missing: run $here/setup-host.sh first"
done
umask 022
mkdir -p "$cache"
# Two runs at once would build the same images in the same directories.
exec 9>"$cache/lock"
flock 9

case ${1:-all} in
  all) build_all ;;
  base) build_base ;;
  go) build_base; build_go ;;
  servers) build_base; build_node; build_servers ;;
  haproxy) build_base; build_haproxy ;;
  registry)
    case ${2:-} in
      start)
        build_base; build_node; build_servers
        registry_fill
        registry_start
        registries_conf "127.0.0.1:$port" >"$cache/registries.conf"
        echo "export CONTAINERS_REGISTRIES_CONF=$cache/registries.conf"
        ;;
      stop) registry_stop ;;
      fill)
        build_base; build_node; build_servers
        registry_fill
        echo "$registry_data"
        ;;
      *) die "registry start|stop|fill" ;;
    esac
    ;;
  list) printf 'docker.io/mcp/%s\n' "${servers[@]}" ;;
  clean) clean ;;
  *) die "unknown command $1; the head of $0 lists them" ;;
esac
