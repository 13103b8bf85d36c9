#compdef oproxy
# zsh completion for oproxy. Printed by `make gen`; changes are lost.

_oproxy_model_names() {
    local -a names
    names=(${(f)"$(oproxy models list --names 2>/dev/null)"})
    # The colons of model names are text, not the start of a description.
    compadd -a names
}

_oproxy() {
    local context state state_descr line
    typeset -A opt_args
    local -a commands
    _arguments -C \
        '(--config)--config[Use this config file instead of the user'\''s own.]:FILE:_files' \
        '(--version)--version[Print the version and exit.]' \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]' \
        '1: :->command' \
        '*:: :->rest' && return
    case $state in
        command)
            commands=(
                'serve:Start the daemon: OpenAI'\''s API on this machine'
                'stop:Stop the daemon; running answers may finish within the grace time (`grace` under `[server]`)'
                'status:Tell whether the daemon runs, where, and how its backends are'
                'run:Run a command that talks to us: `oproxy run -- python app.py`'
                'env:Print what makes OpenAI clients come here: `eval "$(oproxy env)"`'
                'doctor:Look for what is wrong: config, daemon, ports, backends, models, store, files, certificate, clock, environment'
                'chat:Ask a model, once or in a conversation'
                'models:List, fetch, load and remove models; give them other names'
                'files:Upload, list, download and remove files'
                'batch:Have a file of requests answered when nobody else waits'
                'logs:Show the recorded requests, send them again, follow the log'
                'usage:Tell what was used, what it cost and what it saved'
                'cert:HTTPS: issue, show, renew and remove this machine'\''s certificate'
                'keys:Make, list, change and revoke keys'
                'config:Show, check and change the settings'
            )
            _describe -t commands 'oproxy command' commands
            ;;
        rest)
            case $words[1] in
                serve) _oproxy_serve ;;
                stop) _oproxy_stop ;;
                status) _oproxy_status ;;
                run) _oproxy_run ;;
                env) _oproxy_env ;;
                doctor) _oproxy_doctor ;;
                chat) _oproxy_chat ;;
                models) _oproxy_models ;;
                files) _oproxy_files ;;
                batch) _oproxy_batch ;;
                logs) _oproxy_logs ;;
                usage) _oproxy_usage ;;
                cert) _oproxy_cert ;;
                keys) _oproxy_keys ;;
                config) _oproxy_config ;;
            esac
            ;;
    esac
}

_oproxy_serve() {
    _arguments \
        '(--host)--host[Listen on this address.]:ADDRESS: ' \
        '(--port)--port[Listen on this port.]:PORT: ' \
        '(--config)--config[Use this config file.]:FILE:_files' \
        '*--backend[Use only these backends; with a URL, one at that address.]:NAME\[=URL\]: ' \
        '(--log-level)--log-level[How much to tell beside the requests.]:debug|info|warning|error:(debug info warning error)' \
        '(--https)--https[Serve HTTPS too, with the certificate of `oproxy cert`.]' \
        '(--fetch)--fetch[Fetch the built-in model (98 MB) if no other backend answers.]' \
        '(-d --detach)-d[Start it in the background and return.]' \
        '(-d --detach)--detach[Start it in the background and return.]' \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]'
}

_oproxy_stop() {
    _arguments \
        '(--force)--force[Kill it at once; running answers break off.]' \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]'
}

_oproxy_status() {
    _arguments \
        '(--json)--json[Print JSON for programs.]' \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]'
}

_oproxy_run() {
    _arguments \
        '(--budget)--budget[Dollars the command may spend, by the list prices of the models it asks for; then requests fail.]:USD: ' \
        '(--tokens)--tokens[Tokens the command may use; then requests fail.]:N: ' \
        '(--model)--model[Let this model answer, whatever name is asked for.]:MODEL:_oproxy_model_names' \
        '(--tag)--tag[Mark the requests with this in the books.]:TEXT: ' \
        '(-q --quiet)-q[Do not tell at the end what was used.]' \
        '(-q --quiet)--quiet[Do not tell at the end what was used.]' \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]' \
        '*:CMD: '
}

