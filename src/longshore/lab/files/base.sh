# Runs on a practice host: makes a distribution's minimal root for a container image.
#   bash -s SUITE ARCH FOLDER      leaves FOLDER/root.tar and prints the distribution's name
set -euo pipefail
suite=$1 arch=$2 folder=$3
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
command -v debootstrap >/dev/null || {
    apt-get update -q
    apt-get install -y -q debootstrap debian-archive-keyring ubuntu-keyring
} >/dev/null
case $suite in
bookworm | trixie)
    components=main
    mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
        awk '!mirror && ($1 == "deb" || $1 == "URIs:") { mirror = $2 } END { print mirror }' || true)
    ;;
*) components=main,universe mirror= ;; # debootstrap knows where Ubuntu keeps this architecture
esac
root=$folder/root
rm -rf "$root"
mkdir -p "$folder"
debootstrap --variant=minbase --arch="$arch" --include=ca-certificates --components="$components" \
    "$suite" "$root" $mirror >"$folder/log" 2>&1 || { tail -n 3 "$folder/log" >&2; exit 1; }
cp /etc/dpkg/dpkg.cfg.d/longshore-lab "$root/etc/dpkg/dpkg.cfg.d/"
cp /etc/apt/apt.conf.d/90longshore-lab "$root/etc/apt/apt.conf.d/"
if [[ $components == main,universe ]]; then
    sed -n "s/^\(deb .*\) $suite /\1 $suite-updates /p" "$root/etc/apt/sources.list" >"$root/etc/apt/sources.list.d/updates.list"
fi
if [[ -d /usr/local/share/ca-certificates/longshore-lab ]]; then
    cp -r /usr/local/share/ca-certificates/longshore-lab "$root/usr/local/share/ca-certificates/"
    chroot "$root" update-ca-certificates >/dev/null 2>&1
fi
rm -rf "$root"/var/cache/apt/*.bin "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* \
    "$root"/usr/share/{doc,man,locale}/* "$root"/{dev,proc,sys,run}/* "$root"/etc/resolv.conf "$root"/etc/hostname
tar -C "$root" --sort=name --numeric-owner -cf "$folder/root.tar" .
(. "$root/etc/os-release" && echo "$PRETTY_NAME")
rm -rf "$root"
