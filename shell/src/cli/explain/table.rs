//! What each code means, why it comes about, and what to do: the one place where that stands.

/// A code, explained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// As it stands on the wire, in a log or in a shell.
    pub code: &'static str,
    /// What it means.
    pub what: &'static str,
    /// Why it comes about.
    pub why: &'static str,
    /// What to do.
    pub fix: &'static str,
}

const fn of(code: &'static str, what: &'static str, why: &'static str, fix: &'static str) -> Explanation {
    Explanation { code, what, why, fix }
}

/// Codes of errors and refusals, over WebSockets and HTTP (PROTOCOL §5).
pub const ERRORS: &[Explanation] = &[
    of(
        "bad_json",
        "A message or a body is not one JSON object.",
        "Cut off, not UTF-8, two objects in one message, or text that was put together by hand.",
        "Build messages with a JSON library and send one object per text message; the column is in the message.",
    ),
    of(
        "bad_message",
        "JSON, but not what this message must look like.",
        "A field is missing, of another type or out of its range; a payload is nested over 64 deep or has a lone \
         surrogate; a token stands in the query string.",
        "The message names the field and what was expected there. See the message's fields in the protocol.",
    ),
    of(
        "unknown_type",
        "The `type` of a message is not known here.",
        "A misspelled type, a worker's message on a user's connection, or a client newer than the daemon.",
        "Check the spelling and the path (/ws for users, /worker for workers); upgrade the daemon.",
    ),
    of(
        "token_missing",
        "There is no token where one is needed.",
        "No Authorization header, no jwt.… subprotocol, no hello.token.",
        "Send one; `runcast token --user NAME` prints one, and commands take --token or RUNCAST_TOKEN.",
    ),
    of(
        "token_malformed",
        "The token is no JWT, or lacks `sub` or `exp`.",
        "It was cut off when it was copied, is another kind of token, or its issuer leaves claims out.",
        "Look at its three parts; have the issuer set `sub` and `exp` (a number of seconds).",
    ),
    of(
        "token_expired",
        "The token's `exp` is past.",
        "It was kept too long, or a clock is wrong: the message says by how much.",
        "Get a new one; on an open connection `refresh` takes it in. See `runcast doctor` for the clock.",
    ),
    of(
        "token_not_yet_valid",
        "The token's `nbf` is in the future.",
        "The issuer's clock is ahead of the daemon's by more than auth.leeway.",
        "Set the clocks by NTP; auth.leeway (5s) allows for what remains.",
    ),
    of(
        "token_signature",
        "The token is signed by no key that the daemon knows.",
        "Another secret, a key that was replaced, a `kid` that names none, or a forged token.",
        "See auth.keys and auth.jwks_file (`runcast check --print`); after a change of keys get a new token.",
    ),
    of(
        "token_algorithm",
        "The token is signed with an algorithm that its key is not for.",
        "Each key has one algorithm. `none`, or an RSA key used as an HMAC secret, is always refused.",
        "Sign with the algorithm in the key's `alg`, or configure the key for the one that is used.",
    ),
    of(
        "token_issuer",
        "The token's `iss` is not the configured one, or missing.",
        "A token of another identity provider, or of another of its environments.",
        "Compare its `iss` with auth.issuer; every character counts, a slash at the end too.",
    ),
    of(
        "token_audience",
        "The token's `aud` does not name this daemon, or is missing.",
        "A token that was made for another service.",
        "Ask the issuer for one with auth.audience in its `aud`.",
    ),
    of(
        "token_subject",
        "The token's `sub` cannot be a user, or is another than before on this connection.",
        "Empty, over 256 bytes or with control characters; or two tokens of two users were sent.",
        "Send one user's tokens only; a user is 1 to 256 bytes of UTF-8 without control characters.",
    ),
    of(
        "token_scope",
        "The token is good, but not for this.",
        "Its `scope` lacks the word: user (also when there is none), worker, publish or operate.",
        "Get a token with that scope; `runcast token --user NAME --scope SCOPE` prints one.",
    ),
    of(
        "token_revoked",
        "The token was revoked.",
        "An operator has revoked all tokens of this user that were made before some time.",
        "Log in again. `runcast revoke USER` is what did it.",
    ),
    of(
        "origin_forbidden",
        "A browser's page from elsewhere wants to connect.",
        "Its Origin is neither the daemon's own host nor in server.origins.",
        "Add the origin as the browser sends it, like https://chat.example.com, without a path.",
    ),
    of(
        "agent_forbidden",
        "This token may not run, or serve, this agent.",
        "Its claim `agents` does not name it.",
        "Get a token that names the agent, or one without `agents`.",
    ),
    of(
        "topic_forbidden",
        "This token may not read, or write to, this topic; or there is none of this name.",
        "The topic is not declared, is for operators, or is `agents`, which the daemon alone writes.",
        "Declare it as [topics.NAME] with read = \"user\", or use a token with the scope that it needs.",
    ),
    of(
        "run_not_found",
        "This user has no such run.",
        "A wrong id, another user's run, or one that ended so long ago that it is forgotten (store.keep).",
        "Check the id, and as whom you ask; `runcast runs` lists them.",
    ),
    of(
        "agent_unknown",
        "No agent of this name is configured, and no worker has ever served it.",
        "A misspelled name, or its worker was never started against this daemon.",
        "`runcast workers` lists the agents; start a worker, or add a section [agents.NAME].",
    ),
    of(
        "not_found",
        "There is nothing at this path, or nobody of this name.",
        "A misspelled path, a user or device that the daemon has never met, a proxy that rewrites paths.",
        "See the paths in PROTOCOL.md, section 7; parts of a path are percent-encoded.",
    ),
    of(
        "method_not_allowed",
        "The path is there, but not for this method.",
        "GET where POST is needed, or the other way round.",
        "The header `Allow` names the methods.",
    ),
    of(
        "key_reused",
        "An idempotency key was used before for another request.",
        "Keys are made from something that repeats, or the request was changed and sent again.",
        "Use a new key for each new request, and the same for the same; keys are remembered for runs.key_keep.",
    ),
    of(
        "thread_busy",
        "The thread has a run that has not ended, and the request would not wait.",
        "It was asked with on_busy: reject.",
        "Wait for the end, or ask with on_busy: enqueue (the default) or interrupt.",
    ),
    of(
        "input_not_awaited",
        "Nobody waits for this input.",
        "The run has ended or waits for nothing, or the question was voided by a new attempt.",
        "Show the question as closed; its run's state tells what is awaited.",
    ),
    of(
        "input_already_given",
        "Another device was faster.",
        "The first valid answer to a question counts.",
        "Show that answer: it is in the event input_received.",
    ),
    of(
        "backup_exists",
        "A backup of this name is there.",
        "Nothing is ever written over.",
        "Take another name, or move that file away from `backups` in the daemon's data directory.",
    ),
    of(
        "ack_ahead",
        "An acknowledgement past what was sent.",
        "The client counts wrongly, or acknowledges with a position of another stream.",
        "Acknowledge the `seq` of the last event that the application has processed.",
    ),
    of(
        "reset",
        "The position is of another incarnation of the stream, was trimmed, or lies past its head.",
        "A device was away for longer than events are kept, or the store was restored from a backup.",
        "Begin at the floor, and rebuild from `runs` and what follows. Client libraries do.",
    ),
    of(
        "too_large",
        "A message or body is longer than allowed.",
        "server.message (users, HTTP) or server.worker_message (workers) is less than its bytes.",
        "Measure before sending; put large things elsewhere and send where, or raise the limit.",
    ),
    of(
        "subprotocol_required",
        "A WebSocket was asked for without the subprotocol runcast.v1.",
        "A bare WebSocket client, or a proxy that drops Sec-WebSocket-Protocol.",
        "Offer runcast.v1; have the proxy pass the header on.",
    ),
    of(
        "rate_limited",
        "Too many messages, connections or requests in a time.",
        "limits.messages_per_second and limits.burst of a connection, server.connections_per_address of an \
         address, 32 open commands of a run.",
        "Wait for `retry_ms`. If it is honest use, raise the limit that the message names.",
    ),
    of(
        "queue_full",
        "The daemon's queue is full.",
        "More runs are asked for than workers finish: runs.queued wait already.",
        "Try again after `retry_ms`. Operators: add workers, or raise runs.active if they have free slots.",
    ),
    of(
        "user_queue_full",
        "This user's queue is full.",
        "runs.queued_per_user wait already.",
        "Wait for one to start, or cancel one.",
    ),
    of(
        "agent_unavailable",
        "The agent fails so often that nothing is given to it for a while: its circuit is open.",
        "breaker.failures runs in a row ended as error, timed_out or worker_lost.",
        "Try again after `retry_ms`. Operators: look at its workers' logs; `runcast workers` shows the breaker.",
    ),
    of(
        "draining",
        "The daemon is going down, and begins nothing new.",
        "It was told to: SIGTERM, SIGINT or `runcast drain`.",
        "Try again when it has been started again; what runs goes on until server.drain is over.",
    ),
    of(
        "overloaded",
        "More than the daemon can take.",
        "server.connections are there, memory is short, or the user is being erased.",
        "Try again after `retry_ms`. Operators: see runcast_connections and process_resident_memory_bytes.",
    ),
    of(
        "storage_unavailable",
        "The store takes nothing at present, or does not answer.",
        "The disk is full, or slower than the time for an answer. What is stored is delivered on.",
        "Operators: free disk space; it goes on within a second. `runcast doctor` measures the disk.",
    ),
    of(
        "gap",
        "To workers: a number was left out.",
        "A message was lost with a connection, or numbers are not given in order.",
        "Send everything again from `expected` on. Worker libraries do.",
    ),
    of(
        "fenced",
        "To workers: this attempt is over, or another worker's.",
        "The lease ran out, the run was cancelled past its grace or erased, or another worker has its name.",
        "Stop the run and drop what it says. If it is frequent, send beats from a thread of their own.",
    ),
    of(
        "bad_event",
        "To workers: against the order of a run's events.",
        "tool_completed without its tool_executing, a repeated call, an event after complete, more than \
         store.events_per_run events.",
        "The message names the rule. The run goes on; mend the worker.",
    ),
];

