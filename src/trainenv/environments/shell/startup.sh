# What `trainenv shell` starts sh with: the user's own start-up, then the environment on top of it.
if [ -n "${_TRAINENV_ENV+x}" ]; then
    export ENV="$_TRAINENV_ENV"
    unset _TRAINENV_ENV
    [ -r "$ENV" ] && . "$ENV"
else
    unset ENV
fi
eval "$_TRAINENV_STARTUP" || exit 1
