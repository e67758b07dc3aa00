#!/bin/sh
# Installs what some tests use and pip does not have: a PACS, DICOM checkers and converters, a browser. All of it is
# free software from Debian or Ubuntu. Nothing is done where it is there already; nothing fails where it cannot be
# had: tests that need it are then skipped with a reason. The PACS is not left running as a service.
set -u
packages="chromium dcm2niix dcmtk dicom3tools orthanc orthanc-dicomweb"

if ! command -v apt-get >/dev/null 2>&1; then
    echo "system: no apt-get here; tests that need one of these will be skipped: $packages"
    exit 0
fi
missing=""
for package in $packages; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing="$missing $package"
done
if [ -z "$missing" ]; then
    echo "system: $packages are installed"
    exit 0
fi
root=""
if [ "$(id -u)" != 0 ]; then
    root="sudo -n"
    if ! $root true 2>/dev/null; then
        echo "system: tests will be skipped for want of these; install them with: sudo apt-get install$missing"
        exit 0
    fi
fi

# Debian starts a service when its package is installed, and again at every boot; tests start an Orthanc of their own.
policy=/usr/sbin/policy-rc.d
ours=""
case "$missing" in *orthanc*)
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | $root tee "$policy" >/dev/null && $root chmod +x "$policy" && ours=yes
    fi ;;
esac
trap '[ -z "$ours" ] || $root rm -f "$policy"' EXIT

install() {
    $root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"
}
echo "system: apt-get install$missing"
# one package that this release does not have must not keep the others away
# shellcheck disable=SC2086
if ! install $missing >/dev/null 2>&1; then
    $root apt-get update -q >/dev/null 2>&1
    for package in $missing; do
        install "$package" >/dev/null 2>&1 || echo "system: $package cannot be had; its tests will be skipped"
    done
fi
case "$missing" in *orthanc*)
    if command -v systemctl >/dev/null 2>&1; then
        $root systemctl disable orthanc >/dev/null 2>&1
    elif command -v update-rc.d >/dev/null 2>&1; then
        $root update-rc.d orthanc disable >/dev/null 2>&1
    fi ;;
esac
exit 0