/// Codes in `error.code` of a run that the daemon has ended itself (PROTOCOL §4, §6).
pub const ENDS: &[Explanation] = &[
    of(
        "worker_lost",
        "The worker that executed the run is gone.",
        "It crashed, was killed, or was cut off for longer than runs.lease.",
        "Look at the worker's log. An agent that may be executed again says so (retryable), and is then.",
    ),
    of(
        "not_taken",
        "The run was offered to workers runs.attempts times in a row, and none took it.",
        "Workers are connected and do not answer: they hang, or their slots are more than they can do.",
        "Restart them; give them fewer slots; decline what cannot be taken now.",
    ),
    of(
        "queue_expired",
        "The run was queued for longer than runs.queued_for.",
        "No worker served its agent, or the queue was too long all that time.",
        "`runcast workers` shows who serves what; ask again.",
    ),
    of(
        "timed_out",
        "The run's time was up.",
        "It took longer than its timeout_ms, the agent's timeout, the worker's, or runs.timeout.",
        "Give it more time where it is asked for or in [agents.NAME]; the time in which it waits does not count.",
    ),
    of(
        "bad_complete",
        "The worker's `complete` could not be read.",
        "A field of it is missing or of another type.",
        "Mend the worker: the message names the field.",
    ),
    of(
        "output_too_large",
        "The worker's `complete` was longer than allowed.",
        "Its output is over server.worker_message.",
        "Put large outputs elsewhere and say where, or raise the limit.",
    ),
];

