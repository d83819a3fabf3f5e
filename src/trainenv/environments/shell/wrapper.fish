# The `trainenv` function of fish. `activate` and `deactivate` must change this very shell; everything
# else is the program's. Whoever sources this has defined _trainenv_program before.
function trainenv
    set -l command $argv[1]
    switch "$command"
        case --workspace
            set command $argv[3]
        case '--workspace=*'
            set command $argv[2]
    end
    if contains -- "$command" activate deactivate; and not contains -- -h $argv; and not contains -- --help $argv
        set -l code (_trainenv_program $argv --shell fish | string collect)
        set -l ended $pipestatus[1]
        test $ended -eq 0; or return $ended
        printf '%s\n' "$code" | source
    else
        _trainenv_program $argv
    end
end
