# Makes the environment on a board, whole or not at all, and goes with the connection.
# Arguments: folder, name of the environment, python, bytes of an archive of wheels or 0, what pip is told..., token.
folder=$1 made=$1/env/$2 python=$3 bytes=$4
shift 4
for token; do :; done
printf '%s\n' "$token"
umask 077
mkdir -p "$folder/env" || exit 3
for old in "$folder"/env/*.part; do
    pid=${old%.part}
    kill -0 "${pid##*.}" 2>/dev/null || rm -rf "$old"
done
part="$made.$$.part"
mkdir "$part" || exit 3
exec 3<&0
if [ "$bytes" != 0 ]; then
    mkdir "$part/wheels"
    # In English, since a full disk is looked for in its words.
    head -c "$bytes" <&3 | LC_ALL=C tar -xf - -C "$part/wheels" 2>&1 || { rm -rf "$part"; exit 3; }
fi
# Whoever asked for it is gone: so is this.
(
    cat <&3 >/dev/null
    trap '' TERM
    kill -TERM 0
    sleep 1
    rm -rf "$part"
) &
watch=$!
end() {
    kill -KILL "$watch"
    rm -rf "$part"
    exit "$1"
}
"$python" -m venv "$part" 2>&1 || end 4
count=$#
while [ "$count" -gt 1 ]; do
    word=$1
    shift
    [ "$word" = @WHEELS@ ] && word="$part/wheels"
    set -- "$@" "$word"
    count=$((count - 1))
done
shift
"$part/bin/python" -m pip install --no-cache-dir --no-input --progress-bar off --disable-pip-version-check --only-binary :all: "$@" 2>&1 || end 5
rm -rf "$part/wheels"
"$part/bin/python" -I -c 'import numpy, onnx, onnxruntime' 2>&1 || {
    [ $? = 132 ] && echo 'illegal instruction: its processor is older than the wheels allow'
    end 6
}
: >"$part/ready" || end 3
"$made/bin/python" -c '' 2>/dev/null || rm -rf "$made"
"$python" -c 'import os, sys; os.rename(*sys.argv[1:])' "$part" "$made" 2>/dev/null
[ -f "$made/ready" ] || end 3
end 0
