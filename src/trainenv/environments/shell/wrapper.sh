# The `trainenv` function of bash, zsh and sh. `activate` and `deactivate` must change this very shell;
# everything else is the program's. Whoever sources this has defined _trainenv_program before.
trainenv() {
    local command word code _trainenv_shown
    case "${1-}" in
        --workspace) command="${3-}" ;;
        --workspace=*) command="${2-}" ;;
        *) command="${1-}" ;;
    esac
    case "$command" in
        activate | deactivate)
            for word in "$@"; do
                case "$word" in
                    -h | --help) command=help ;;
                esac
            done
            ;;
    esac
    case "$command" in
        activate | deactivate)
            code="$(_trainenv_program "$@" --shell posix)" || return
            eval "$code"
            ;;
        *) _trainenv_program "$@" ;;
    esac
}
