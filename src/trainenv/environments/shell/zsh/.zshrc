# What `trainenv shell` starts zsh with: the user's own start-up, then the environment on top of it.
if [[ -n "${_TRAINENV_ZDOTDIR+x}" ]]; then
    ZDOTDIR="$_TRAINENV_ZDOTDIR"
    unset _TRAINENV_ZDOTDIR
else
    unset ZDOTDIR
fi
unset _TRAINENV_STARTUP_FOLDER
[[ -r "${ZDOTDIR-$HOME}/.zshrc" ]] && . "${ZDOTDIR-$HOME}/.zshrc"
eval "$_TRAINENV_STARTUP" || exit 1