_oproxy_env() {
    _arguments \
        '(--shell)--shell[The form to print; yours is found out if none is given.]:bash|zsh|fish|powershell|dotenv|json:(bash zsh fish powershell dotenv json)' \
        '(--for)--for[Print what this tool or library must be told.]:aider|continue|cline|codex|claude-code|opencode|langchain|llamaindex|vscode|cursor|curl|python|node:(aider continue cline codex claude-code opencode langchain llamaindex vscode cursor curl python node)' \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]' \
        '::SHELL: '
}

_oproxy_doctor() {
    _arguments \
        '(--json)--json[Print JSON for programs.]' \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]'
}

_oproxy_chat() {
    _arguments \
        '(-m --model)-m[The model to ask.]:MODEL:_oproxy_model_names' \
        '(-m --model)--model[The model to ask.]:MODEL:_oproxy_model_names' \
        '(-s --system)-s[How the model should behave.]:TEXT: ' \
        '(-s --system)--system[How the model should behave.]:TEXT: ' \
        '*-i[An image (file or URL); may be repeated.]:FILE:_files' \
        '*--image[An image (file or URL); may be repeated.]:FILE:_files' \
        '(--schema)--schema[JSON schema (file or text) the answer must follow.]:FILE:_files' \
        '(--temperature)--temperature[Higher is more random.]:TEMPERATURE: ' \
        '(--max-tokens)--max-tokens[The longest answer, in tokens.]:MAX_TOKENS: ' \
        '(--no-stream)--no-stream[Print the answer when it is complete.]' \
        '(-r --resume)-r[Go on with the last conversation.]' \
        '(-r --resume)--resume[Go on with the last conversation.]' \
        '(--resume-id)--resume-id[Go on from this response (resp_…).]:ID: ' \
        '(--stats)--stats[Print tokens, speed and times to stderr.]' \
        '(--json)--json[Print the whole answer object as JSON.]' \
        '(--config)--config[The config file to use.]:FILE:_files' \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]' \
        '*:PROMPT: '
}

_oproxy_models() {
    local context state state_descr line
    typeset -A opt_args
    local -a commands
    _arguments -C \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]' \
        '1: :->command' \
        '*:: :->rest' && return
    case $state in
        command)
            commands=(
                'list:List the models of all backends, and the aliases'
                'show:Show all that is known of a model'
                'ps:List the models in memory'
                'pull:Fetch a model'
                'rm:Remove a model from its backend'
                'load:Bring a model into memory, so that the first request need not wait'
                'unload:Take a model out of memory'
                'alias:Other names for models, kept in the config file'
            )
            _describe -t commands 'models command' commands
            ;;
        rest)
            case $words[1] in
                list) _oproxy_models_list ;;
                show) _oproxy_models_show ;;
                ps) _oproxy_models_ps ;;
                pull) _oproxy_models_pull ;;
                rm) _oproxy_models_rm ;;
                load) _oproxy_models_load ;;
                unload) _oproxy_models_unload ;;
                alias) _oproxy_models_alias ;;
            esac
            ;;
    esac
}

_oproxy_models_list() {
    _arguments \
        '(--json)--json[Print JSON for programs.]' \
        '(--names)--names[Print the names alone, one a line.]' \
        '(--config)--config[The config file to use.]:FILE:_files' \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]'
}

_oproxy_models_show() {
    _arguments \
        '(--json)--json[Print JSON for programs.]' \
        '(--config)--config[The config file to use.]:FILE:_files' \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]' \
        ':MODEL:_oproxy_model_names'
}

_oproxy_models_ps() {
    _arguments \
        '(--json)--json[Print JSON for programs.]' \
        '(--config)--config[The config file to use.]:FILE:_files' \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]'
}

_oproxy_models_pull() {
    _arguments \
        '(--backend)--backend[Fetch it for this backend.]:NAME: ' \
        '(--config)--config[The config file to use.]:FILE:_files' \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]' \
        ':MODEL:_oproxy_model_names'
}

_oproxy_models_rm() {
    _arguments \
        '(-y --yes)-y[Do not ask.]' \
        '(-y --yes)--yes[Do not ask.]' \
        '(--config)--config[The config file to use.]:FILE:_files' \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]' \
        ':MODEL:_oproxy_model_names'
}