/// Reasons in the notice `queue`, and in `runcast`'s and the console's lists (PROTOCOL §5).
pub const REASONS: &[Explanation] = &[
    of(
        "concurrency",
        "No slot is free for the run.",
        "As many runs as runs.active or agents.NAME.active allows are running, all workers of its agent are busy \
         or have not taken it, or the store is full.",
        "`runcast workers` shows slots and who is busy: add workers or slots, or raise the limit that is reached.",
    ),
    of(
        "user_limit",
        "As many runs of this user as allowed are running.",
        "runs.active_per_user.",
        "Wait for one to end, or cancel one. Operators: raise it.",
    ),
    of(
        "thread_order",
        "An earlier run of the same thread has not ended.",
        "A thread's runs go one at a time, in order; the earlier one may itself be waiting.",
        "Wait, cancel the earlier one (`on_busy`: `interrupt` does), or ask on another thread.",
    ),
    of(
        "no_worker",
        "No worker for this agent is connected.",
        "It is not started, cannot connect, serves other agents, or drains.",
        "`runcast workers` shows who is there and what they serve. Look at the worker's log.",
    ),
    of(
        "circuit_open",
        "The agent has failed too often in a row, and rests.",
        "breaker.failures runs of it have failed, one after the other; it is tried again after breaker.open.",
        "Look at the errors of its newest runs: `runcast runs --state ended`.",
    ),
    of(
        "draining",
        "The daemon is going down.",
        "It begins no runs any more.",
        "Nothing: the run is kept, and starts when the daemon is back.",
    ),
    of(
        "starting",
        "A worker has been asked to take the run.",
        "It has not answered yet; after runs.start another one is asked.",
        "Nothing. If it lasts, the worker hangs: look at its log.",
    ),
    of(
        "retry_delay",
        "The run was lost with its worker, and is tried again in a moment.",
        "Its agent may be executed again (retryable).",
        "Nothing. If it happens again, look at the worker's log.",
    ),
];

