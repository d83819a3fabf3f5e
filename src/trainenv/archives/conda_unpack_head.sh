#!/bin/sh
"""":
# To a shell the line above does nothing, and it never reads beyond the last `return` or `exit` below;
# to Python all of this is one string. A subshell does the work, so that a shell that sources this file
# keeps its variables, options, folder and arguments.
(
    set +fu; unset IFS
    if [ -n "${BASH_VERSION-}" ]; then me=$BASH_SOURCE; else me=$0; fi
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
    case $python in
    "") echo "conda-unpack: no Python starts, neither in $prefix nor on PATH" >&2; exit 1 ;;
    python3) echo "conda-unpack: no Python starts in $prefix; using python3 of PATH" >&2 ;;
    esac
    case ${ZSH_EVAL_CONTEXT-} in *file*) exec "$python" -ISB "$me" ;; esac
    if [ "$(readlink -f -- "$0" 2>/dev/null)" = "$me" ]; then exec "$python" -ISB "$me" "$@"; fi
    exec "$python" -ISB "$me"
) && { return 0 2>/dev/null || exit 0; }
return 1 2>/dev/null || exit 1
"""
