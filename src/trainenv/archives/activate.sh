# This file was made by trainenv. Source it, in bash, zsh, dash, ksh or busybox's sh, to activate the environment
# that it lies in: `. bin/activate`. It works before and after `conda-unpack`; `. bin/deactivate` undoes it.

_trainenv_here() {
    # Of a shell that does not say which file it sources, the kernel knows: it holds the file open.
    if [ -n "${BASH_VERSION-}" ]; then
        eval '_trainenv_file=$BASH_SOURCE'
    elif [ -n "${ZSH_VERSION-}" ]; then
        eval '_trainenv_file=${(%):-%x}'
    elif case ${KSH_VERSION-} in Version*) true ;; *) false ;; esac; then
        eval '_trainenv_file=${.sh.file}'
    else
        _trainenv_file=
        for _trainenv_open in /proc/"$(exec sh -c 'echo "$PPID"')"/fd/*; do
            _trainenv_open=$(readlink "$_trainenv_open" 2>/dev/null) || continue
            case $_trainenv_open in */bin/activate) _trainenv_file=$_trainenv_open ;; esac
        done
    fi
    _trainenv_prefix=$(readlink -f -- "$_trainenv_file" 2>/dev/null) || _trainenv_prefix=
    case $_trainenv_prefix in
    */bin/activate) _trainenv_prefix=${_trainenv_prefix%/bin/activate} ;;
    *) _trainenv_prefix= ;;
    esac
}

_trainenv_variables() {
    # The environment's own variables, as `conda env config vars` keeps them; what they hide is kept.
    [ -f "$1/conda-meta/state" ] || [ -d "$1/etc/conda/env_vars.d" ] || return 0
    eval "$("$1/bin/python" -ISB -c '
import glob, json, os, re, shlex, sys
step, prefix = sys.argv[1:]
found = {}
for file in sorted(glob.glob(glob.escape(prefix) + "/etc/conda/env_vars.d/*")) + [prefix + "/conda-meta/state"]:
    try:
        with open(file) as stream:
            content = json.load(stream)
        found.update(content.get("env_vars", {}) if file.endswith("/state") else content)
    except (OSError, ValueError, AttributeError, TypeError):
        continue
for name, value in found.items():
    if not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name):
        continue
    former = "_TRAINENV_FORMER_" + name
    if step == "deactivate":
        kept = former in os.environ
        print("export %s=%s; unset %s" % (name, shlex.quote(os.environ[former]), former) if kept else "unset " + name)
        continue
    if name in os.environ:
        print("export %s=%s" % (former, shlex.quote(os.environ[name])))
    print("unset " + name if value == "***unset***" else "export %s=%s" % (name, shlex.quote(str(value))))
' "$2" "$1" 2>/dev/null)" || :
}

_trainenv_rehash() {
    if [ -n "${ZSH_VERSION-}" ]; then rehash; else hash -r 2>/dev/null || :; fi
}

_trainenv_activate() {
    [ -z "${ZSH_VERSION-}" ] || setopt local_options no_nomatch
    if [ -z "$_trainenv_prefix" ]; then
        echo "activate: this shell does not say where this file is; source it as ENVIRONMENT/bin/activate" >&2
        return 1
    fi
    if [ -n "${_TRAINENV_ACTIVE-}" ] && [ "${CONDA_PREFIX-}" = "$_TRAINENV_ACTIVE" ]; then
        [ "$_TRAINENV_ACTIVE" != "$_trainenv_prefix" ] || return 0
        _trainenv_deactivate
    fi
    [ -z "${CONDA_PREFIX-}" ] || export _TRAINENV_FORMER_PREFIX="$CONDA_PREFIX"
    [ -z "${CONDA_DEFAULT_ENV-}" ] || export _TRAINENV_FORMER_NAME="$CONDA_DEFAULT_ENV"
    export _TRAINENV_ACTIVE="$_trainenv_prefix" CONDA_PREFIX="$_trainenv_prefix"
    export CONDA_DEFAULT_ENV="${_trainenv_prefix##*/}" PATH="$_trainenv_prefix/bin${PATH:+:$PATH}"
    [ -z "${PS1-}" ] || PS1="($CONDA_DEFAULT_ENV) $PS1"
    _trainenv_variables "$_trainenv_prefix" activate
    _trainenv_rehash
    for _trainenv_script in "$_trainenv_prefix"/etc/conda/activate.d/*.sh; do
        [ ! -r "$_trainenv_script" ] || . "$_trainenv_script"
    done
}

_trainenv_deactivate() {
    [ -z "${ZSH_VERSION-}" ] || setopt local_options no_nomatch
    [ -n "${_TRAINENV_ACTIVE-}" ] || return 0
    if [ "${CONDA_PREFIX-}" != "$_TRAINENV_ACTIVE" ]; then
        echo "deactivate: deactivate ${CONDA_PREFIX-what was activated since} first" >&2
        return 1
    fi
    set --
    for _trainenv_script in "$_TRAINENV_ACTIVE"/etc/conda/deactivate.d/*.sh; do
        set -- "$_trainenv_script" "$@"
    done
    for _trainenv_script in "$@"; do
        [ ! -r "$_trainenv_script" ] || . "$_trainenv_script"
    done
    _trainenv_variables "$_TRAINENV_ACTIVE" deactivate
    case ":$PATH:" in
    *":$_TRAINENV_ACTIVE/bin:"*)
        PATH=":$PATH:"
        PATH="${PATH%%":$_TRAINENV_ACTIVE/bin:"*}:${PATH#*":$_TRAINENV_ACTIVE/bin:"}"
        PATH=${PATH#:} PATH=${PATH%:}
        ;;
    esac
    [ -z "${PS1-}" ] || PS1=${PS1#"(${_TRAINENV_ACTIVE##*/}) "}
    if [ -n "${_TRAINENV_FORMER_PREFIX-}" ]; then CONDA_PREFIX=$_TRAINENV_FORMER_PREFIX; else unset CONDA_PREFIX; fi
    if [ -n "${_TRAINENV_FORMER_NAME-}" ]; then CONDA_DEFAULT_ENV=$_TRAINENV_FORMER_NAME; else unset CONDA_DEFAULT_ENV; fi
    unset _TRAINENV_ACTIVE _TRAINENV_FORMER_PREFIX _TRAINENV_FORMER_NAME
    _trainenv_rehash
}

if [ "${_trainenv_step-}" = deactivate ]; then
    _trainenv_deactivate
else
    _trainenv_here && _trainenv_activate
fi
_trainenv_status=$?
unset -f _trainenv_here _trainenv_variables _trainenv_rehash _trainenv_activate _trainenv_deactivate
unset _trainenv_step _trainenv_file _trainenv_open _trainenv_prefix _trainenv_script
if [ "$_trainenv_status" = 0 ]; then unset _trainenv_status; else unset _trainenv_status && false; fi
