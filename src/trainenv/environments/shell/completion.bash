# Completes the words of `trainenv` in bash.
_trainenv_completion() {
    local kind value
    COMPREPLY=()
    while IFS=$'\t' read -r kind value _; do
        case "$kind" in
            plain) COMPREPLY+=("$(printf '%q' "$value")") ;;
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
        esac
    done < <(
        words="$(IFS=$'\x1f'; printf '%s' "${COMP_WORDS[*]:1:COMP_CWORD}")"
        export _TRAINENV_COMPLETE="$words"
        _trainenv_program 2>/dev/null
    )
}
complete -o nosort -F _trainenv_completion trainenv 2>/dev/null || complete -F _trainenv_completion trainenv
