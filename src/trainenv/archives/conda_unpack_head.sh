#!/bin/sh
"""":
# To a shell the line above does nothing, and what follows the last `return` or `exit` below is text for nobody (ksh
# reads it nevertheless); to Python all of this is one string. A subshell does the work, so that a shell that sources this file
# keeps its variables, options, folder and arguments.
(
    set +fu; unset IFS
    me=$0
    case ${BASH_VERSION-}/${KSH_VERSION-} in
    [0-9]*) me=$BASH_SOURCE ;;
    /Version*) eval 'me=${.sh.file}' ;;
    esac
    me=$(readlink -f -- "$me" 2>/dev/null)
    case $me in
    */bin/conda-unpack) ;;
    *)  # Not every shell says which file it sources, but each holds it open, itself or in this subshell.
        me=
        this=$(exec sh -c 'echo "$PPID"')
        while read -r key value; do
            case $key in PPid:) parent=$value ;; esac
        done <"/proc/$this/status"
        for number in "/proc/$this/fd"/* "/proc/$parent/fd"/*; do
            file=$(readlink "$number" 2>/dev/null)
            case $file in */bin/conda-unpack) me=$file ;; esac
        done
        ;;
    esac
    if [ -z "$me" ]; then
        echo "conda-unpack: this shell does not say where this file is; execute it instead" >&2
        exit 1
    fi
    prefix=${me%/bin/conda-unpack}
    python=
    for candidate in "$prefix/bin/python" "$prefix/bin/python3" python3; do
        if "$candidate" -ISB -c "" 2>/dev/null; then python=$candidate; break; fi
    done
    if [ "${python:-python3}" = python3 ]; then
        own=$prefix/bin/python
        why=$(export LC_ALL=C; "$own" -ISB -c "" 2>&1 | while read -r line; do echo "$line"; break; done)
        case $why in
        *"not found" | *"o such file"* | *"required file"*)
            why="this machine lacks the C library that it is made for"
            [ -e "$own" ] || why="there is none"
            ;;
        esac
        where="in $prefix (${why:-it fails})"
        [ -n "$python" ] || { echo "conda-unpack: no Python starts, neither $where nor on PATH" >&2; exit 1; }
        echo "conda-unpack: no Python starts $where; using python3 of PATH" >&2
    fi
    case ${ZSH_EVAL_CONTEXT-} in *file*) exec "$python" -X utf8 -ISB "$me" ;; esac
    if [ "$(readlink -f -- "$0" 2>/dev/null)" = "$me" ]; then exec "$python" -X utf8 -ISB "$me" "$@"; fi
    exec "$python" -X utf8 -ISB "$me"
) && { return 0 2>/dev/null || exit 0; }
return 1 2>/dev/null || exit 1
: <<'# The end.'
"""
