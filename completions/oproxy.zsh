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
                'chat:Ask a model, once or in a conversation'
                'models:List, fetch, load and remove models; give them other names'
                'config:Show, check and change the settings'
            )
            _describe -t commands 'oproxy command' commands
            ;;
        rest)
            case $words[1] in
                serve) _oproxy_serve ;;
                stop) _oproxy_stop ;;
                status) _oproxy_status ;;
                chat) _oproxy_chat ;;
                models) _oproxy_models ;;
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
