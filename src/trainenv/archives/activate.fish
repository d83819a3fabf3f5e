# This file was made by trainenv. Source it in fish to activate the environment that it lies in:
# `source bin/activate.fish`. It works before and after `conda-unpack`; `deactivate` undoes it.

function _trainenv_variables --argument-names prefix step
    # The environment's own variables, as `conda env config vars` keeps them; what they hide is kept.
    test -f $prefix/conda-meta/state; or return 0
    set -l program '
import json, os, re, sys
with open(sys.argv[1] + "/conda-meta/state") as stream:
    found = json.load(stream).get("env_vars", {})
def quoted(text):
    return "\'" + text.replace("\\\\", "\\\\\\\\").replace("\'", "\\\\\'") + "\'"
for name, value in found.items():
    former = "_TRAINENV_FORMER_" + name
    if not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name):
        continue
    if sys.argv[2] == "deactivate":
        kept = former in os.environ
        print("set -gx %s %s; set -e %s" % (name, quoted(os.environ[former]), former) if kept else "set -e " + name)
        continue
    if name in os.environ:
        print("set -gx %s %s" % (former, quoted(os.environ[name])))
    print("set -e " + name if value == "***unset***" else "set -gx %s %s" % (name, quoted(str(value))))
'
    $prefix/bin/python -ISB -c $program $prefix $step 2>/dev/null | source
end

function deactivate --description 'Undo the activation of an environment that trainenv packed'
    set -q _TRAINENV_ACTIVE; or return 0
    for script in $_TRAINENV_ACTIVE/etc/conda/deactivate.d/*.fish
        source $script
    end
    _trainenv_variables $_TRAINENV_ACTIVE deactivate
    if set -l index (contains -i -- $_TRAINENV_ACTIVE/bin $PATH)
        set -e PATH[$index]
    end
    set -e CONDA_PREFIX CONDA_DEFAULT_ENV
    set -q _TRAINENV_FORMER_PREFIX; and set -gx CONDA_PREFIX $_TRAINENV_FORMER_PREFIX
    set -q _TRAINENV_FORMER_NAME; and set -gx CONDA_DEFAULT_ENV $_TRAINENV_FORMER_NAME
    set -e _TRAINENV_ACTIVE _TRAINENV_FORMER_PREFIX _TRAINENV_FORMER_NAME
    if functions -q _trainenv_prompt
        functions -e fish_prompt
        functions -c _trainenv_prompt fish_prompt
        functions -e _trainenv_prompt
    end
    functions -e deactivate _trainenv_variables
end

function _trainenv_activate --argument-names file
    set -l prefix (string replace -r '/bin/activate\.fish$' '' -- (realpath $file))
    if set -q _TRAINENV_ACTIVE
        test $_TRAINENV_ACTIVE = $prefix; and return 0
        # This very file has just put its own functions in the place of that one's.
        functions -c deactivate _trainenv_own_deactivate
        functions -c _trainenv_variables _trainenv_own_variables
        deactivate
        functions -c _trainenv_own_deactivate deactivate
        functions -c _trainenv_own_variables _trainenv_variables
        functions -e _trainenv_own_deactivate _trainenv_own_variables
    end
    set -q CONDA_PREFIX; and set -gx _TRAINENV_FORMER_PREFIX $CONDA_PREFIX
    set -q CONDA_DEFAULT_ENV; and set -gx _TRAINENV_FORMER_NAME $CONDA_DEFAULT_ENV
    set -gx _TRAINENV_ACTIVE $prefix
    set -gx CONDA_PREFIX $prefix
    set -gx CONDA_DEFAULT_ENV (basename $prefix)
    set -gx PATH $prefix/bin $PATH
    if functions -q fish_prompt
        functions -c fish_prompt _trainenv_prompt
        function fish_prompt
            printf '(%s) ' $CONDA_DEFAULT_ENV
            _trainenv_prompt
        end
    end
    _trainenv_variables $prefix activate
    for script in $prefix/etc/conda/activate.d/*.fish
        source $script
    end
end

_trainenv_activate (status filename)
functions -e _trainenv_activate