_oproxy_models_load() {
    _arguments \
        '(--keep-alive)--keep-alive[How long to keep it\: 10m, 2h, -1 for ever.]:TIME: ' \
        '(--config)--config[The config file to use.]:FILE:_files' \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]' \
        ':MODEL:_oproxy_model_names'
}

_oproxy_models_unload() {
    _arguments \
        '(--config)--config[The config file to use.]:FILE:_files' \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]' \
        ':MODEL:_oproxy_model_names'
}

_oproxy_models_alias() {
    local context state state_descr line
    typeset -A opt_args
    local -a commands
    _arguments -C \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]' \
        '1: :->command' \
        '*:: :->rest' && return
    case $state in
        command)
            commands=(
                'list:List the aliases of the config file'
                'add:Give a model another name'
                'rm:Remove an alias'
            )
            _describe -t commands 'alias command' commands
            ;;
        rest)
            case $words[1] in
                list) _oproxy_models_alias_list ;;
                add) _oproxy_models_alias_add ;;
                rm) _oproxy_models_alias_rm ;;
            esac
            ;;
    esac
}

_oproxy_models_alias_list() {
    _arguments \
        '(--json)--json[Print JSON for programs.]' \
        '(--config)--config[The config file to use.]:FILE:_files' \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]'
}

_oproxy_models_alias_add() {
    _arguments \
        '(--config)--config[The config file to use.]:FILE:_files' \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]' \
        ':NAME: ' \
        ':MODEL:_oproxy_model_names'
}

_oproxy_models_alias_rm() {
    _arguments \
        '(--config)--config[The config file to use.]:FILE:_files' \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]' \
        ':NAME: '
}

_oproxy_files() {
    local context state state_descr line
    typeset -A opt_args
    local -a commands
    _arguments -C \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]' \
        '1: :->command' \
        '*:: :->rest' && return
    case $state in
        command)
            commands=(
                'upload:Upload files, and print their ids, one a line'
                'list:List the files, newest first'
                'show:Show all that is known of a file'
                'download:Download a file'
                'rm:Remove files for good'
            )
            _describe -t commands 'files command' commands
            ;;
        rest)
            case $words[1] in
                upload) _oproxy_files_upload ;;
                list) _oproxy_files_list ;;
                show) _oproxy_files_show ;;
                download) _oproxy_files_download ;;
                rm) _oproxy_files_rm ;;
            esac
            ;;
    esac
}

_oproxy_files_upload() {
    _arguments \
        '(--purpose)--purpose[What it is for\: user_data, batch, assistants, vision, fine-tune, evals.]:PURPOSE: ' \
        '(--json)--json[Print JSON for programs.]' \
        '(--config)--config[The config file to use.]:FILE:_files' \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]' \
        '*:PATH...: '
}

_oproxy_files_list() {
    _arguments \
        '(--purpose)--purpose[Only those for this purpose.]:PURPOSE: ' \
        '(--json)--json[Print JSON for programs.]' \
        '(--config)--config[The config file to use.]:FILE:_files' \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]'
}

_oproxy_files_show() {
    _arguments \
        '(--json)--json[Print JSON for programs.]' \
        '(--config)--config[The config file to use.]:FILE:_files' \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]' \
        ':ID: '
}

_oproxy_files_download() {
    _arguments \
        '(-o --output)-o[Where to; -\: stdout. Else here, under the file'\''s name.]:PATH: ' \
        '(-o --output)--output[Where to; -\: stdout. Else here, under the file'\''s name.]:PATH: ' \
        '(-f --force)-f[Overwrite what is there.]' \
        '(-f --force)--force[Overwrite what is there.]' \
        '(--config)--config[The config file to use.]:FILE:_files' \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]' \
        ':ID: '
}

_oproxy_files_rm() {
    _arguments \
        '(--config)--config[The config file to use.]:FILE:_files' \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]' \
        '*:ID...: '
}

