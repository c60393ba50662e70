#!/bin/sh
# Put Compose v2 and buildx into the Docker CLI's plug-in folder ($1, default: the user's own).
# Debian bookworm has neither, trixie's packages need only its libc; they are taken from the mirror that
# this machine's own apt uses, and unpacked, not installed.
set -eu

plugins=${1:-${DOCKER_CONFIG:-$HOME/.docker}/cli-plugins}
if [ -x "$plugins/docker-compose" ] && [ -x "$plugins/docker-buildx" ]; then
    exit 0
fi
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | head -n 1)
if [ -z "$mirror" ]; then
    echo "install-compose: no Debian mirror in this machine's apt sources" >&2
    exit 1
fi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir -p "$folder/lists/partial" "$folder/cache/archives/partial" "$plugins"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" >"$folder/sources.list"
apt() {
    apt-get --quiet=2 -o APT::Sandbox::User="$(id -un)" -o Dir::Etc::SourceList="$folder/sources.list" \
        -o Dir::Etc::SourceParts=- -o Dir::State::Lists="$folder/lists" -o Dir::Cache="$folder/cache" "$@"
}
apt update
cd "$folder"
apt download docker-compose/trixie docker-buildx/trixie
for package in ./*.deb; do
    dpkg-deb --extract "$package" unpacked
done
for plugin in docker-compose docker-buildx; do
    install -m 755 "$(find unpacked -path '*cli-plugins*' -name $plugin)" "$plugins/$plugin"
done
