# bash completion for oproxy. Printed by `make gen`; changes are lost.

_oproxy() {
    # Words as typed up to the cursor: bash itself would cut them at the colons of model names.
    local line=${COMP_LINE:0:COMP_POINT} cur prev at='oproxy' word skip=''
    local -a words
    read -ra words <<<"$line"
    case $line in *[[:space:]]) words+=('') ;; esac
    cur=${words[-1]}
    prev=${words[-2]}
    for word in "${words[@]:1:${#words[@]}-2}"; do
        if [[ $skip ]]; then skip=''; continue; fi
        case "$at $word" in
            'oproxy serve') at='oproxy serve' ;;
            'oproxy stop') at='oproxy stop' ;;
            'oproxy status') at='oproxy status' ;;
            'oproxy run') at='oproxy run' ;;
            'oproxy env') at='oproxy env' ;;
            'oproxy doctor') at='oproxy doctor' ;;
            'oproxy chat') at='oproxy chat' ;;
            'oproxy models') at='oproxy models' ;;
            'oproxy files') at='oproxy files' ;;
            'oproxy batch') at='oproxy batch' ;;
            'oproxy logs') at='oproxy logs' ;;
            'oproxy usage') at='oproxy usage' ;;
            'oproxy cert') at='oproxy cert' ;;
            'oproxy keys') at='oproxy keys' ;;
            'oproxy config') at='oproxy config' ;;
            'oproxy --config') skip=1 ;;
            'oproxy serve --host') skip=1 ;;
            'oproxy serve --port') skip=1 ;;
            'oproxy serve --config') skip=1 ;;
            'oproxy serve --backend') skip=1 ;;
            'oproxy serve --log-level') skip=1 ;;
            'oproxy run --budget') skip=1 ;;
            'oproxy run --tokens') skip=1 ;;
            'oproxy run --model') skip=1 ;;
            'oproxy run --tag') skip=1 ;;
            'oproxy env --shell') skip=1 ;;
            'oproxy env --for') skip=1 ;;
            'oproxy chat -m'|'oproxy chat --model') skip=1 ;;
            'oproxy chat -s'|'oproxy chat --system') skip=1 ;;
            'oproxy chat -i'|'oproxy chat --image') skip=1 ;;
            'oproxy chat --schema') skip=1 ;;
            'oproxy chat --temperature') skip=1 ;;
            'oproxy chat --max-tokens') skip=1 ;;
            'oproxy chat --resume-id') skip=1 ;;
            'oproxy chat --config') skip=1 ;;
            'oproxy models list') at='oproxy models list' ;;
            'oproxy models show') at='oproxy models show' ;;
            'oproxy models ps') at='oproxy models ps' ;;
            'oproxy models pull') at='oproxy models pull' ;;
            'oproxy models rm') at='oproxy models rm' ;;
            'oproxy models load') at='oproxy models load' ;;
            'oproxy models unload') at='oproxy models unload' ;;
            'oproxy models alias') at='oproxy models alias' ;;
            'oproxy models list --config') skip=1 ;;
            'oproxy models show --config') skip=1 ;;
            'oproxy models ps --config') skip=1 ;;
            'oproxy models pull --backend') skip=1 ;;
            'oproxy models pull --config') skip=1 ;;
            'oproxy models rm --config') skip=1 ;;
            'oproxy models load --keep-alive') skip=1 ;;
            'oproxy models load --config') skip=1 ;;
            'oproxy models unload --config') skip=1 ;;
            'oproxy models alias list') at='oproxy models alias list' ;;
            'oproxy models alias add') at='oproxy models alias add' ;;
            'oproxy models alias rm') at='oproxy models alias rm' ;;
            'oproxy models alias list --config') skip=1 ;;
            'oproxy models alias add --config') skip=1 ;;
            'oproxy models alias rm --config') skip=1 ;;
            'oproxy files upload') at='oproxy files upload' ;;
            'oproxy files list') at='oproxy files list' ;;
            'oproxy files show') at='oproxy files show' ;;
            'oproxy files download') at='oproxy files download' ;;
            'oproxy files rm') at='oproxy files rm' ;;
            'oproxy files upload --purpose') skip=1 ;;
            'oproxy files upload --config') skip=1 ;;
            'oproxy files list --purpose') skip=1 ;;
            'oproxy files list --config') skip=1 ;;
            'oproxy files show --config') skip=1 ;;
            'oproxy files download -o'|'oproxy files download --output') skip=1 ;;
            'oproxy files download --config') skip=1 ;;
            'oproxy files rm --config') skip=1 ;;
            'oproxy batch submit') at='oproxy batch submit' ;;
            'oproxy batch list') at='oproxy batch list' ;;
            'oproxy batch show') at='oproxy batch show' ;;
            'oproxy batch watch') at='oproxy batch watch' ;;
            'oproxy batch cancel') at='oproxy batch cancel' ;;
            'oproxy batch results') at='oproxy batch results' ;;
            'oproxy batch submit --endpoint') skip=1 ;;
            'oproxy batch submit --config') skip=1 ;;
            'oproxy batch list --limit') skip=1 ;;
            'oproxy batch list --config') skip=1 ;;
            'oproxy batch show --config') skip=1 ;;
            'oproxy batch watch --config') skip=1 ;;
            'oproxy batch cancel --config') skip=1 ;;
            'oproxy batch results -o'|'oproxy batch results --output') skip=1 ;;
            'oproxy batch results --config') skip=1 ;;
            'oproxy logs show') at='oproxy logs show' ;;
            'oproxy logs replay') at='oproxy logs replay' ;;
            'oproxy logs prune') at='oproxy logs prune' ;;
            'oproxy logs path') at='oproxy logs path' ;;
            'oproxy logs -n'|'oproxy logs --number') skip=1 ;;
            'oproxy logs --since') skip=1 ;;
            'oproxy logs --until') skip=1 ;;
            'oproxy logs --model') skip=1 ;;
            'oproxy logs --key') skip=1 ;;
            'oproxy logs --tag') skip=1 ;;
            'oproxy logs --status') skip=1 ;;
            'oproxy logs --slow') skip=1 ;;
            'oproxy logs --grep') skip=1 ;;
            'oproxy logs --config') skip=1 ;;
            'oproxy logs show --as') skip=1 ;;
            'oproxy logs show --config') skip=1 ;;
            'oproxy logs replay -m'|'oproxy logs replay --model') skip=1 ;;
            'oproxy logs replay --times') skip=1 ;;
            'oproxy logs replay --config') skip=1 ;;
            'oproxy logs prune --before') skip=1 ;;
            'oproxy logs prune --config') skip=1 ;;
            'oproxy logs path --config') skip=1 ;;
            'oproxy usage prune') at='oproxy usage prune' ;;
            'oproxy usage --by') skip=1 ;;
            'oproxy usage --since') skip=1 ;;
            'oproxy usage --until') skip=1 ;;
            'oproxy usage --model') skip=1 ;;
            'oproxy usage --key') skip=1 ;;
            'oproxy usage --tag') skip=1 ;;
            'oproxy usage --status') skip=1 ;;
            'oproxy usage --as') skip=1 ;;
            'oproxy usage --config') skip=1 ;;
            'oproxy usage prune --before') skip=1 ;;
            'oproxy usage prune --config') skip=1 ;;
            'oproxy cert install') at='oproxy cert install' ;;
            'oproxy cert status') at='oproxy cert status' ;;
            'oproxy cert renew') at='oproxy cert renew' ;;
            'oproxy cert uninstall') at='oproxy cert uninstall' ;;
            'oproxy cert install --config') skip=1 ;;
            'oproxy cert status --config') skip=1 ;;
            'oproxy cert renew --config') skip=1 ;;
            'oproxy keys create') at='oproxy keys create' ;;
            'oproxy keys list') at='oproxy keys list' ;;
            'oproxy keys show') at='oproxy keys show' ;;
            'oproxy keys set') at='oproxy keys set' ;;
            'oproxy keys rotate') at='oproxy keys rotate' ;;
            'oproxy keys revoke') at='oproxy keys revoke' ;;
            'oproxy keys rm') at='oproxy keys rm' ;;
            'oproxy keys create --expires') skip=1 ;;
            'oproxy keys create --model') skip=1 ;;
            'oproxy keys create --endpoint') skip=1 ;;
            'oproxy keys create --tier') skip=1 ;;
            'oproxy keys create --limit') skip=1 ;;
            'oproxy keys create --budget') skip=1 ;;
            'oproxy keys create --count') skip=1 ;;
            'oproxy keys create --tag') skip=1 ;;
            'oproxy keys create --config') skip=1 ;;
            'oproxy keys list --config') skip=1 ;;
            'oproxy keys show --config') skip=1 ;;
            'oproxy keys set --name') skip=1 ;;
            'oproxy keys set --expires') skip=1 ;;
            'oproxy keys set --model') skip=1 ;;
            'oproxy keys set --endpoint') skip=1 ;;
            'oproxy keys set --tier') skip=1 ;;
            'oproxy keys set --limit') skip=1 ;;
            'oproxy keys set --budget') skip=1 ;;
            'oproxy keys set --count') skip=1 ;;
            'oproxy keys set --tag') skip=1 ;;
            'oproxy keys set --config') skip=1 ;;
            'oproxy keys rotate --config') skip=1 ;;
            'oproxy keys revoke --config') skip=1 ;;
            'oproxy keys rm --config') skip=1 ;;
            'oproxy config path') at='oproxy config path' ;;
            'oproxy config show') at='oproxy config show' ;;
            'oproxy config init') at='oproxy config init' ;;
            'oproxy config check') at='oproxy config check' ;;
            'oproxy config get') at='oproxy config get' ;;
            'oproxy config set') at='oproxy config set' ;;
            'oproxy config edit') at='oproxy config edit' ;;
            'oproxy config path --config') skip=1 ;;
            'oproxy config show --config') skip=1 ;;
            'oproxy config init --config') skip=1 ;;
            'oproxy config check --config') skip=1 ;;
            'oproxy config get --config') skip=1 ;;
            'oproxy config set --config') skip=1 ;;
            'oproxy config edit --config') skip=1 ;;
        esac
    done
    case $cur in --*=*) prev=${cur%%=*} cur=${cur#*=} ;; esac

    COMPREPLY=()
    case "$at $prev" in
        'oproxy --config') return ;;
        'oproxy serve --host') return ;;
        'oproxy serve --port') return ;;
        'oproxy serve --config') return ;;
        'oproxy serve --backend') return ;;
        'oproxy serve --log-level') _oproxy_offer "$cur" debug info warning error; return ;;
        'oproxy run --budget') return ;;
        'oproxy run --tokens') return ;;
        'oproxy run --model') _oproxy_models "$cur"; return ;;
        'oproxy run --tag') return ;;
        'oproxy env --shell') _oproxy_offer "$cur" bash zsh fish powershell dotenv json; return ;;
        'oproxy env --for') _oproxy_offer "$cur" aider continue cline codex claude-code opencode langchain llamaindex vscode cursor curl python node; return ;;
        'oproxy chat -m'|'oproxy chat --model') _oproxy_models "$cur"; return ;;
        'oproxy chat -s'|'oproxy chat --system') return ;;
        'oproxy chat -i'|'oproxy chat --image') return ;;
        'oproxy chat --schema') return ;;
        'oproxy chat --temperature') return ;;
        'oproxy chat --max-tokens') return ;;
        'oproxy chat --resume-id') return ;;
        'oproxy chat --config') return ;;
        'oproxy models list --config') return ;;
        'oproxy models show --config') return ;;
        'oproxy models ps --config') return ;;
        'oproxy models pull --backend') return ;;
        'oproxy models pull --config') return ;;
        'oproxy models rm --config') return ;;
        'oproxy models load --keep-alive') return ;;
        'oproxy models load --config') return ;;
        'oproxy models unload --config') return ;;
        'oproxy models alias list --config') return ;;
        'oproxy models alias add --config') return ;;
        'oproxy models alias rm --config') return ;;
        'oproxy files upload --purpose') return ;;
        'oproxy files upload --config') return ;;
        'oproxy files list --purpose') return ;;
        'oproxy files list --config') return ;;
        'oproxy files show --config') return ;;
        'oproxy files download -o'|'oproxy files download --output') return ;;
        'oproxy files download --config') return ;;
        'oproxy files rm --config') return ;;
        'oproxy batch submit --endpoint') return ;;
        'oproxy batch submit --config') return ;;
        'oproxy batch list --limit') return ;;
        'oproxy batch list --config') return ;;
        'oproxy batch show --config') return ;;
        'oproxy batch watch --config') return ;;
        'oproxy batch cancel --config') return ;;
        'oproxy batch results -o'|'oproxy batch results --output') return ;;
        'oproxy batch results --config') return ;;
        'oproxy logs -n'|'oproxy logs --number') return ;;
        'oproxy logs --since') return ;;
        'oproxy logs --until') return ;;
        'oproxy logs --model') _oproxy_models "$cur"; return ;;
        'oproxy logs --key') return ;;
        'oproxy logs --tag') return ;;
        'oproxy logs --status') return ;;
        'oproxy logs --slow') return ;;
        'oproxy logs --grep') return ;;
        'oproxy logs --config') return ;;
        'oproxy logs show --as') _oproxy_offer "$cur" curl python httpie json; return ;;
        'oproxy logs show --config') return ;;
        'oproxy logs replay -m'|'oproxy logs replay --model') _oproxy_models "$cur"; return ;;
        'oproxy logs replay --times') return ;;
        'oproxy logs replay --config') return ;;
        'oproxy logs prune --before') return ;;
        'oproxy logs prune --config') return ;;
        'oproxy logs path --config') return ;;
        'oproxy usage --by') return ;;
        'oproxy usage --since') return ;;
        'oproxy usage --until') return ;;
        'oproxy usage --model') _oproxy_models "$cur"; return ;;
        'oproxy usage --key') return ;;
        'oproxy usage --tag') return ;;
        'oproxy usage --status') return ;;
        'oproxy usage --as') _oproxy_models "$cur"; return ;;
        'oproxy usage --config') return ;;
        'oproxy usage prune --before') return ;;
        'oproxy usage prune --config') return ;;
        'oproxy cert install --config') return ;;
        'oproxy cert status --config') return ;;
        'oproxy cert renew --config') return ;;
        'oproxy keys create --expires') return ;;
        'oproxy keys create --model') return ;;
        'oproxy keys create --endpoint') return ;;
        'oproxy keys create --tier') return ;;
        'oproxy keys create --limit') return ;;
        'oproxy keys create --budget') return ;;
        'oproxy keys create --count') _oproxy_offer "$cur" cost list; return ;;
        'oproxy keys create --tag') return ;;
        'oproxy keys create --config') return ;;
        'oproxy keys list --config') return ;;
        'oproxy keys show --config') return ;;
        'oproxy keys set --name') return ;;
        'oproxy keys set --expires') return ;;
        'oproxy keys set --model') return ;;
        'oproxy keys set --endpoint') return ;;
        'oproxy keys set --tier') return ;;
        'oproxy keys set --limit') return ;;
        'oproxy keys set --budget') return ;;
        'oproxy keys set --count') _oproxy_offer "$cur" cost list; return ;;
        'oproxy keys set --tag') return ;;
        'oproxy keys set --config') return ;;
        'oproxy keys rotate --config') return ;;
        'oproxy keys revoke --config') return ;;
        'oproxy keys rm --config') return ;;
        'oproxy config path --config') return ;;
        'oproxy config show --config') return ;;
        'oproxy config init --config') return ;;
        'oproxy config check --config') return ;;
        'oproxy config get --config') return ;;
        'oproxy config set --config') return ;;
        'oproxy config edit --config') return ;;
    esac
    case $cur in
        -*)
            case $at in
                'oproxy') _oproxy_offer "$cur" --config --version -h --help ;;
                'oproxy serve') _oproxy_offer "$cur" --host --port --config --backend --log-level --https --fetch -d --detach -h --help ;;
                'oproxy stop') _oproxy_offer "$cur" --force -h --help ;;
                'oproxy status') _oproxy_offer "$cur" --json -h --help ;;
                'oproxy run') _oproxy_offer "$cur" --budget --tokens --model --tag -q --quiet -h --help ;;
                'oproxy env') _oproxy_offer "$cur" --shell --for -h --help ;;
                'oproxy doctor') _oproxy_offer "$cur" --json -h --help ;;
                'oproxy chat') _oproxy_offer "$cur" -m --model -s --system -i --image --schema --temperature --max-tokens --no-stream -r --resume --resume-id --stats --json --config -h --help ;;
                'oproxy models') _oproxy_offer "$cur" -h --help ;;
                'oproxy models list') _oproxy_offer "$cur" --json --names --config -h --help ;;
                'oproxy models show') _oproxy_offer "$cur" --json --config -h --help ;;
                'oproxy models ps') _oproxy_offer "$cur" --json --config -h --help ;;
                'oproxy models pull') _oproxy_offer "$cur" --backend --config -h --help ;;
                'oproxy models rm') _oproxy_offer "$cur" -y --yes --config -h --help ;;
                'oproxy models load') _oproxy_offer "$cur" --keep-alive --config -h --help ;;
                'oproxy models unload') _oproxy_offer "$cur" --config -h --help ;;
                'oproxy models alias') _oproxy_offer "$cur" -h --help ;;
                'oproxy models alias list') _oproxy_offer "$cur" --json --config -h --help ;;
                'oproxy models alias add') _oproxy_offer "$cur" --config -h --help ;;
                'oproxy models alias rm') _oproxy_offer "$cur" --config -h --help ;;
                'oproxy files') _oproxy_offer "$cur" -h --help ;;
                'oproxy files upload') _oproxy_offer "$cur" --purpose --json --config -h --help ;;
                'oproxy files list') _oproxy_offer "$cur" --purpose --json --config -h --help ;;
                'oproxy files show') _oproxy_offer "$cur" --json --config -h --help ;;
                'oproxy files download') _oproxy_offer "$cur" -o --output -f --force --config -h --help ;;
                'oproxy files rm') _oproxy_offer "$cur" --config -h --help ;;
                'oproxy batch') _oproxy_offer "$cur" -h --help ;;
                'oproxy batch submit') _oproxy_offer "$cur" --endpoint -w --watch --json --config -h --help ;;
                'oproxy batch list') _oproxy_offer "$cur" --limit --json --config -h --help ;;
                'oproxy batch show') _oproxy_offer "$cur" --json --config -h --help ;;
                'oproxy batch watch') _oproxy_offer "$cur" --json --config -h --help ;;
                'oproxy batch cancel') _oproxy_offer "$cur" --config -h --help ;;
                'oproxy batch results') _oproxy_offer "$cur" -o --output --errors --config -h --help ;;
                'oproxy logs') _oproxy_offer "$cur" -n --number -f --follow --since --until --model --key --tag --status --errors --slow --grep --json --config -h --help ;;
                'oproxy logs show') _oproxy_offer "$cur" --as --json --config -h --help ;;
                'oproxy logs replay') _oproxy_offer "$cur" -m --model --times --diff --json --config -h --help ;;
                'oproxy logs prune') _oproxy_offer "$cur" --before --all -y --yes --config -h --help ;;
                'oproxy logs path') _oproxy_offer "$cur" --daemon --config -h --help ;;
                'oproxy usage') _oproxy_offer "$cur" --by --since --until --model --key --tag --status --as --json --csv --watch --config -h --help ;;
                'oproxy usage prune') _oproxy_offer "$cur" --before -y --yes --config -h --help ;;
                'oproxy cert') _oproxy_offer "$cur" -h --help ;;
                'oproxy cert install') _oproxy_offer "$cur" --trust --no-trust -y --yes --config -h --help ;;
                'oproxy cert status') _oproxy_offer "$cur" --json --config -h --help ;;
                'oproxy cert renew') _oproxy_offer "$cur" --config -h --help ;;
                'oproxy cert uninstall') _oproxy_offer "$cur" --ca --keep-ca -h --help ;;
                'oproxy keys') _oproxy_offer "$cur" -h --help ;;
                'oproxy keys create') _oproxy_offer "$cur" --expires --model --endpoint --tier --limit --budget --count --tag --admin --no-admin --json --config -h --help ;;
                'oproxy keys list') _oproxy_offer "$cur" -a --all --json --config -h --help ;;
                'oproxy keys show') _oproxy_offer "$cur" --json --config -h --help ;;
                'oproxy keys set') _oproxy_offer "$cur" --name --expires --model --endpoint --tier --limit --budget --count --tag --admin --no-admin --config -h --help ;;
                'oproxy keys rotate') _oproxy_offer "$cur" --json --config -h --help ;;
                'oproxy keys revoke') _oproxy_offer "$cur" --undo --config -h --help ;;
                'oproxy keys rm') _oproxy_offer "$cur" -y --yes --config -h --help ;;
                'oproxy config') _oproxy_offer "$cur" -h --help ;;
                'oproxy config path') _oproxy_offer "$cur" --config -h --help ;;
                'oproxy config show') _oproxy_offer "$cur" --json --changed --config -h --help ;;
                'oproxy config init') _oproxy_offer "$cur" --force --config -h --help ;;
                'oproxy config check') _oproxy_offer "$cur" --config -h --help ;;
                'oproxy config get') _oproxy_offer "$cur" --json --config -h --help ;;
                'oproxy config set') _oproxy_offer "$cur" --config -h --help ;;
                'oproxy config edit') _oproxy_offer "$cur" --config -h --help ;;
            esac
            return
            ;;
    esac
    case $at in
        'oproxy') _oproxy_offer "$cur" serve stop status run env doctor chat models files batch logs usage cert keys config ;;
        'oproxy models') _oproxy_offer "$cur" list show ps pull rm load unload alias ;;
        'oproxy models show') _oproxy_models "$cur" ;;
        'oproxy models pull') _oproxy_models "$cur" ;;
        'oproxy models rm') _oproxy_models "$cur" ;;
        'oproxy models load') _oproxy_models "$cur" ;;
        'oproxy models unload') _oproxy_models "$cur" ;;
        'oproxy models alias') _oproxy_offer "$cur" list add rm ;;
        'oproxy models alias add') _oproxy_models "$cur" ;;
        'oproxy files') _oproxy_offer "$cur" upload list show download rm ;;
        'oproxy batch') _oproxy_offer "$cur" submit list show watch cancel results ;;
        'oproxy logs') _oproxy_offer "$cur" show replay prune path ;;
        'oproxy usage') _oproxy_offer "$cur" prune ;;
        'oproxy cert') _oproxy_offer "$cur" install status renew uninstall ;;
        'oproxy keys') _oproxy_offer "$cur" create list show set rotate revoke rm ;;
        'oproxy config') _oproxy_offer "$cur" path show init check get set edit ;;
    esac
}

_oproxy_offer() {
    # Not by `compgen -W`, which would run what stands in a word between $( and ).
    local cur=$1 word
    shift
    for word; do
        if [[ $word == "$cur"* ]]; then COMPREPLY+=("$word"); fi
    done
    # What stands before the last colon is already on the line as words of their own.
    if [[ $COMP_WORDBREAKS == *:* ]]; then COMPREPLY=("${COMPREPLY[@]#"${cur%"${cur##*:}"}"}"); fi
}

_oproxy_models() {
    # Model servers choose these names: what a shell would read as more than a word is quoted.
    local name
    local -a names
    while IFS= read -r name; do
        if [[ $name == *[!A-Za-z0-9._:/@+,=-]* ]]; then printf -v name %q "$name"; fi
        names+=("$name")
    done < <(oproxy models list --names 2>/dev/null)
    _oproxy_offer "$1" "${names[@]}"
}

complete -F _oproxy -o bashdefault -o default oproxy