_oproxy_batch() {
    local context state state_descr line
    typeset -A opt_args
    local -a commands
    _arguments -C \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]' \
        '1: :->command' \
        '*:: :->rest' && return
    case $state in
        command)
            commands=(
                'submit:Upload a file of requests and have it answered'
                'list:List the batches, the newest first'
                'show:Show one batch, and what is wrong with it'
                'watch:Wait until a batch is over, with a progress bar'
                'cancel:Cancel a batch; what is answered already is kept'
                'results:Print the answers of a batch that is over, one a line, in no particular order'
            )
            _describe -t commands 'batch command' commands
            ;;
        rest)
            case $words[1] in
                submit) _oproxy_batch_submit ;;
                list) _oproxy_batch_list ;;
                show) _oproxy_batch_show ;;
                watch) _oproxy_batch_watch ;;
                cancel) _oproxy_batch_cancel ;;
                results) _oproxy_batch_results ;;
            esac
            ;;
    esac
}

_oproxy_batch_submit() {
    _arguments \
        '(--endpoint)--endpoint[What the lines ask for; else the first line'\''s url.]:PATH: ' \
        '(-w --watch)-w[Wait until it is over.]' \
        '(-w --watch)--watch[Wait until it is over.]' \
        '(--json)--json[Print JSON for programs.]' \
        '(--config)--config[The config file to use.]:FILE:_files' \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]' \
        ':FILE.jsonl: '
}

_oproxy_batch_list() {
    _arguments \
        '(--limit)--limit[At most so many, the newest.]:N: ' \
        '(--json)--json[Print JSON for programs.]' \
        '(--config)--config[The config file to use.]:FILE:_files' \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]'
}

_oproxy_batch_show() {
    _arguments \
        '(--json)--json[Print JSON for programs.]' \
        '(--config)--config[The config file to use.]:FILE:_files' \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]' \
        ':ID: '
}

_oproxy_batch_watch() {
    _arguments \
        '(--json)--json[Print JSON for programs.]' \
        '(--config)--config[The config file to use.]:FILE:_files' \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]' \
        ':ID: '
}

_oproxy_batch_cancel() {
    _arguments \
        '(--config)--config[The config file to use.]:FILE:_files' \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]' \
        ':ID: '
}

_oproxy_batch_results() {
    _arguments \
        '(-o --output)-o[Write them to a file.]:FILE:_files' \
        '(-o --output)--output[Write them to a file.]:FILE:_files' \
        '(--errors)--errors[The requests that failed, with why.]' \
        '(--config)--config[The config file to use.]:FILE:_files' \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]' \
        ':ID: '
}

_oproxy_logs() {
    local context state state_descr line
    typeset -A opt_args
    local -a commands
    _arguments -C \
        '(-n --number)-n[How many.]:N: ' \
        '(-n --number)--number[How many.]:N: ' \
        '(-f --follow)-f[Go on with what comes, until Ctrl-C.]' \
        '(-f --follow)--follow[Go on with what comes, until Ctrl-C.]' \
        '(--since)--since[From then on\: 7d, 12h, 2026-11-01, today.]:TIME: ' \
        '(--until)--until[Up to then; a day is meant as a whole.]:TIME: ' \
        '*--model[Only this model, asked for or served.]:MODEL:_oproxy_model_names' \
        '*--key[Only this key, by name or id.]:NAME: ' \
        '*--tag[Only this tag.]:TAG: ' \
        '*--status[Only ok, error, 429, 4xx and so on.]:STATUS: ' \
        '(--errors)--errors[Only what failed, also in the middle of a stream.]' \
        '(--slow)--slow[Only what took so long.]:SECONDS: ' \
        '(--grep)--grep[Only with this text in the request or the answer.]:TEXT: ' \
        '(--json)--json[Print the lines as they are\: JSON, one a line.]' \
        '(--config)--config[The config file to use.]:FILE:_files' \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]' \
        '1: :->command' \
        '*:: :->rest' && return
    case $state in
        command)
            commands=(
                'show:Show a request with its answer, its times and what was ignored'
                'replay:Send a request again and show both answers side by side, with tokens, times and cost'
                'prune:Remove old lines, or all, from both logs; also while the daemon writes to them'
                'path:Print where the log is; rotated files lie beside it'
            )
            _describe -t commands 'logs command' commands
            ;;
        rest)
            case $words[1] in
                show) _oproxy_logs_show ;;
                replay) _oproxy_logs_replay ;;
                prune) _oproxy_logs_prune ;;
                path) _oproxy_logs_path ;;
            esac
            ;;
    esac
}

