# The `trainenv` function of PowerShell. `activate` and `deactivate` must change this very session;
# everything else is the program's. Whoever sources this has defined _trainenv_program before.
function global:trainenv {
    $command = switch -Wildcard ($args[0]) {
        '--workspace' { $args[2] }
        '--workspace=*' { $args[1] }
        default { $args[0] }
    }
    if (@('activate', 'deactivate') -contains $command -and -not ($args -contains '-h' -or $args -contains '--help')) {
        $code = _trainenv_program @args --shell powershell | Out-String
        if ($LASTEXITCODE -eq 0) { Invoke-Expression $code }
    } else {
        _trainenv_program @args
    }
}
