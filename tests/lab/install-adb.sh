#!/bin/sh
# Unpack adb, Android's real debug daemon (adbd), and its shell and tools (mksh, toybox, the one true awk) into a
# folder ($1), for the virtual phone of the tests. From the mirror that this machine's own apt uses; nothing is installed.
# Debian bookworm has adbd in its backports, later ones have it themselves.
set -eu

target=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/mobile-accelerator/lab/adb}
if [ -e "$target/complete.2" ]; then
    exit 0
fi
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | head -n 1)
if [ -z "$mirror" ]; then
    echo "install-adb: no Debian mirror in this machine's apt sources" >&2
    exit 1
fi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
release=$(. /etc/os-release && echo "$VERSION_CODENAME")
mkdir -p "$folder/lists/partial" "$folder/cache/archives/partial" "$target"
suites="$release"
if [ "$release" = bookworm ]; then
    suites="bookworm bookworm-backports"
fi
for suite in $suites; do
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main"
done >"$folder/sources.list"
apt() {
    apt-get --quiet=2 -o APT::Sandbox::User="$(id -un)" -o Dir::Etc::SourceList="$folder/sources.list" \
        -o Dir::Etc::SourceParts=- -o Dir::State::Lists="$folder/lists" -o Dir::Cache="$folder/cache" \
        -o Acquire::Languages=none -o Debug::NoLocking=1 -t "${suites##* }" "$@"
}
apt update
# with what they are linked to and this machine lacks
apt install --yes --download-only --reinstall --no-install-recommends adb adbd mksh toybox original-awk
for package in "$folder"/cache/archives/*.deb; do
    dpkg-deb --extract "$package" "$target"
done
touch "$target/complete.2"
