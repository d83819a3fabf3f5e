# This file was made by trainenv. Source it to undo what sourcing `activate` beside it did.

if [ -n "${_TRAINENV_ACTIVE-}" ]; then
    _trainenv_step=deactivate
    . "$_TRAINENV_ACTIVE/bin/activate"
fi
