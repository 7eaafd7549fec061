#!/bin/sh
# Installs what the control node lacks: Debian packages only, and only those that are missing.
set -eu

wanted="python3-venv openssh-client make maven mmdebstrap apt-utils"
# A container engine, for the demo's hosts: Debian's, unless there is one already.
command -v dockerd >/dev/null || wanted="$wanted docker.io"
# A compiler for our own Java sources, which Maven alone does not bring.
command -v javac >/dev/null || wanted="$wanted default-jdk-headless"

missing=""
for package in $wanted; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

as_root=""
[ "$(id -u)" = 0 ] || as_root="sudo"
echo "installing Debian packages:$missing"
export DEBIAN_FRONTEND=noninteractive
$as_root apt-get update -q
# shellcheck disable=SC2086  # a list of words
$as_root apt-get install -y -q --no-install-recommends $missing