/// Codes in `error.code` of a run, or of a tool's `tool_completed`, that the worker has given: those of
/// Runcast's libraries and built-in agents. Other agents have others.
pub const AGENTS: &[Explanation] = &[
    of(
        "agent_failed",
        "The agent raised an error that it has no code for.",
        "A fault in the agent, or in what it calls.",
        "The worker's log has the whole error.",
    ),
    of("agent_panicked", "The agent panicked.", "A fault in the agent.", "The worker's log says where."),
    of(
        "asked_to_fail",
        "The built-in agent `echo` was asked to fail.",
        "Its input had `fail`.",
        "Nothing: it is for trying things out.",
    ),
    of(
        "bad_input",
        "The agent cannot read its input.",
        "Agents expect inputs of their own shape; the message says which.",
        "Ask with such an input.",
    ),
    of(
        "bad_output",
        "The agent's output is not JSON.",
        "It has returned a value that JSON does not have.",
        "Mend the agent: return texts, numbers, lists and dictionaries of them.",
    ),
    of(
        "no_thread",
        "The worker's machine gave no thread to execute the run on.",
        "Too many processes or threads, or too little memory.",
        "Raise the limit of processes, or give the worker fewer slots.",
    ),
    of(
        "tool_failed",
        "A tool of the agent has failed.",
        "The message is the tool's own.",
        "Look at what the tool was asked, in its `tool_executing`.",
    ),
    of(
        "worker_stopped",
        "The worker was stopped before the run had ended.",
        "It was told to stop, and its time for running runs was up.",
        "Ask again. Give the worker more time to stop.",
    ),
];

