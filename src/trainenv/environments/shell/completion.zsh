# Completes the words of `trainenv` in zsh, where the user has zsh's completion on.
_trainenv_completion() {
    local kind value help
    local -a plain described
    while IFS=$'\t' read -r kind value help; do
        case "$kind" in
            plain)
                if [[ -n "$help" ]]; then
                    described+=("${value//:/\\:}:$help")
                else
                    plain+=("$value")
                fi
                ;;
            dir) _path_files -/ ;;
            file) _path_files ;;
        esac
    done < <(
        export _TRAINENV_COMPLETE="${(pj:\x1f:)words[2,CURRENT]}"
        _trainenv_program 2>/dev/null
    )
    (( ${#described[@]} )) && _describe -V trainenv described
    (( ${#plain[@]} )) && compadd -V trainenv -a plain
}
(( ${+functions[compdef]} )) && compdef _trainenv_completion trainenv
true
