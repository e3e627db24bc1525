#!/usr/bin/env bash
# setup-host.sh prepares a Debian machine for mcpfleet's container tests. It installs podman, runc, a Docker engine with
# docker-compose, debootstrap, and docker-registry from the machine's own package sources, and starts dockerd if it is not running.
# It needs root, may be run any number of times, and does nothing (in about a tenth of a second) if everything is in place.
#
#   setup-host.sh          install what is missing, start dockerd
#   setup-host.sh stop     stop the dockerd that this script started, and no other
set -euo pipefail

state=/run/mcpfleet-host
pidfile=$state/dockerd.pid
log=$state/dockerd.log

say() { echo "setup-host: $*" >&2; }
die() { say "$*"; exit 1; }

# catatonit is podman's --init. iptables and netavark are for its networks. runc is there because crun 1.8 refuses some hosts.
packages=(
  podman runc conmon catatonit netavark aardvark-dns iptables fuse-overlayfs uidmap
  docker.io docker-compose docker-registry
  chromium
  debootstrap ca-certificates curl iproute2 procps
)

install_packages() {
  command -v apt-get >/dev/null || die "this script knows Debian's apt only; install these by hand: ${packages[*]}"
  local missing=() p
  for p in "${packages[@]}"; do
    # shellcheck disable=SC2016  # the braces are dpkg-query's
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null) == installed ]] || missing+=("$p")
  done
  command -v npm >/dev/null || missing+=(npm)
  ((${#missing[@]})) || return 0
  say "installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  # Packages must not start services: docker-registry would listen on every address.
  local policy=/usr/sbin/policy-rc.d
  if [[ ! -e $policy ]]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    # shellcheck disable=SC2064  # the name is wanted as it is now
    trap "rm -f '$policy'" EXIT
  fi
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >"$state/apt.log" 2>&1 ||
    { tail -n 30 "$state/apt.log" >&2; die "apt-get install did not succeed"; }
}

# lives NAME PIDFILE succeeds if the process in the file is called NAME and is not a zombie.
lives() {
  local pid
  [[ -s $2 ]] && pid=$(<"$2") || return 1
  [[ $(cat "/proc/$pid/comm" 2>/dev/null) == "$1" ]] && ! grep -q '^State:[[:space:]]*[ZX]' "/proc/$pid/status" 2>/dev/null
}

start_dockerd() {
  docker info >/dev/null 2>&1 && return 0
  say "starting dockerd (log: $log)"
  # A dockerd that is stopping does not answer, but is still there for a while. The containerd of a killed one dies a moment later.
  # Their pid files make a new dockerd refuse to start, or wait, as long as a process has that pid.
  for _ in $(seq 120); do lives dockerd /run/docker.pid || break; sleep 0.25; done
  lives dockerd /run/docker.pid && die "dockerd runs as process $(</run/docker.pid) and does not answer"
  rm -f /run/docker.pid
  local containerd=/run/docker/containerd/containerd.pid
  for _ in $(seq 20); do lives containerd "$containerd" || break; sleep 0.25; done
  lives containerd "$containerd" || rm -f "$containerd"
  setsid dockerd --pidfile /run/docker.pid >"$log" 2>&1 </dev/null &
  local pid=$!
  echo "$pid" >"$pidfile"
  for _ in $(seq 120); do
    docker info >/dev/null 2>&1 && return 0
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.25
  done
  tail -n 20 "$log" >&2
  die "dockerd did not start"
}

stop_dockerd() {
  [[ -s $pidfile ]] || { say "no dockerd of ours"; return 0; }
  local pid
  pid=$(<"$pidfile")
  if [[ $(cat "/proc/$pid/comm" 2>/dev/null) == dockerd ]]; then
    kill "$pid"
    for _ in $(seq 120); do [[ -d /proc/$pid ]] || break; sleep 0.25; done
  fi
  rm -f "$pidfile"
}

[[ $(id -u) == 0 ]] || die "needs root"
[[ $(uname -s) == Linux ]] || die "needs Linux"
mkdir -p "$state"
case ${1:-up} in
  up)
    install_packages
    start_dockerd
    ;;
  stop) stop_dockerd ;;
  *) die "unknown command $1 (up, stop)" ;;
esac
