# Where our folder is on a board. First argument: as the address says it, or ""; last argument: the token.
for token; do :; done
printf '%s\n' "$token"
say() { printf '%s=%s\n' "$1" "$2"; }
case $1 in
"") root="${XDG_CACHE_HOME:-$HOME/.cache}/prune-deploy-board" ;;
"~"/*) root="$HOME/${1#"~/"}" ;;
*) root=$1 ;;
esac
say folder "$root"
