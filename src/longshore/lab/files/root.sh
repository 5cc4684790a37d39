#!/bin/sh
# Makes a root file system, in mount and process namespaces of its own, so that nothing stays mounted
# when it is stopped halfway.
#   root.sh install ROOT PACKAGE...        apt-get install in a finished debootstrap
#   root.sh layer LOWER UPPER WORK ROOT PACKAGE...   the same, what changes goes to UPPER
set -eu
if [ "${1:-}" != inside ]; then
    exec unshare --mount --propagation private --pid --fork --kill-child sh "$0" inside "$@"
fi
shift
case $1 in
install) root=$2; shift 2 ;;
layer)
    mount -t overlay overlay -o "lowerdir=$2,upperdir=$3,workdir=$4" "$5"
    root=$5; shift 5 ;;
esac
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/dev"
for node in null zero full random urandom tty; do
    touch "$root/dev/$node"
    mount --bind "/dev/$node" "$root/dev/$node"
done
mkdir -p "$root/dev/pts" "$root/dev/shm"
mount -t tmpfs tmpfs "$root/tmp"
cp -L /etc/resolv.conf "$root/tmp/resolv.conf"
mount --bind "$root/tmp/resolv.conf" "$root/etc/resolv.conf"
export DEBIAN_FRONTEND=noninteractive LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
unset SSL_CERT_FILE SSL_CERT_DIR CURL_CA_BUNDLE
chroot "$root" apt-get update -q
chroot "$root" apt-get install -y -q --no-install-recommends "$@"
chroot "$root" apt-get clean
