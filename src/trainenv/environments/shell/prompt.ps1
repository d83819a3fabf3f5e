# Shows the active environment before the prompt, until none is active.
if ($Env:CONDA_PROMPT_MODIFIER) {
    if (-not (Test-Path Function:\_trainenv_prompt_before)) {
        Set-Item Function:\global:_trainenv_prompt_before (Get-Item Function:\prompt).ScriptBlock
        Set-Item Function:\global:prompt { "$Env:CONDA_PROMPT_MODIFIER$(_trainenv_prompt_before)" }
    }
} elseif (Test-Path Function:\_trainenv_prompt_before) {
    Set-Item Function:\global:prompt (Get-Item Function:\_trainenv_prompt_before).ScriptBlock
    Remove-Item Function:\_trainenv_prompt_before
}
