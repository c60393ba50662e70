#!/bin/busybox sh
# The first process of the guest: the host's files below, what is written on top of them in memory only, and
# one folder that both see at the same path (SHARED, from the kernel's command line). Its `program` runs,
# its output and exit code are left beside it, and the machine is switched off.
/bin/busybox --install -s /bin
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
for module in /modules/*; do insmod "$module"; done

mount -t 9p -o trans=virtio,version=9p2000.L,msize=1048576,cache=loose,ro host /host
mount -t tmpfs -o size=75% memory /memory
mkdir /memory/upper /memory/work /memory/docker
mount -t overlay -o lowerdir=/host,upperdir=/memory/upper,workdir=/memory/work root /root

mount --move /proc /root/proc
mount --move /sys /root/sys
mount --move /dev /root/dev
mount -t tmpfs run /root/run
mount -t tmpfs tmp /root/tmp
mount -t cgroup2 cgroup2 /root/sys/fs/cgroup
mkdir -p /root/dev/shm /root/dev/pts /root/var/lib/docker
mount -t devpts devpts /root/dev/pts
mount --bind /memory/docker /root/var/lib/docker # Docker keeps no layers on an overlay
mkdir -p "/root$SHARED"
mount -t 9p -o trans=virtio,version=9p2000.L,msize=1048576 shared "/root$SHARED"
ip link set lo up

# not a chroot, in which udevadm does nothing and says that all is well
exec switch_root /root /bin/busybox sh -c '
/bin/sh "$SHARED/program" >"$SHARED/output" 2>&1
echo $? >"$SHARED/code"
sync
/bin/busybox poweroff -f'
