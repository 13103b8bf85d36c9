"""oproxy: api.openai.com on your own machine. This page is the map of the code.

The way of a request::

    bytes ─▶ framing ─▶ translate ─▶ [ Ask / Event ] ─▶ translate ─▶ framing ─▶ bytes
     client   (pure)     front wire      the hub          back wire     (pure)   backend
       ╰──────── server/ (aiohttp.web) ── engine ── backends/ (aiohttp client) ─────╯

and what is accounted for on that way::

    server/door ─▶ gate ──────────────▶ turns ─────▶ backend ─▶ clerk ──────────────────▶ server/recording
     who asks       limits and budgets   whose turn              cost, settled, ledger    the flight recorder

Fronts (what clients speak) and backs (what backends speak) meet in one neutral form, so N fronts and M backs cost
N + M translators. Where both speak the same wire, bytes pass through and are only observed (`translate/passthrough`,
`translate/ollama_pass`).

Layers; a module imports only from lower ones:

0  `errors`      every refusal a client can meet, and its OpenAI body
1  `model`       the hub's questions: Ask, Message, Part, Tool …
   `account`     the values of an account: Key, Caller, Rates, Budget, and Entry, a request's row in the ledger
   `stored`      what is kept for clients: objects, their pieces, pages
   `events`      the hub's answers: Text, Thinking, ToolStart, Finish, Usage …
   `framing`     bytes ⇄ records: NDJSON and SSE
   `strict`      what OpenAI's strict mode asks of a schema
   `tasks`       background work with an owner; `workers` runs what is large in threads, what is small at once
   `private`     files for their owner alone: how anything is opened to be written
2  `translate/`  wire JSON ⇄ hub, one module per wire shape; `shapes` declares the requests, `validate` checks them
   `policy/`     decisions: which model (`route`), what to emulate (`plan`), which part of a schema a grammar takes
                 (`grammar`, `regex`), which result belongs to which call (`pairs`), who may call (`address`,
                 `credentials`, `guesses`), how much (`limit`, `rates`, `budget`), how much memory and time (`memory`,
                 `pace`, `crowd`), who is next (`fair`), when to try again (`backoff`), what is hidden (`redact`), how
                 text from outside is written (`printable`), who judges texts (`guard`); `books`
3  `settings`    the settings in force, each with where it came from; `check` tells what is wrong with them
   `sections`    every setting, declared once, with what it protects; `declared` tells what can be read from that
   `protection`  what a changed config may not weaken by accident, and what `serve` refuses
   `configfile`  the TOML file: lines of keys, changes that keep comments
   `tokens`, `assets`         tiktoken and package data; never the network
   `backends/`   the only outgoing HTTP; `fleet` holds them all, `table` knows the kinds, `webhook` tells of budgets
   `store/`      the only SQL: keys, the ledger and its one writer, roll-ups, clients' objects; SQLite or PostgreSQL
   `limits/`     where the buckets of the limits are: in memory, or in a Redis that daemons share; `tiers`, presets
   `recorder/`   the flight recorder: rotating logs of requests and of the daemon, and reading them back
   `blobs`       the bytes of files that clients upload
   `pricing`, `certs`         what tokens cost; the certificates of HTTPS, and mkcert, which issues them
4  `engine`      one request: route, be let in, plan, call, relay
   `legs`, `fanout`   the calls of an answer; several of them as one
   `keyring`     the keys in force
   `gate`, `spend`    which limits hold for a request and whether it fits them; the budgets, and who is told
   `turns`       how many requests a backend answers at once, and who is next
   `clerk`       closes the books: the cost, limits and budgets settled, the row in the ledger
   `batches`, `batchlines`, `batchfiles`   batches from one state to the next, their lines, their files
   `jobs`        what runs without a request: reloading the config
5  `server/`     aiohttp.web, the only incoming HTTP; `app.build_app` puts the parts together, `routes` is the table,
                 `door` finds out who asks, `accounting` opens and tends the books, `tls` serves the certificate,
                 `elsewhere` answers for all of OpenAI that is not ours: forwarded to a backend, or refused;
                 `answers` whole answers for whoever asks, `responses_ask` responses for requests, `runs` (in the
                 background) and `responses_socket`; `shelf` what is kept for clients, and whose it is
   `daemon`      start, stop, status
6  `cli/`        typer; one module per group of commands, loaded lazily

Invariants:

- Layers 0 to 2 do no I/O and know no clock, no dice and no log: the same input gives the same output.
- Importing does nothing; state is born in `build_app` and handed down.
- Nothing a client sends is silently dropped: honoured, emulated, refused, or named in `x-oproxy-ignored`.
- A reader of a backend's stream always ends in Finish or Fail, wherever the bytes are cut.
- No dict of a wire crosses a layer above translate; what belongs to the client (schemas, options) is never changed.
- No foreign library's error passes its gate (`backends/http.gate`, `translate/validate`).
- A client that leaves frees the model: leaving `Reply`'s context closes the backend's connection.
- A row of the ledger is committed before the last byte of its answer is sent, unless the user wants it otherwise.
- Keys are kept as digests; no key, prompt or body is in an error or in the daemon's log.
- What is kept for a client belongs to its key; to all others it is not there.
- What is reserved (limits, budgets, memory, a turn) is settled once, however the request ends.
- Work that grows with the input runs in `workers` once the input is large, never on the event loop.
- Text from outside is written to a terminal, a log, a CSV file or a shell by the functions of `policy/printable` alone.
"""

__version__ = "0.1.0"
