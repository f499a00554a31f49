#!/bin/sh
# Becomes the first process of a machine. Run in new mount, PID, network, IPC
# and UTS namespaces: boot.sh FOLDER NETD UNITS CGROUP (NETD may be `none`). All that it mounts is
# seen by the machine alone, and what it writes is in memory.
set -e
folder=$1 netd=$2 units=$3 cgroup=$4
root=$folder/root

if [ "$5" != inside ]; then
    mount --make-rprivate /
    mount -t tmpfs machine "$folder"
    mkdir "$folder/upper" "$folder/work" "$root" "$folder/cgroup"
    # A cgroup for it to take for the root of all.
    mount -t cgroup2 cgroup2 "$folder/cgroup"
    mkdir "$folder/cgroup/$cgroup"
    echo 0 > "$folder/cgroup/$cgroup/cgroup.procs"
    exec unshare --cgroup -- "$0" "$folder" "$netd" "$units" "$cgroup" inside
fi

mount -t overlay overlay -o "lowerdir=/,upperdir=$folder/upper,workdir=$folder/work" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs tmpfs "$root/run" -o mode=755
mount -t tmpfs tmpfs "$root/tmp" -o mode=1777
mount -t tmpfs tmpfs "$root/dev" -o mode=755
for node in null zero full random urandom tty; do
    touch "$root/dev/$node"
    mount --bind "/dev/$node" "$root/dev/$node"
done
mkdir "$root/dev/shm" "$root/dev/pts"
mount -t devpts devpts "$root/dev/pts" -o newinstance,ptmxmode=0666
ln -s pts/ptmx "$root/dev/ptmx"

# Nothing of the host's own services: netd's units, and what they stand on.
system=$root/lib/systemd/system
rm -rf "$root"/etc/systemd/system/* "$system"/*.target.wants "$root"/lib/systemd/system-generators
rm -rf "$root/var/lib/netd" "$root/etc/netd" "$root/var/log/journal"
# It would keep packages from starting services.
rm -f "$root/usr/sbin/policy-rc.d"
mkdir "$system/sockets.target.wants"
ln -s ../systemd-journald.socket ../systemd-journald-dev-log.socket "$system/sockets.target.wants/"
printf '[Unit]\nRequires=basic.target\nAfter=basic.target\n' > "$root/etc/systemd/system/machine.target"
if [ "$netd" != none ]; then
    cp "$units"/* "$root/etc/systemd/system/"
    touch "$root/usr/bin/netd"
    mount --bind "$netd" "$root/usr/bin/netd"
fi

mkdir "$root/before"
cd "$root"
pivot_root . before
umount -l /before
exec env -i container=netd-test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --unit=machine.target --log-target=console --log-level=info