/// Codes with which a WebSocket is closed (PROTOCOL §5). 44xx: come back; 45xx: not as you are.
pub const CLOSES: &[Explanation] = &[
    of("1000", "Done.", "The peer, or the daemon, has said goodbye.", "Nothing."),
    of(
        "1001",
        "The peer goes away.",
        "A page was left, or a process ends.",
        "Connect again when it is back.",
    ),
    of(
        "1002",
        "A breach of RFC 6455.",
        "A bad frame: unmasked, reserved bits, compression that was not agreed.",
        "Use a WebSocket library; see whether a proxy changes frames.",
    ),
    of("1005", "Closed without a code.", "The peer sent an empty close frame.", "Take it for 1006."),
    of(
        "1006",
        "The connection broke: no close came at all.",
        "The network, a proxy with a time-out, or a process that was killed.",
        "Reconnect with backoff. If it comes at even intervals, raise the proxy's idle time-out over 10 s.",
    ),
    of("1007", "Text that is not UTF-8.", "Bytes were sent as text.", "Encode as UTF-8."),
    of(
        "1009",
        "A message too big, by a standard code.",
        "A proxy's or a library's own limit; the daemon says 4505.",
        "Raise that limit to limits.event_bytes of `welcome`.",
    ),
    of(
        "1011",
        "The peer made a mistake, by a standard code.",
        "A proxy could not reach the daemon, or a library failed.",
        "Reconnect with backoff; look at the proxy's log.",
    ),
    of(
        "4400",
        "The daemon is going down, or the connection is to move.",
        "A restart, `runcast drain`, or `runcast disconnect --reconnect`.",
        "Reconnect after reconnect_ms of the notice `drain`, else after 1 to 5 s at random.",
    ),
    of(
        "4401",
        "The server made a mistake.",
        "What is stored of this user or stream is damaged.",
        "Operators: restore the store from a backup; `runcast check` and the log say what is damaged.",
    ),
    of(
        "4402",
        "The store takes nothing, and the connection would have to be stored first.",
        "The disk is full or broken. Devices that are known are welcome all the same.",
        "Reconnect with backoff; free space.",
    ),
    of(
        "4403",
        "Events stay unacknowledged after all retries.",
        "The application does not process events, or does not acknowledge them.",
        "Look for a fault in the application: a handler that hangs. Reconnect with backoff up to a minute.",
    ),
    of(
        "4404",
        "No sign of life.",
        "The peer said nothing for 2.5 times server.heartbeat, a worker for its lease: it sleeps or is cut off.",
        "Reconnect. Workers: send beats from a thread that no agent can block.",
    ),
    of(
        "4405",
        "More than the daemon can take.",
        "server.connections are there, or memory is short.",
        "Reconnect with backoff and full jitter. Operators: raise the limit, or add memory.",
    ),
    of(
        "4407",
        "Output waits and none of it is taken.",
        "The peer has not read for server.stuck_after: a stopped process, a page in the background.",
        "Read in a loop of its own; reconnect and go on from the position.",
    ),
    of(
        "4408",
        "Too many connections of this user, this address, or in all.",
        "server.connections_per_user or _per_address; often a client that opens anew without closing.",
        "Close others first. Many users behind one address: raise server.connections_per_address.",
    ),
    of(
        "4411",
        "Trimming has overtaken the connection.",
        "Events that it had not acknowledged are no longer kept: it is too slow for what is kept.",
        "Reconnect: `welcome` says reset, trimmed. Operators: raise store.events_per_user or bytes_per_user.",
    ),
    of("4501", "The token is refused.", "The error before the close has its code.", "Explain that code."),
    of(
        "4502",
        "Too much was sent before `welcome`.",
        "More than 64 messages or 256 KiB.",
        "Wait for `welcome` before sending more.",
    ),
    of(
        "4503",
        "No `hello` in time.",
        "Nothing came within server.hello_timeout after the upgrade.",
        "Send `hello` at once after the connection opens.",
    ),
    of(
        "4504",
        "The protocol was broken.",
        "A binary message, an invalid or second `hello`, a worker's message without run, attempt and n.",
        "The error before the close, or the close's reason, says what. Mend the client.",
    ),
    of(
        "4505",
        "A message was too large.",
        "Longer than server.message; of a worker, than twice server.worker_message; before a good token, than 64 KiB.",
        "Measure before sending, as limits.message_bytes of `welcome` tells. A long `hello` needs its token in the head.",
    ),
    of(
        "4506",
        "The token has expired.",
        "No `refresh` came after the notice `expiring`, 60 s before.",
        "Get a new token, then reconnect.",
    ),
    of(
        "4507",
        "An operator has disconnected, revoked or erased the user.",
        "`runcast disconnect`, `runcast revoke`, or DELETE /v1/users/{user}.",
        "Do not reconnect by yourself; ask the person to log in again.",
    ),
    of(
        "4509",
        "Rate limits were ignored, persistently.",
        "As many refusals within 10 s as limits.burst allows messages.",
        "Heed `retry_ms`. Mend the loop that sends.",
    ),
    of(
        "4510",
        "A newer connection of the same device or worker took its place.",
        "Two tabs or processes use one name, or a client reconnected before its old connection was gone.",
        "Do not reconnect. Give each installation a device, and each process a worker name, of its own.",
    ),
];

/// The numbers with which `runcast` ends.
pub const EXITS: &[Explanation] = &[
    of("0", "What was asked for is done.", "A daemon was drained; a command was answered.", "Nothing."),
    of(
        "1",
        "It was tried and failed.",
        "A run did not end ok; a daemon lost its store; a check of doctor or selftest failed.",
        "The last line on standard error says what.",
    ),
    of(
        "2",
        "The command itself was wrong.",
        "An unknown command or option, or an address that is none.",
        "See `runcast help`.",
    ),
    of(
        "69",
        "No daemon answered at the URL.",
        "It does not run, listens elsewhere, shows a certificate that is not trusted, or a firewall is between.",
        "Check --url or RUNCAST_URL; `runcast doctor` looks at the way to it.",
    ),
    of(
        "77",
        "The daemon answered, and refused.",
        "The token, its scope, or the request.",
        "The code is in the line on standard error: explain that.",
    ),
    of(
        "78",
        "The configuration, the keys, the data directory or the address do not allow a start, or a file of the \
         command, like that of --ca, cannot be used.",
        "Each line on standard error names file and line, the reason, and the fix.",
        "`runcast check` tells the same without starting; `runcast check --print` shows every value.",
    ),
];
