# Ends what runs on a board and removes our folder, if it is ours; goes on from where.sh.
# Arguments: folder, token.
[ -e "$root" ] || { say found nothing; exit 0; }
[ -d "$root" ] && [ -O "$root" ] && [ -f "$root/prune-deploy-board" ] || { say found other; exit 0; }
# A job stands in its own folder: a process that took over its number does not.
running() {
    for job in "$root"/jobs/*/; do
        pid=$(sed -n 's/.*"pid": \([0-9]*\).*/\1/p' "$job/state" 2>/dev/null)
        [ -n "$pid" ] && [ "/proc/$pid/cwd" -ef "$job" ] && echo "$pid"
    done
}
for signal in TERM KILL; do
    for pid in $(running); do kill -s "$signal" "$pid"; done
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        [ -z "$(running)" ] && break
        sleep 1
    done
done
# The folder itself stays where only somebody else may remove it.
rm -rf "$root" || [ -z "$(ls -A "$root")" ] && say found ours