_oproxy_logs_show() {
    _arguments \
        '(--as)--as[Print the request alone, as what sends it again.]:curl|python|httpie|json:(curl python httpie json)' \
        '(--json)--json[Print all that is recorded, as JSON.]' \
        '(--config)--config[The config file to use.]:FILE:_files' \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]' \
        '::ID: '
}

_oproxy_logs_replay() {
    _arguments \
        '(-m --model)-m[Ask this model instead.]:MODEL:_oproxy_model_names' \
        '(-m --model)--model[Ask this model instead.]:MODEL:_oproxy_model_names' \
        '(--times)--times[Send it so many times.]:N: ' \
        '(--diff)--diff[Show what differs instead of both answers.]' \
        '(--json)--json[Print JSON for programs.]' \
        '(--config)--config[The config file to use.]:FILE:_files' \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]' \
        '::ID: '
}

_oproxy_logs_prune() {
    _arguments \
        '(--before)--before[What is older\: 7d, 2026-11-01.]:TIME: ' \
        '(--all)--all[Everything.]' \
        '(-y --yes)-y[Do not ask.]' \
        '(-y --yes)--yes[Do not ask.]' \
        '(--config)--config[The config file to use.]:FILE:_files' \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]'
}

_oproxy_logs_path() {
    _arguments \
        '(--daemon)--daemon[The daemon'\''s own log instead of the requests'\''.]' \
        '(--config)--config[The config file to use.]:FILE:_files' \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]'
}

_oproxy_usage() {
    local context state state_descr line
    typeset -A opt_args
    local -a commands
    _arguments -C \
        '*--by[Sums by model, served, key, tag, backend, endpoint, client, status, day, hour; several too.]:WHAT: ' \
        '(--since)--since[From then on\: 7d, 12h, 2026-11-01, today.]:TIME: ' \
        '(--until)--until[Up to then; a day is meant as a whole.]:TIME: ' \
        '*--model[Only this model, asked for or served.]:MODEL:_oproxy_model_names' \
        '*--key[Only this key, by name or id.]:NAME: ' \
        '*--tag[Only this tag.]:TAG: ' \
        '*--status[Only ok, error, 429, 4xx and so on.]:STATUS: ' \
        '*--as[Also what the same tokens would cost on these models.]:MODEL:_oproxy_model_names' \
        '(--json)--json[Print JSON for programs.]' \
        '(--csv)--csv[Print CSV for spreadsheets.]' \
        '(--watch)--watch[Look again every two seconds until Ctrl-C.]' \
        '(--config)--config[The config file to use.]:FILE:_files' \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]' \
        '1: :->command' \
        '*:: :->rest' && return
    case $state in
        command)
            commands=(
                'prune:Delete the ledger'\''s old rows'
            )
            _describe -t commands 'usage command' commands
            ;;
        rest)
            case $words[1] in
                prune) _oproxy_usage_prune ;;
            esac
            ;;
    esac
}

_oproxy_usage_prune() {
    _arguments \
        '(--before)--before[Rows older than this\: 400d, 2026-01-01.]:TIME: ' \
        '(-y --yes)-y[Do not ask.]' \
        '(-y --yes)--yes[Do not ask.]' \
        '(--config)--config[The config file to use.]:FILE:_files' \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]'
}

_oproxy_cert() {
    local context state state_descr line
    typeset -A opt_args
    local -a commands
    _arguments -C \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]' \
        '1: :->command' \
        '*:: :->rest' && return
    case $state in
        command)
            commands=(
                'install:Make mkcert'\''s CA trusted on this machine and let it issue a certificate'
                'status:Tell where the certificate is, what it is for, how long it is good, and whether this machine trusts it'
                'renew:Issue the certificate anew, with the names of today'
                'uninstall:Remove the certificate; if wanted, this machine stops trusting mkcert'\''s CA, too'
            )
            _describe -t commands 'cert command' commands
            ;;
        rest)
            case $words[1] in
                install) _oproxy_cert_install ;;
                status) _oproxy_cert_status ;;
                renew) _oproxy_cert_renew ;;
                uninstall) _oproxy_cert_uninstall ;;
            esac
            ;;
    esac
}

