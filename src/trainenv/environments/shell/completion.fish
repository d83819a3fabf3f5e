# Completes the words of `trainenv` in fish.
function _trainenv_completion
    set -l words (commandline -opc) (commandline -ct)
    set -lx _TRAINENV_COMPLETE (string join \x1f -- $words[2..-1])
    for line in (_trainenv_program 2>/dev/null)
        set -l parts (string split \t -- $line)
        switch $parts[1]
            case plain
                string join \t -- $parts[2..-1]
            case dir
                __fish_complete_directories $words[-1]
            case file
                __fish_complete_path $words[-1]
        end
    end
end
complete --no-files --keep-order --command trainenv --arguments '(_trainenv_completion)'
