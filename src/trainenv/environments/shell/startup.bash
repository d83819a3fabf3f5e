# What `trainenv shell` starts bash with: the user's own start-up, then the environment on top of it.
[ -r ~/.bashrc ] && . ~/.bashrc
eval "$_TRAINENV_STARTUP" || exit 1
