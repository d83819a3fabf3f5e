# `trainenv shell` starts zsh with this folder as ZDOTDIR. The user's own .zshenv may name a ZDOTDIR.
if [[ -n "${_TRAINENV_ZDOTDIR+x}" ]]; then
    ZDOTDIR="$_TRAINENV_ZDOTDIR"
else
    unset ZDOTDIR
fi
[[ -r "${ZDOTDIR-$HOME}/.zshenv" ]] && . "${ZDOTDIR-$HOME}/.zshenv"
if [[ -n "${ZDOTDIR+x}" ]]; then
    _TRAINENV_ZDOTDIR="$ZDOTDIR"
else
    unset _TRAINENV_ZDOTDIR
fi
ZDOTDIR="$_TRAINENV_STARTUP_FOLDER"