_oproxy_cert_install() {
    _arguments \
        '(--trust --no-trust)--trust[Whether this machine shall trust mkcert'\''s CA (may ask for your password).]' \
        '(--trust --no-trust)--no-trust[Whether this machine shall trust mkcert'\''s CA (may ask for your password).]' \
        '(-y --yes)-y[Do not ask.]' \
        '(-y --yes)--yes[Do not ask.]' \
        '(--config)--config[The config file to use.]:FILE:_files' \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]'
}

_oproxy_cert_status() {
    _arguments \
        '(--json)--json[Print JSON for programs.]' \
        '(--config)--config[The config file to use.]:FILE:_files' \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]'
}

_oproxy_cert_renew() {
    _arguments \
        '(--config)--config[The config file to use.]:FILE:_files' \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]'
}

_oproxy_cert_uninstall() {
    _arguments \
        '(--ca --keep-ca)--ca[Whether mkcert'\''s CA is taken out of the trust stores, too. Asked if not given.]' \
        '(--ca --keep-ca)--keep-ca[Whether mkcert'\''s CA is taken out of the trust stores, too. Asked if not given.]' \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]'
}

_oproxy_keys() {
    local context state state_descr line
    typeset -A opt_args
    local -a commands
    _arguments -C \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]' \
        '1: :->command' \
        '*:: :->rest' && return
    case $state in
        command)
            commands=(
                'create:Make a key and print it'
                'list:List the keys, without their secrets'
                'show:Show one key, and what it used'
                'set:Change what a key may do; it holds for the next request'
                'rotate:Give a key a new secret and print it; the old one opens nothing from now on'
                'revoke:Let a key open nothing from now on; it stays in the list'
                'rm:Forget keys; what they used stays in the ledger'
            )
            _describe -t commands 'keys command' commands
            ;;
        rest)
            case $words[1] in
                create) _oproxy_keys_create ;;
                list) _oproxy_keys_list ;;
                show) _oproxy_keys_show ;;
                set) _oproxy_keys_set ;;
                rotate) _oproxy_keys_rotate ;;
                revoke) _oproxy_keys_revoke ;;
                rm) _oproxy_keys_rm ;;
            esac
            ;;
    esac
}

_oproxy_keys_create() {
    _arguments \
        '(--expires)--expires[When it stops working\: in 30d, 12h, or on 2027-01-01; never.]:WHEN: ' \
        '*--model[A model it may use; may be repeated. * for all.]:GLOB: ' \
        '*--endpoint[A path it may use, e.g. /v1/chat/*; may be repeated.]:GLOB: ' \
        '(--tier)--tier[A preset of limits\: free, tier1 to tier5, or your own.]:NAME: ' \
        '*--limit[A limit\: rpm, rpd, tpm, tpd or concurrent; N of none lifts it.]:KIND=N: ' \
        '*--budget[5usd/month, 1usd/day, 100000tokens/day; none lifts all.]:SUM/PERIOD: ' \
        '(--count)--count[How its budget counts dollars\: by what answers cost, or by the list price of the model asked for.]:cost|list:(cost list)' \
        '*--tag[A tag for the ledger; may be repeated.]:TEXT: ' \
        '(--admin --no-admin)--admin[Whether it may manage keys and models.]' \
        '(--admin --no-admin)--no-admin[Whether it may manage keys and models.]' \
        '(--json)--json[Print JSON for programs.]' \
        '(--config)--config[The config file to use.]:FILE:_files' \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]' \
        ':NAME: '
}

_oproxy_keys_list() {
    _arguments \
        '(-a --all)-a[Also those revoked or expired.]' \
        '(-a --all)--all[Also those revoked or expired.]' \
        '(--json)--json[Print JSON for programs.]' \
        '(--config)--config[The config file to use.]:FILE:_files' \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]'
}

_oproxy_keys_show() {
    _arguments \
        '(--json)--json[Print JSON for programs.]' \
        '(--config)--config[The config file to use.]:FILE:_files' \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]' \
        ':KEY: '
}

