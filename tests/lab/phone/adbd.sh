#!/system/bin/sh
# Runs Android's debug daemon for good: where it ends, as when a cable is pulled, it comes back after a second.
#
#     adbd.sh ADB PORT      ADB is what install-adb.sh unpacked
libraries=$(echo "$1"/usr/lib/*-linux-gnu)
while true; do
    env -i PATH=/vendor/bin:/system/bin HOME=/data/local/tmp ADBD_PORT="$2" \
        LD_LIBRARY_PATH="$libraries:$libraries/android" "$1/usr/lib/android-sdk/platform-tools/adbd"
    sleep 1
done
