# What a board is, before anything is put on it; goes on from where.sh.
# Arguments: folder, name of the code, name of the environment, token.
PATH="$PATH:/usr/local/bin:$HOME/.local/bin"
say now "$(date +%s 2>/dev/null)"
say system "$(uname -s)"
say machine "$(uname -m)"
say bits "$(getconf LONG_BIT 2>/dev/null)"
say libc "$(getconf GNU_LIBC_VERSION 2>/dev/null)"
for name in python3 python3.14 python3.13 python3.12 python3.11; do
    path=$(command -v "$name" 2>/dev/null) || continue
    version=$("$path" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
    say python "$version $path"
    "$path" -c 'import ensurepip, venv' 2>/dev/null && say venv "$path"
done
at=$root
while [ ! -d "$at" ] && [ "$at" != / ] && [ "$at" != . ]; do at=$(dirname "$at"); done
say free "$(df -Pk "$at" 2>/dev/null | awk 'NR == 2 { print $4 }')"
if [ ! -e "$root" ]; then
    say state absent
    [ -w "$at" ] || say unwritable "$at"
elif [ ! -d "$root" ] || [ ! -O "$root" ]; then
    say state foreign
elif [ -f "$root/prune-deploy-board" ]; then
    say state ours
elif [ -z "$(ls -A "$root")" ]; then
    say state empty
else
    say state other
fi
[ -f "$root/code/$2/.complete" ] && say code "$2"
for made in "$root/env/$3"-*; do
    [ -f "$made/ready" ] && "$made/bin/python" -c '' 2>/dev/null && say environment "${made##*-}"
done
say end 0
