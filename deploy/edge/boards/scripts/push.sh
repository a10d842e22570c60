# Puts our code on a board, whole or not at all. Arguments: folder, name of the code, bytes of the archive, python, token.
printf '%s\n' "$5"
umask 077
# The mark comes first: a folder with anything else in it and without the mark is not ours.
mkdir -p "$1" && : >"$1/prune-deploy-board" && mkdir -p "$1/code" || exit 3
part="$1/code/.$2.$$.part"
rm -rf "$part" && mkdir "$part" || exit 3
# In English, since a full disk is looked for in its words.
if head -c "$3" | LC_ALL=C tar -xf - -C "$part" 2>&1 && [ -f "$part/.complete" ]; then
    "$4" -c 'import os, sys; os.rename(*sys.argv[1:])' "$part" "$1/code/$2" 2>/dev/null
fi
rm -rf "$part"
[ -f "$1/code/$2/.complete" ] || exit 3
