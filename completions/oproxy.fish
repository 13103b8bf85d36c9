# fish completion for oproxy. Printed by `make gen`; changes are lost.

function __oproxy_at --description 'Whether the cursor is at the arguments of this command'
    set -l at oproxy
    set -l skip
    for word in (commandline -opc)[2..]
        if set -q skip[1]
            set skip
            continue
        end
        switch "$at $word"
            case 'oproxy serve'
                set at 'oproxy serve'
            case 'oproxy stop'
                set at 'oproxy stop'
            case 'oproxy status'
                set at 'oproxy status'
            case 'oproxy run'
                set at 'oproxy run'
            case 'oproxy env'
                set at 'oproxy env'
            case 'oproxy doctor'
                set at 'oproxy doctor'
            case 'oproxy chat'
                set at 'oproxy chat'
            case 'oproxy models'
                set at 'oproxy models'
            case 'oproxy files'
                set at 'oproxy files'
            case 'oproxy batch'
                set at 'oproxy batch'
            case 'oproxy logs'
                set at 'oproxy logs'
            case 'oproxy usage'
                set at 'oproxy usage'
            case 'oproxy cert'
                set at 'oproxy cert'
            case 'oproxy keys'
                set at 'oproxy keys'
            case 'oproxy config'
                set at 'oproxy config'
            case 'oproxy --config'
                set skip 1
            case 'oproxy serve --host'
                set skip 1
            case 'oproxy serve --port'
                set skip 1
            case 'oproxy serve --config'
                set skip 1
            case 'oproxy serve --backend'
                set skip 1
            case 'oproxy serve --log-level'
                set skip 1
            case 'oproxy run --budget'
                set skip 1
            case 'oproxy run --tokens'
                set skip 1
            case 'oproxy run --model'
                set skip 1
            case 'oproxy run --tag'
                set skip 1
            case 'oproxy env --shell'
                set skip 1
            case 'oproxy env --for'
                set skip 1
            case 'oproxy chat -m' 'oproxy chat --model'
                set skip 1
            case 'oproxy chat -s' 'oproxy chat --system'
                set skip 1
            case 'oproxy chat -i' 'oproxy chat --image'
                set skip 1
            case 'oproxy chat --schema'
                set skip 1
            case 'oproxy chat --temperature'
                set skip 1
            case 'oproxy chat --max-tokens'
                set skip 1
            case 'oproxy chat --resume-id'
                set skip 1
            case 'oproxy chat --config'
                set skip 1
            case 'oproxy models list'
                set at 'oproxy models list'
            case 'oproxy models show'
                set at 'oproxy models show'
            case 'oproxy models ps'
                set at 'oproxy models ps'
            case 'oproxy models pull'
                set at 'oproxy models pull'
            case 'oproxy models rm'
                set at 'oproxy models rm'
            case 'oproxy models load'
                set at 'oproxy models load'
            case 'oproxy models unload'
                set at 'oproxy models unload'
            case 'oproxy models alias'
                set at 'oproxy models alias'
            case 'oproxy models list --config'
                set skip 1
            case 'oproxy models show --config'
                set skip 1
            case 'oproxy models ps --config'
                set skip 1
            case 'oproxy models pull --backend'
                set skip 1
            case 'oproxy models pull --config'
                set skip 1
            case 'oproxy models rm --config'
                set skip 1
            case 'oproxy models load --keep-alive'
                set skip 1
            case 'oproxy models load --config'
                set skip 1
            case 'oproxy models unload --config'
                set skip 1
            case 'oproxy models alias list'
                set at 'oproxy models alias list'
            case 'oproxy models alias add'
                set at 'oproxy models alias add'
            case 'oproxy models alias rm'
                set at 'oproxy models alias rm'
            case 'oproxy models alias list --config'
                set skip 1
            case 'oproxy models alias add --config'
                set skip 1
            case 'oproxy models alias rm --config'
                set skip 1
            case 'oproxy files upload'
                set at 'oproxy files upload'
            case 'oproxy files list'
                set at 'oproxy files list'
            case 'oproxy files show'
                set at 'oproxy files show'
            case 'oproxy files download'
                set at 'oproxy files download'
            case 'oproxy files rm'
                set at 'oproxy files rm'
            case 'oproxy files upload --purpose'
                set skip 1
            case 'oproxy files upload --config'
                set skip 1
            case 'oproxy files list --purpose'
                set skip 1
            case 'oproxy files list --config'
                set skip 1
            case 'oproxy files show --config'
                set skip 1
            case 'oproxy files download -o' 'oproxy files download --output'
                set skip 1
            case 'oproxy files download --config'
                set skip 1
            case 'oproxy files rm --config'
                set skip 1
            case 'oproxy batch submit'
                set at 'oproxy batch submit'
            case 'oproxy batch list'
                set at 'oproxy batch list'
            case 'oproxy batch show'
                set at 'oproxy batch show'
            case 'oproxy batch watch'
                set at 'oproxy batch watch'
            case 'oproxy batch cancel'
                set at 'oproxy batch cancel'
            case 'oproxy batch results'
                set at 'oproxy batch results'
            case 'oproxy batch submit --endpoint'
                set skip 1
            case 'oproxy batch submit --config'
                set skip 1
            case 'oproxy batch list --limit'
                set skip 1
            case 'oproxy batch list --config'
                set skip 1
            case 'oproxy batch show --config'
                set skip 1
            case 'oproxy batch watch --config'
                set skip 1
            case 'oproxy batch cancel --config'
                set skip 1
            case 'oproxy batch results -o' 'oproxy batch results --output'
                set skip 1
            case 'oproxy batch results --config'
                set skip 1
            case 'oproxy logs show'
                set at 'oproxy logs show'
            case 'oproxy logs replay'
                set at 'oproxy logs replay'
            case 'oproxy logs prune'
                set at 'oproxy logs prune'
            case 'oproxy logs path'
                set at 'oproxy logs path'
            case 'oproxy logs -n' 'oproxy logs --number'
                set skip 1
            case 'oproxy logs --since'
                set skip 1
            case 'oproxy logs --until'
                set skip 1
            case 'oproxy logs --model'
                set skip 1
            case 'oproxy logs --key'
                set skip 1
            case 'oproxy logs --tag'
                set skip 1
            case 'oproxy logs --status'
                set skip 1
            case 'oproxy logs --slow'
                set skip 1
            case 'oproxy logs --grep'
                set skip 1
            case 'oproxy logs --config'
                set skip 1
            case 'oproxy logs show --as'
                set skip 1
            case 'oproxy logs show --config'
                set skip 1
            case 'oproxy logs replay -m' 'oproxy logs replay --model'
                set skip 1
            case 'oproxy logs replay --times'
                set skip 1
            case 'oproxy logs replay --config'
                set skip 1
            case 'oproxy logs prune --before'
                set skip 1
            case 'oproxy logs prune --config'
                set skip 1
            case 'oproxy logs path --config'
                set skip 1
            case 'oproxy usage prune'
                set at 'oproxy usage prune'
            case 'oproxy usage --by'
                set skip 1
            case 'oproxy usage --since'
                set skip 1
            case 'oproxy usage --until'
                set skip 1
            case 'oproxy usage --model'
                set skip 1
            case 'oproxy usage --key'
                set skip 1
            case 'oproxy usage --tag'
                set skip 1
            case 'oproxy usage --status'
                set skip 1
            case 'oproxy usage --as'
                set skip 1
            case 'oproxy usage --config'
                set skip 1
            case 'oproxy usage prune --before'
                set skip 1
            case 'oproxy usage prune --config'
                set skip 1
            case 'oproxy cert install'
                set at 'oproxy cert install'
            case 'oproxy cert status'
                set at 'oproxy cert status'
            case 'oproxy cert renew'
                set at 'oproxy cert renew'
            case 'oproxy cert uninstall'
                set at 'oproxy cert uninstall'
            case 'oproxy cert install --config'
                set skip 1
            case 'oproxy cert status --config'
                set skip 1
            case 'oproxy cert renew --config'
                set skip 1
            case 'oproxy keys create'
                set at 'oproxy keys create'
            case 'oproxy keys list'
                set at 'oproxy keys list'
            case 'oproxy keys show'
                set at 'oproxy keys show'
            case 'oproxy keys set'
                set at 'oproxy keys set'
            case 'oproxy keys rotate'
                set at 'oproxy keys rotate'
            case 'oproxy keys revoke'
                set at 'oproxy keys revoke'
            case 'oproxy keys rm'
                set at 'oproxy keys rm'
            case 'oproxy keys create --expires'
                set skip 1
            case 'oproxy keys create --model'
                set skip 1
            case 'oproxy keys create --endpoint'
                set skip 1
            case 'oproxy keys create --tier'
                set skip 1
            case 'oproxy keys create --limit'
                set skip 1
            case 'oproxy keys create --budget'
                set skip 1
            case 'oproxy keys create --count'
                set skip 1
            case 'oproxy keys create --tag'
                set skip 1
            case 'oproxy keys create --config'
                set skip 1
            case 'oproxy keys list --config'
                set skip 1
            case 'oproxy keys show --config'
                set skip 1
            case 'oproxy keys set --name'
                set skip 1
            case 'oproxy keys set --expires'
                set skip 1
            case 'oproxy keys set --model'
                set skip 1
            case 'oproxy keys set --endpoint'
                set skip 1
            case 'oproxy keys set --tier'
                set skip 1
            case 'oproxy keys set --limit'
                set skip 1
            case 'oproxy keys set --budget'
                set skip 1
            case 'oproxy keys set --count'
                set skip 1
            case 'oproxy keys set --tag'
                set skip 1
            case 'oproxy keys set --config'
                set skip 1
            case 'oproxy keys rotate --config'
                set skip 1
            case 'oproxy keys revoke --config'
                set skip 1
            case 'oproxy keys rm --config'
                set skip 1
            case 'oproxy config path'
                set at 'oproxy config path'
            case 'oproxy config show'
                set at 'oproxy config show'
            case 'oproxy config init'
                set at 'oproxy config init'
            case 'oproxy config check'
                set at 'oproxy config check'
            case 'oproxy config get'
                set at 'oproxy config get'
            case 'oproxy config set'
                set at 'oproxy config set'
            case 'oproxy config edit'
                set at 'oproxy config edit'
            case 'oproxy config path --config'
                set skip 1
            case 'oproxy config show --config'
                set skip 1
            case 'oproxy config init --config'
                set skip 1
            case 'oproxy config check --config'
                set skip 1
            case 'oproxy config get --config'
                set skip 1
            case 'oproxy config set --config'
                set skip 1
            case 'oproxy config edit --config'
                set skip 1
        end
    end
    test "$at" = "$argv"
