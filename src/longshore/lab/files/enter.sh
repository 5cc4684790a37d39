#!/bin/sh
# Becomes a practice host. Started by the lab on the machine's side, ends as pid 1 of the host.
#   LAB_JOIN    files to write 0 into: joins the host's control groups
#   LAB_LEAF    the same, for a leaf of the group, once the group is the host's root
#   LAB_CGROUPS v2, or words NAME=OPTIONS, one for each v1 tree
#   LAB_LOWER   the read-only layers, uppermost first
#   LAB_DISK    the host's folder: upper, work, root, docker, containerd
#   LAB_NAME LAB_ADDRESS LAB_GATEWAY
set -eu
case ${1:-join} in
join)
    for procs in $LAB_JOIN; do echo 0 >"$procs"; done
    exec unshare --cgroup sh "$0" leave
    ;;
leave)
    # The host's own processes are beside its containers (longshore.lab.cgroups.leaf).
    if [ -n "$LAB_LEAF" ]; then echo 0 >"$LAB_LEAF"; fi
    exec unshare --mount --propagation slave --net --pid --uts --ipc --fork --kill-child sh "$0" boot
    ;;
esac

# The lab gives us eth0 now. If it died, its end of the pipe is closed and so are we.
echo ready
read -r _
exec >&2 </dev/null

root=$LAB_DISK/root
mount -t overlay overlay -o "lowerdir=$LAB_LOWER,upperdir=$LAB_DISK/upper,workdir=$LAB_DISK/work" "$root"
cd "$root"
# An overlay can't be on an overlay: what the engine stores is bound from a real folder.
mkdir -p var/lib/docker var/lib/containerd dev proc sys run tmp .old
mount --bind "$LAB_DISK/docker" var/lib/docker
mount --bind "$LAB_DISK/containerd" var/lib/containerd

mount -t proc proc proc
mount -t sysfs sys sys
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs run
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs tmp
mount -t tmpfs -o mode=755,nosuid tmpfs dev
mkdir -p dev/pts dev/shm dev/net run/lock
for node in 'null 1 3' 'zero 1 5' 'full 1 7' 'random 1 8' 'urandom 1 9' 'tty 5 0' 'fuse 10 229' 'net/tun 10 200' 'kmsg 1 11'; do
    set -- $node
    mknod -m 666 "dev/$1" c "$2" "$3"
done
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr

if [ "$LAB_CGROUPS" = v2 ]; then
    mount -t cgroup2 cgroup2 sys/fs/cgroup
else
    mount -t tmpfs -o mode=755 cgroup sys/fs/cgroup
    for tree in $LAB_CGROUPS; do
        mkdir "sys/fs/cgroup/${tree%%=*}"
        mount -t cgroup -o "${tree#*=}" cgroup "sys/fs/cgroup/${tree%%=*}"
    done
fi

hostname "$LAB_NAME"
ip link set lo up
ip address add "$LAB_ADDRESS/24" dev eth0
ip link set eth0 up
ip route add default via "$LAB_GATEWAY"

# pivot_root and not chroot: under a chroot the root of the mount namespace stays the machine's own, and
# what the engine starts later (docker exec, health checks) would run in the machine's root.
pivot_root . .old
exec chroot . /bin/sh -c 'umount -l /.old; rmdir /.old; mount --make-rshared /; exec /usr/local/lib/longshore-lab/init'
