#!/bin/sh
# Makes a phone of this process, which is root of namespaces of its own (mounts, network, processes): Android's
# folders, a real adbd, and an adb server on the socket ./adb.socket. Then it does what its standard input says.
#
#     boot.sh FOLDER ADB DATA_MB PORT      FOLDER has system/, vendor/, sys/; ADB is what install-adb.sh unpacked
set -eu
folder=$1 adb=$2 data_mb=$3 port=$4
cd "$folder"
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
export LD_LIBRARY_PATH="$(echo "$adb"/usr/lib/*-linux-gnu):$(echo "$adb"/usr/lib/*-linux-gnu/android)"

mkdir -p root
mount -t tmpfs none root
for each in /*; do # the host's own, so that stand-in programs find their interpreter where it is
    case "${each#/}" in
        bin | data | dev | proc | sys | system | vendor) ;;
        *)
            if [ -L "$each" ]; then
                cp -P "$each" root/
            elif [ -d "$each" ]; then
                mkdir "root$each"
                mount --rbind "$each" "root$each"
            fi
            ;;
    esac
done
for each in system vendor sys; do
    mkdir "root/$each"
    mount --bind "$each" "root/$each"
done
mkdir root/data root/dev root/proc
ln -s system/bin root/bin
mount -t tmpfs -o "size=${data_mb}m" none root/data
mkdir -p root/data/local/tmp
mount -t proc none root/proc
for each in null zero random urandom; do # no USB: a phone that is really plugged in is not the tests' business
    touch "root/dev/$each"
    mount --bind "/dev/$each" "root/dev/$each"
done
system/bin/ifconfig lo up

start() { # the debug daemon; the end of it is what the host sees of a cable that is pulled
    chroot root /system/bin/env -i PATH=/vendor/bin:/system/bin HOME=/data/local/tmp ADBD_PORT="$port" \
        LD_LIBRARY_PATH="$LD_LIBRARY_PATH" "$adb/usr/lib/android-sdk/platform-tools/adbd" >>adbd.log 2>&1 &
    adbd=$!
}
stop() {
    kill -9 "$adbd"
}

start
chroot root /system/bin/env -i PATH=/system/bin HOME="$folder" LD_LIBRARY_PATH="$LD_LIBRARY_PATH" \
    "$adb/usr/lib/android-sdk/platform-tools/adb" -L "localfilesystem:$folder/adb.socket" server nodaemon \
    >>adb.log 2>&1 &
while read -r line; do
    $line
    echo "$line: done"
done