end

function __oproxy_models
    oproxy models list --names 2>/dev/null
end

complete -c oproxy -f
complete -c oproxy -n '__oproxy_at oproxy' -a serve -d 'Start the daemon: OpenAI\'s API on this machine'
complete -c oproxy -n '__oproxy_at oproxy' -a stop -d 'Stop the daemon; running answers may finish within the grace time (`grace` under `[server]`)'
complete -c oproxy -n '__oproxy_at oproxy' -a status -d 'Tell whether the daemon runs, where, and how its backends are'
complete -c oproxy -n '__oproxy_at oproxy' -a run -d 'Run a command that talks to us: `oproxy run -- python app.py`'
complete -c oproxy -n '__oproxy_at oproxy' -a env -d 'Print what makes OpenAI clients come here: `eval "$(oproxy env)"`'
complete -c oproxy -n '__oproxy_at oproxy' -a doctor -d 'Look for what is wrong: config, daemon, ports, backends, models, store, files, certificate, clock, environment'
complete -c oproxy -n '__oproxy_at oproxy' -a chat -d 'Ask a model, once or in a conversation'
complete -c oproxy -n '__oproxy_at oproxy' -a models -d 'List, fetch, load and remove models; give them other names'
complete -c oproxy -n '__oproxy_at oproxy' -a files -d 'Upload, list, download and remove files'
complete -c oproxy -n '__oproxy_at oproxy' -a batch -d 'Have a file of requests answered when nobody else waits'
complete -c oproxy -n '__oproxy_at oproxy' -a logs -d 'Show the recorded requests, send them again, follow the log'
complete -c oproxy -n '__oproxy_at oproxy' -a usage -d 'Tell what was used, what it cost and what it saved'
complete -c oproxy -n '__oproxy_at oproxy' -a cert -d 'HTTPS: issue, show, renew and remove this machine\'s certificate'
complete -c oproxy -n '__oproxy_at oproxy' -a keys -d 'Make, list, change and revoke keys'
complete -c oproxy -n '__oproxy_at oproxy' -a config -d 'Show, check and change the settings'
complete -c oproxy -n '__oproxy_at oproxy' -l config -r -F -d 'Use this config file instead of the user\'s own.'
complete -c oproxy -n '__oproxy_at oproxy' -l version -d 'Print the version and exit.'
complete -c oproxy -n '__oproxy_at oproxy' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy serve' -l host -x -d 'Listen on this address.'
complete -c oproxy -n '__oproxy_at oproxy serve' -l port -x -d 'Listen on this port.'
complete -c oproxy -n '__oproxy_at oproxy serve' -l config -r -F -d 'Use this config file.'
complete -c oproxy -n '__oproxy_at oproxy serve' -l backend -x -d 'Use only these backends; with a URL, one at that address.'
complete -c oproxy -n '__oproxy_at oproxy serve' -l log-level -x -a 'debug info warning error' -d 'How much to tell beside the requests.'
complete -c oproxy -n '__oproxy_at oproxy serve' -l https -d 'Serve HTTPS too, with the certificate of `oproxy cert`.'
complete -c oproxy -n '__oproxy_at oproxy serve' -l fetch -d 'Fetch the built-in model (98 MB) if no other backend answers.'
complete -c oproxy -n '__oproxy_at oproxy serve' -s d -l detach -d 'Start it in the background and return.'
complete -c oproxy -n '__oproxy_at oproxy serve' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy stop' -l force -d 'Kill it at once; running answers break off.'
complete -c oproxy -n '__oproxy_at oproxy stop' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy status' -l json -d 'Print JSON for programs.'
complete -c oproxy -n '__oproxy_at oproxy status' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy run' -l budget -x -d 'Dollars the command may spend, by the list prices of the models it asks for; then requests fail.'
complete -c oproxy -n '__oproxy_at oproxy run' -l tokens -x -d 'Tokens the command may use; then requests fail.'
complete -c oproxy -n '__oproxy_at oproxy run' -l model -x -a '(__oproxy_models)' -d 'Let this model answer, whatever name is asked for.'
complete -c oproxy -n '__oproxy_at oproxy run' -l tag -x -d 'Mark the requests with this in the books.'
complete -c oproxy -n '__oproxy_at oproxy run' -s q -l quiet -d 'Do not tell at the end what was used.'
complete -c oproxy -n '__oproxy_at oproxy run' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy env' -l shell -x -a 'bash zsh fish powershell dotenv json' -d 'The form to print; yours is found out if none is given.'
complete -c oproxy -n '__oproxy_at oproxy env' -l for -x -a 'aider continue cline codex claude-code opencode langchain llamaindex vscode cursor curl python node' -d 'Print what this tool or library must be told.'
complete -c oproxy -n '__oproxy_at oproxy env' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy doctor' -l json -d 'Print JSON for programs.'
complete -c oproxy -n '__oproxy_at oproxy doctor' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy chat' -s m -l model -x -a '(__oproxy_models)' -d 'The model to ask.'
complete -c oproxy -n '__oproxy_at oproxy chat' -s s -l system -x -d 'How the model should behave.'
complete -c oproxy -n '__oproxy_at oproxy chat' -s i -l image -r -F -d 'An image (file or URL); may be repeated.'
complete -c oproxy -n '__oproxy_at oproxy chat' -l schema -r -F -d 'JSON schema (file or text) the answer must follow.'
complete -c oproxy -n '__oproxy_at oproxy chat' -l temperature -x -d 'Higher is more random.'
complete -c oproxy -n '__oproxy_at oproxy chat' -l max-tokens -x -d 'The longest answer, in tokens.'
complete -c oproxy -n '__oproxy_at oproxy chat' -l no-stream -d 'Print the answer when it is complete.'
complete -c oproxy -n '__oproxy_at oproxy chat' -s r -l resume -d 'Go on with the last conversation.'
complete -c oproxy -n '__oproxy_at oproxy chat' -l resume-id -x -d 'Go on from this response (resp_…).'
complete -c oproxy -n '__oproxy_at oproxy chat' -l stats -d 'Print tokens, speed and times to stderr.'
complete -c oproxy -n '__oproxy_at oproxy chat' -l json -d 'Print the whole answer object as JSON.'
complete -c oproxy -n '__oproxy_at oproxy chat' -l config -r -F -d 'The config file to use.'
complete -c oproxy -n '__oproxy_at oproxy chat' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy models' -a list -d 'List the models of all backends, and the aliases'
complete -c oproxy -n '__oproxy_at oproxy models' -a show -d 'Show all that is known of a model'
complete -c oproxy -n '__oproxy_at oproxy models' -a ps -d 'List the models in memory'
complete -c oproxy -n '__oproxy_at oproxy models' -a pull -d 'Fetch a model'
complete -c oproxy -n '__oproxy_at oproxy models' -a rm -d 'Remove a model from its backend'
complete -c oproxy -n '__oproxy_at oproxy models' -a load -d 'Bring a model into memory, so that the first request need not wait'
complete -c oproxy -n '__oproxy_at oproxy models' -a unload -d 'Take a model out of memory'
complete -c oproxy -n '__oproxy_at oproxy models' -a alias -d 'Other names for models, kept in the config file'
complete -c oproxy -n '__oproxy_at oproxy models' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy models list' -l json -d 'Print JSON for programs.'
complete -c oproxy -n '__oproxy_at oproxy models list' -l names -d 'Print the names alone, one a line.'
complete -c oproxy -n '__oproxy_at oproxy models list' -l config -r -F -d 'The config file to use.'
complete -c oproxy -n '__oproxy_at oproxy models list' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy models show' -l json -d 'Print JSON for programs.'
complete -c oproxy -n '__oproxy_at oproxy models show' -l config -r -F -d 'The config file to use.'
complete -c oproxy -n '__oproxy_at oproxy models show' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy models show' -a '(__oproxy_models)'
complete -c oproxy -n '__oproxy_at oproxy models ps' -l json -d 'Print JSON for programs.'
complete -c oproxy -n '__oproxy_at oproxy models ps' -l config -r -F -d 'The config file to use.'
complete -c oproxy -n '__oproxy_at oproxy models ps' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy models pull' -l backend -x -d 'Fetch it for this backend.'
complete -c oproxy -n '__oproxy_at oproxy models pull' -l config -r -F -d 'The config file to use.'
complete -c oproxy -n '__oproxy_at oproxy models pull' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy models pull' -a '(__oproxy_models)'
complete -c oproxy -n '__oproxy_at oproxy models rm' -s y -l yes -d 'Do not ask.'
complete -c oproxy -n '__oproxy_at oproxy models rm' -l config -r -F -d 'The config file to use.'
complete -c oproxy -n '__oproxy_at oproxy models rm' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy models rm' -a '(__oproxy_models)'
complete -c oproxy -n '__oproxy_at oproxy models load' -l keep-alive -x -d 'How long to keep it: 10m, 2h, -1 for ever.'
complete -c oproxy -n '__oproxy_at oproxy models load' -l config -r -F -d 'The config file to use.'
complete -c oproxy -n '__oproxy_at oproxy models load' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy models load' -a '(__oproxy_models)'
complete -c oproxy -n '__oproxy_at oproxy models unload' -l config -r -F -d 'The config file to use.'
complete -c oproxy -n '__oproxy_at oproxy models unload' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy models unload' -a '(__oproxy_models)'
complete -c oproxy -n '__oproxy_at oproxy models alias' -a list -d 'List the aliases of the config file'
complete -c oproxy -n '__oproxy_at oproxy models alias' -a add -d 'Give a model another name'
complete -c oproxy -n '__oproxy_at oproxy models alias' -a rm -d 'Remove an alias'
complete -c oproxy -n '__oproxy_at oproxy models alias' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy models alias list' -l json -d 'Print JSON for programs.'
complete -c oproxy -n '__oproxy_at oproxy models alias list' -l config -r -F -d 'The config file to use.'
complete -c oproxy -n '__oproxy_at oproxy models alias list' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy models alias add' -l config -r -F -d 'The config file to use.'
complete -c oproxy -n '__oproxy_at oproxy models alias add' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy models alias add' -a '(__oproxy_models)'
complete -c oproxy -n '__oproxy_at oproxy models alias rm' -l config -r -F -d 'The config file to use.'
complete -c oproxy -n '__oproxy_at oproxy models alias rm' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy files' -a upload -d 'Upload files, and print their ids, one a line'
complete -c oproxy -n '__oproxy_at oproxy files' -a list -d 'List the files, newest first'
complete -c oproxy -n '__oproxy_at oproxy files' -a show -d 'Show all that is known of a file'
complete -c oproxy -n '__oproxy_at oproxy files' -a download -d 'Download a file'
complete -c oproxy -n '__oproxy_at oproxy files' -a rm -d 'Remove files for good'
complete -c oproxy -n '__oproxy_at oproxy files' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy files upload' -l purpose -x -d 'What it is for: user_data, batch, assistants, vision, fine-tune, evals.'
complete -c oproxy -n '__oproxy_at oproxy files upload' -l json -d 'Print JSON for programs.'
complete -c oproxy -n '__oproxy_at oproxy files upload' -l config -r -F -d 'The config file to use.'
complete -c oproxy -n '__oproxy_at oproxy files upload' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy files list' -l purpose -x -d 'Only those for this purpose.'
complete -c oproxy -n '__oproxy_at oproxy files list' -l json -d 'Print JSON for programs.'
complete -c oproxy -n '__oproxy_at oproxy files list' -l config -r -F -d 'The config file to use.'
complete -c oproxy -n '__oproxy_at oproxy files list' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy files show' -l json -d 'Print JSON for programs.'
complete -c oproxy -n '__oproxy_at oproxy files show' -l config -r -F -d 'The config file to use.'
complete -c oproxy -n '__oproxy_at oproxy files show' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy files download' -s o -l output -x -d 'Where to; -: stdout. Else here, under the file\'s name.'
complete -c oproxy -n '__oproxy_at oproxy files download' -s f -l force -d 'Overwrite what is there.'
complete -c oproxy -n '__oproxy_at oproxy files download' -l config -r -F -d 'The config file to use.'
complete -c oproxy -n '__oproxy_at oproxy files download' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy files rm' -l config -r -F -d 'The config file to use.'
complete -c oproxy -n '__oproxy_at oproxy files rm' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy batch' -a submit -d 'Upload a file of requests and have it answered'
complete -c oproxy -n '__oproxy_at oproxy batch' -a list -d 'List the batches, the newest first'
complete -c oproxy -n '__oproxy_at oproxy batch' -a show -d 'Show one batch, and what is wrong with it'
complete -c oproxy -n '__oproxy_at oproxy batch' -a watch -d 'Wait until a batch is over, with a progress bar'
complete -c oproxy -n '__oproxy_at oproxy batch' -a cancel -d 'Cancel a batch; what is answered already is kept'
complete -c oproxy -n '__oproxy_at oproxy batch' -a results -d 'Print the answers of a batch that is over, one a line, in no particular order'
complete -c oproxy -n '__oproxy_at oproxy batch' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy batch submit' -l endpoint -x -d 'What the lines ask for; else the first line\'s url.'
complete -c oproxy -n '__oproxy_at oproxy batch submit' -s w -l watch -d 'Wait until it is over.'
complete -c oproxy -n '__oproxy_at oproxy batch submit' -l json -d 'Print JSON for programs.'
complete -c oproxy -n '__oproxy_at oproxy batch submit' -l config -r -F -d 'The config file to use.'
complete -c oproxy -n '__oproxy_at oproxy batch submit' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy batch list' -l limit -x -d 'At most so many, the newest.'
complete -c oproxy -n '__oproxy_at oproxy batch list' -l json -d 'Print JSON for programs.'
complete -c oproxy -n '__oproxy_at oproxy batch list' -l config -r -F -d 'The config file to use.'
complete -c oproxy -n '__oproxy_at oproxy batch list' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy batch show' -l json -d 'Print JSON for programs.'
complete -c oproxy -n '__oproxy_at oproxy batch show' -l config -r -F -d 'The config file to use.'
complete -c oproxy -n '__oproxy_at oproxy batch show' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy batch watch' -l json -d 'Print JSON for programs.'
complete -c oproxy -n '__oproxy_at oproxy batch watch' -l config -r -F -d 'The config file to use.'
complete -c oproxy -n '__oproxy_at oproxy batch watch' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy batch cancel' -l config -r -F -d 'The config file to use.'
complete -c oproxy -n '__oproxy_at oproxy batch cancel' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy batch results' -s o -l output -r -F -d 'Write them to a file.'
complete -c oproxy -n '__oproxy_at oproxy batch results' -l errors -d 'The requests that failed, with why.'
complete -c oproxy -n '__oproxy_at oproxy batch results' -l config -r -F -d 'The config file to use.'
complete -c oproxy -n '__oproxy_at oproxy batch results' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy logs' -a show -d 'Show a request with its answer, its times and what was ignored'
complete -c oproxy -n '__oproxy_at oproxy logs' -a replay -d 'Send a request again and show both answers side by side, with tokens, times and cost'
complete -c oproxy -n '__oproxy_at oproxy logs' -a prune -d 'Remove old lines, or all, from both logs; also while the daemon writes to them'
complete -c oproxy -n '__oproxy_at oproxy logs' -a path -d 'Print where the log is; rotated files lie beside it'
complete -c oproxy -n '__oproxy_at oproxy logs' -s n -l number -x -d 'How many.'
complete -c oproxy -n '__oproxy_at oproxy logs' -s f -l follow -d 'Go on with what comes, until Ctrl-C.'
complete -c oproxy -n '__oproxy_at oproxy logs' -l since -x -d 'From then on: 7d, 12h, 2026-11-01, today.'
complete -c oproxy -n '__oproxy_at oproxy logs' -l until -x -d 'Up to then; a day is meant as a whole.'
complete -c oproxy -n '__oproxy_at oproxy logs' -l model -x -a '(__oproxy_models)' -d 'Only this model, asked for or served.'
complete -c oproxy -n '__oproxy_at oproxy logs' -l key -x -d 'Only this key, by name or id.'
complete -c oproxy -n '__oproxy_at oproxy logs' -l tag -x -d 'Only this tag.'
complete -c oproxy -n '__oproxy_at oproxy logs' -l status -x -d 'Only ok, error, 429, 4xx and so on.'
complete -c oproxy -n '__oproxy_at oproxy logs' -l errors -d 'Only what failed, also in the middle of a stream.'
complete -c oproxy -n '__oproxy_at oproxy logs' -l slow -x -d 'Only what took so long.'
complete -c oproxy -n '__oproxy_at oproxy logs' -l grep -x -d 'Only with this text in the request or the answer.'
complete -c oproxy -n '__oproxy_at oproxy logs' -l json -d 'Print the lines as they are: JSON, one a line.'
complete -c oproxy -n '__oproxy_at oproxy logs' -l config -r -F -d 'The config file to use.'
complete -c oproxy -n '__oproxy_at oproxy logs' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy logs show' -l as -x -a 'curl python httpie json' -d 'Print the request alone, as what sends it again.'
complete -c oproxy -n '__oproxy_at oproxy logs show' -l json -d 'Print all that is recorded, as JSON.'
complete -c oproxy -n '__oproxy_at oproxy logs show' -l config -r -F -d 'The config file to use.'
complete -c oproxy -n '__oproxy_at oproxy logs show' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy logs replay' -s m -l model -x -a '(__oproxy_models)' -d 'Ask this model instead.'
complete -c oproxy -n '__oproxy_at oproxy logs replay' -l times -x -d 'Send it so many times.'
complete -c oproxy -n '__oproxy_at oproxy logs replay' -l diff -d 'Show what differs instead of both answers.'
complete -c oproxy -n '__oproxy_at oproxy logs replay' -l json -d 'Print JSON for programs.'
complete -c oproxy -n '__oproxy_at oproxy logs replay' -l config -r -F -d 'The config file to use.'
complete -c oproxy -n '__oproxy_at oproxy logs replay' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy logs prune' -l before -x -d 'What is older: 7d, 2026-11-01.'
complete -c oproxy -n '__oproxy_at oproxy logs prune' -l all -d 'Everything.'
complete -c oproxy -n '__oproxy_at oproxy logs prune' -s y -l yes -d 'Do not ask.'
complete -c oproxy -n '__oproxy_at oproxy logs prune' -l config -r -F -d 'The config file to use.'
complete -c oproxy -n '__oproxy_at oproxy logs prune' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy logs path' -l daemon -d 'The daemon\'s own log instead of the requests\'.'
complete -c oproxy -n '__oproxy_at oproxy logs path' -l config -r -F -d 'The config file to use.'
complete -c oproxy -n '__oproxy_at oproxy logs path' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy usage' -a prune -d 'Delete the ledger\'s old rows'
complete -c oproxy -n '__oproxy_at oproxy usage' -l by -x -d 'Sums by model, served, key, tag, backend, endpoint, client, status, day, hour; several too.'
complete -c oproxy -n '__oproxy_at oproxy usage' -l since -x -d 'From then on: 7d, 12h, 2026-11-01, today.'
complete -c oproxy -n '__oproxy_at oproxy usage' -l until -x -d 'Up to then; a day is meant as a whole.'
complete -c oproxy -n '__oproxy_at oproxy usage' -l model -x -a '(__oproxy_models)' -d 'Only this model, asked for or served.'
complete -c oproxy -n '__oproxy_at oproxy usage' -l key -x -d 'Only this key, by name or id.'
complete -c oproxy -n '__oproxy_at oproxy usage' -l tag -x -d 'Only this tag.'
complete -c oproxy -n '__oproxy_at oproxy usage' -l status -x -d 'Only ok, error, 429, 4xx and so on.'
complete -c oproxy -n '__oproxy_at oproxy usage' -l as -x -a '(__oproxy_models)' -d 'Also what the same tokens would cost on these models.'
complete -c oproxy -n '__oproxy_at oproxy usage' -l json -d 'Print JSON for programs.'
complete -c oproxy -n '__oproxy_at oproxy usage' -l csv -d 'Print CSV for spreadsheets.'
complete -c oproxy -n '__oproxy_at oproxy usage' -l watch -d 'Look again every two seconds until Ctrl-C.'
complete -c oproxy -n '__oproxy_at oproxy usage' -l config -r -F -d 'The config file to use.'
complete -c oproxy -n '__oproxy_at oproxy usage' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy usage prune' -l before -x -d 'Rows older than this: 400d, 2026-01-01.'
complete -c oproxy -n '__oproxy_at oproxy usage prune' -s y -l yes -d 'Do not ask.'
complete -c oproxy -n '__oproxy_at oproxy usage prune' -l config -r -F -d 'The config file to use.'
complete -c oproxy -n '__oproxy_at oproxy usage prune' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy cert' -a install -d 'Make mkcert\'s CA trusted on this machine and let it issue a certificate'
complete -c oproxy -n '__oproxy_at oproxy cert' -a status -d 'Tell where the certificate is, what it is for, how long it is good, and whether this machine trusts it'
complete -c oproxy -n '__oproxy_at oproxy cert' -a renew -d 'Issue the certificate anew, with the names of today'
complete -c oproxy -n '__oproxy_at oproxy cert' -a uninstall -d 'Remove the certificate; if wanted, this machine stops trusting mkcert\'s CA, too'
complete -c oproxy -n '__oproxy_at oproxy cert' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy cert install' -l trust -l no-trust -d 'Whether this machine shall trust mkcert\'s CA (may ask for your password).'
complete -c oproxy -n '__oproxy_at oproxy cert install' -s y -l yes -d 'Do not ask.'
complete -c oproxy -n '__oproxy_at oproxy cert install' -l config -r -F -d 'The config file to use.'
complete -c oproxy -n '__oproxy_at oproxy cert install' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy cert status' -l json -d 'Print JSON for programs.'
complete -c oproxy -n '__oproxy_at oproxy cert status' -l config -r -F -d 'The config file to use.'
complete -c oproxy -n '__oproxy_at oproxy cert status' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy cert renew' -l config -r -F -d 'The config file to use.'
complete -c oproxy -n '__oproxy_at oproxy cert renew' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy cert uninstall' -l ca -l keep-ca -d 'Whether mkcert\'s CA is taken out of the trust stores, too. Asked if not given.'
complete -c oproxy -n '__oproxy_at oproxy cert uninstall' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy keys' -a create -d 'Make a key and print it'
complete -c oproxy -n '__oproxy_at oproxy keys' -a list -d 'List the keys, without their secrets'
complete -c oproxy -n '__oproxy_at oproxy keys' -a show -d 'Show one key, and what it used'
complete -c oproxy -n '__oproxy_at oproxy keys' -a set -d 'Change what a key may do; it holds for the next request'
complete -c oproxy -n '__oproxy_at oproxy keys' -a rotate -d 'Give a key a new secret and print it; the old one opens nothing from now on'
complete -c oproxy -n '__oproxy_at oproxy keys' -a revoke -d 'Let a key open nothing from now on; it stays in the list'
complete -c oproxy -n '__oproxy_at oproxy keys' -a rm -d 'Forget keys; what they used stays in the ledger'
complete -c oproxy -n '__oproxy_at oproxy keys' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy keys create' -l expires -x -d 'When it stops working: in 30d, 12h, or on 2027-01-01; never.'
complete -c oproxy -n '__oproxy_at oproxy keys create' -l model -x -d 'A model it may use; may be repeated. * for all.'
complete -c oproxy -n '__oproxy_at oproxy keys create' -l endpoint -x -d 'A path it may use, e.g. /v1/chat/*; may be repeated.'
complete -c oproxy -n '__oproxy_at oproxy keys create' -l tier -x -d 'A preset of limits: free, tier1 to tier5, or your own.'
complete -c oproxy -n '__oproxy_at oproxy keys create' -l limit -x -d 'A limit: rpm, rpd, tpm, tpd or concurrent; N of none lifts it.'
complete -c oproxy -n '__oproxy_at oproxy keys create' -l budget -x -d '5usd/month, 1usd/day, 100000tokens/day; none lifts all.'
complete -c oproxy -n '__oproxy_at oproxy keys create' -l count -x -a 'cost list' -d 'How its budget counts dollars: by what answers cost, or by the list price of the model asked for.'
complete -c oproxy -n '__oproxy_at oproxy keys create' -l tag -x -d 'A tag for the ledger; may be repeated.'
complete -c oproxy -n '__oproxy_at oproxy keys create' -l admin -l no-admin -d 'Whether it may manage keys and models.'
complete -c oproxy -n '__oproxy_at oproxy keys create' -l json -d 'Print JSON for programs.'
complete -c oproxy -n '__oproxy_at oproxy keys create' -l config -r -F -d 'The config file to use.'
complete -c oproxy -n '__oproxy_at oproxy keys create' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy keys list' -s a -l all -d 'Also those revoked or expired.'
complete -c oproxy -n '__oproxy_at oproxy keys list' -l json -d 'Print JSON for programs.'
complete -c oproxy -n '__oproxy_at oproxy keys list' -l config -r -F -d 'The config file to use.'
complete -c oproxy -n '__oproxy_at oproxy keys list' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy keys show' -l json -d 'Print JSON for programs.'
complete -c oproxy -n '__oproxy_at oproxy keys show' -l config -r -F -d 'The config file to use.'
complete -c oproxy -n '__oproxy_at oproxy keys show' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy keys set' -l name -x -d 'Another name.'
complete -c oproxy -n '__oproxy_at oproxy keys set' -l expires -x -d 'When it stops working: in 30d, 12h, or on 2027-01-01; never.'
complete -c oproxy -n '__oproxy_at oproxy keys set' -l model -x -d 'A model it may use; may be repeated. * for all.'
complete -c oproxy -n '__oproxy_at oproxy keys set' -l endpoint -x -d 'A path it may use, e.g. /v1/chat/*; may be repeated.'
complete -c oproxy -n '__oproxy_at oproxy keys set' -l tier -x -d 'A preset of limits: free, tier1 to tier5, or your own.'
complete -c oproxy -n '__oproxy_at oproxy keys set' -l limit -x -d 'A limit: rpm, rpd, tpm, tpd or concurrent; N of none lifts it.'
complete -c oproxy -n '__oproxy_at oproxy keys set' -l budget -x -d '5usd/month, 1usd/day, 100000tokens/day; none lifts all.'
complete -c oproxy -n '__oproxy_at oproxy keys set' -l count -x -a 'cost list' -d 'How its budget counts dollars: by what answers cost, or by the list price of the model asked for.'
complete -c oproxy -n '__oproxy_at oproxy keys set' -l tag -x -d 'A tag for the ledger; may be repeated.'
complete -c oproxy -n '__oproxy_at oproxy keys set' -l admin -l no-admin -d 'Whether it may manage keys and models.'
complete -c oproxy -n '__oproxy_at oproxy keys set' -l config -r -F -d 'The config file to use.'
complete -c oproxy -n '__oproxy_at oproxy keys set' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy keys rotate' -l json -d 'Print JSON for programs.'
complete -c oproxy -n '__oproxy_at oproxy keys rotate' -l config -r -F -d 'The config file to use.'
complete -c oproxy -n '__oproxy_at oproxy keys rotate' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy keys revoke' -l undo -d 'Let it work again.'
complete -c oproxy -n '__oproxy_at oproxy keys revoke' -l config -r -F -d 'The config file to use.'
complete -c oproxy -n '__oproxy_at oproxy keys revoke' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy keys rm' -s y -l yes -d 'Do not ask.'
complete -c oproxy -n '__oproxy_at oproxy keys rm' -l config -r -F -d 'The config file to use.'
complete -c oproxy -n '__oproxy_at oproxy keys rm' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy config' -a path -d 'Print where the config file is, or would be'
complete -c oproxy -n '__oproxy_at oproxy config' -a show -d 'Show the settings in force, and where each came from'
complete -c oproxy -n '__oproxy_at oproxy config' -a init -d 'Write a config file that shows every setting as a comment'
complete -c oproxy -n '__oproxy_at oproxy config' -a check -d 'Check the config file and the environment; tell every mistake with its line'
complete -c oproxy -n '__oproxy_at oproxy config' -a get -d 'Print the value of a setting that is in force, or of all below it'
complete -c oproxy -n '__oproxy_at oproxy config' -a set -d 'Set one value in the config file; comments and order stay as they are'
complete -c oproxy -n '__oproxy_at oproxy config' -a edit -d 'Open the config file in your editor ($VISUAL, $EDITOR) and check what was saved'
complete -c oproxy -n '__oproxy_at oproxy config' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy config path' -l config -r -F -d 'The config file to use.'
complete -c oproxy -n '__oproxy_at oproxy config path' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy config show' -l json -d 'Print JSON for programs.'
complete -c oproxy -n '__oproxy_at oproxy config show' -l changed -d 'Leave out what has its default.'
complete -c oproxy -n '__oproxy_at oproxy config show' -l config -r -F -d 'The config file to use.'
complete -c oproxy -n '__oproxy_at oproxy config show' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy config init' -l force -d 'Overwrite the file that is there.'
complete -c oproxy -n '__oproxy_at oproxy config init' -l config -r -F -d 'The config file to use.'
complete -c oproxy -n '__oproxy_at oproxy config init' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy config check' -l config -r -F -d 'The config file to use.'
complete -c oproxy -n '__oproxy_at oproxy config check' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy config get' -l json -d 'Print JSON for programs.'
complete -c oproxy -n '__oproxy_at oproxy config get' -l config -r -F -d 'The config file to use.'
complete -c oproxy -n '__oproxy_at oproxy config get' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy config set' -l config -r -F -d 'The config file to use.'
complete -c oproxy -n '__oproxy_at oproxy config set' -s h -l help -d 'Show this message and exit.'
complete -c oproxy -n '__oproxy_at oproxy config edit' -l config -r -F -d 'The config file to use.'
complete -c oproxy -n '__oproxy_at oproxy config edit' -s h -l help -d 'Show this message and exit.'
