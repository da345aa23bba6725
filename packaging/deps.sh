#!/bin/sh
# Installs the Debian packages named as arguments, if any is missing.  Exit 2 where that is not allowed.
missing=
for package; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
[ -z "$missing" ] && exit 0

sudo=
if [ "$(id -u)" -ne 0 ]; then
    sudo=sudo
    if ! command -v sudo >/dev/null || ! sudo -n true 2>/dev/null && [ ! -t 0 ]; then
        echo "Packages are missing. As root, run:" >&2
        echo "    apt-get install --no-install-recommends$missing" >&2
        exit 2
    fi
fi
echo "installing:$missing"
log=$(mktemp)
if $sudo apt-get update >"$log" 2>&1 &&
   DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y --no-install-recommends $missing >"$log" 2>&1; then
    rm -f "$log"
    exit 0
fi
tail -n 20 "$log" >&2
rm -f "$log"
echo "Installing failed. As root, run:" >&2
echo "    apt-get install --no-install-recommends$missing" >&2
exit 2
