# Shows the active environment before the prompt, until none is active. conda's own hook for fish shows
# what CONDA_PROMPT_MODIFIER says; where it is there, nothing is left to do.
if set -q CONDA_PROMPT_MODIFIER
    if not functions -q __conda_add_prompt; and not functions -q _trainenv_prompt_before
        if functions -q fish_prompt
            functions -c fish_prompt _trainenv_prompt_before
        else
            function _trainenv_prompt_before
            end
        end
        function _trainenv_same_status
            return $argv[1]
        end
        function fish_prompt
            set -l last $status
            if set -q CONDA_PROMPT_MODIFIER; and not functions -q __conda_add_prompt
                printf '%s' $CONDA_PROMPT_MODIFIER
            end
            _trainenv_same_status $last
            _trainenv_prompt_before
        end
    end
else if functions -q _trainenv_prompt_before
    functions -e fish_prompt
    functions -c _trainenv_prompt_before fish_prompt
    functions -e _trainenv_prompt_before _trainenv_same_status
end