_oproxy_keys_set() {
    _arguments \
        '(--name)--name[Another name.]:NAME: ' \
        '(--expires)--expires[When it stops working\: in 30d, 12h, or on 2027-01-01; never.]:WHEN: ' \
        '*--model[A model it may use; may be repeated. * for all.]:GLOB: ' \
        '*--endpoint[A path it may use, e.g. /v1/chat/*; may be repeated.]:GLOB: ' \
        '(--tier)--tier[A preset of limits\: free, tier1 to tier5, or your own.]:NAME: ' \
        '*--limit[A limit\: rpm, rpd, tpm, tpd or concurrent; N of none lifts it.]:KIND=N: ' \
        '*--budget[5usd/month, 1usd/day, 100000tokens/day; none lifts all.]:SUM/PERIOD: ' \
        '(--count)--count[How its budget counts dollars\: by what answers cost, or by the list price of the model asked for.]:cost|list:(cost list)' \
        '*--tag[A tag for the ledger; may be repeated.]:TEXT: ' \
        '(--admin --no-admin)--admin[Whether it may manage keys and models.]' \
        '(--admin --no-admin)--no-admin[Whether it may manage keys and models.]' \
        '(--config)--config[The config file to use.]:FILE:_files' \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]' \
        ':KEY: '
}

_oproxy_keys_rotate() {
    _arguments \
        '(--json)--json[Print JSON for programs.]' \
        '(--config)--config[The config file to use.]:FILE:_files' \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]' \
        ':KEY: '
}

_oproxy_keys_revoke() {
    _arguments \
        '(--undo)--undo[Let it work again.]' \
        '(--config)--config[The config file to use.]:FILE:_files' \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]' \
        ':KEY: '
}

_oproxy_keys_rm() {
    _arguments \
        '(-y --yes)-y[Do not ask.]' \
        '(-y --yes)--yes[Do not ask.]' \
        '(--config)--config[The config file to use.]:FILE:_files' \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]' \
        '*:KEY...: '
}

_oproxy_config() {
    local context state state_descr line
    typeset -A opt_args
    local -a commands
    _arguments -C \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]' \
        '1: :->command' \
        '*:: :->rest' && return
    case $state in
        command)
            commands=(
                'path:Print where the config file is, or would be'
                'show:Show the settings in force, and where each came from'
                'init:Write a config file that shows every setting as a comment'
                'check:Check the config file and the environment; tell every mistake with its line'
                'get:Print the value of a setting that is in force, or of all below it'
                'set:Set one value in the config file; comments and order stay as they are'
                'edit:Open the config file in your editor ($VISUAL, $EDITOR) and check what was saved'
            )
            _describe -t commands 'config command' commands
            ;;
        rest)
            case $words[1] in
                path) _oproxy_config_path ;;
                show) _oproxy_config_show ;;
                init) _oproxy_config_init ;;
                check) _oproxy_config_check ;;
                get) _oproxy_config_get ;;
                set) _oproxy_config_set ;;
                edit) _oproxy_config_edit ;;
            esac
            ;;
    esac
}

_oproxy_config_path() {
    _arguments \
        '(--config)--config[The config file to use.]:FILE:_files' \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]'
}

_oproxy_config_show() {
    _arguments \
        '(--json)--json[Print JSON for programs.]' \
        '(--changed)--changed[Leave out what has its default.]' \
        '(--config)--config[The config file to use.]:FILE:_files' \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]'
}

_oproxy_config_init() {
    _arguments \
        '(--force)--force[Overwrite the file that is there.]' \
        '(--config)--config[The config file to use.]:FILE:_files' \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]'
}

_oproxy_config_check() {
    _arguments \
        '(--config)--config[The config file to use.]:FILE:_files' \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]'
}

_oproxy_config_get() {
    _arguments \
        '(--json)--json[Print JSON for programs.]' \
        '(--config)--config[The config file to use.]:FILE:_files' \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]' \
        ':KEY: '
}

_oproxy_config_set() {
    _arguments \
        '(--config)--config[The config file to use.]:FILE:_files' \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]' \
        ':KEY: ' \
        ':VALUE: '
}

_oproxy_config_edit() {
    _arguments \
        '(--config)--config[The config file to use.]:FILE:_files' \
        '(-h --help)-h[Show this message and exit.]' \
        '(-h --help)--help[Show this message and exit.]'
}

_oproxy "$@"
