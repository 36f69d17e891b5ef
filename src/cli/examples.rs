//! The ends of the help texts: what to type.

pub(super) const ROOT: &str = "\
EXAMPLES
  ringmq server --data /var/lib/ringmq       run a broker
  ringmq queues send orders 'one tea'        send a message
  ringmq queues receive orders               take it
  ringmq events receive 'sensors.>'          print events as they come
  ringmq status                              is the broker well?
  ringmq top                                 what is going on in it

Settings are read from the defaults, a file, the environment and the flags; later ones win.
`ringmq config` shows all of them with their names and where each value comes from.
docs/cli.md has every command with its output, its JSON and its exit codes.";

pub(super) const SERVER: &str = "\
EXAMPLES
  ringmq server
  ringmq server --data /var/lib/ringmq --cores 4 --sync interval
  ringmq server --grpc-port 0 --addresses-file /run/ringmq.json   a free port, told in a file";

pub(super) const DEMO: &str = "\
EXAMPLES
  ringmq demo --data /tmp/demo";

pub(super) const CONFIG: &str = "\
EXAMPLES
  ringmq config
  ringmq config --format toml > ringmq.toml
  ringmq config --config ringmq.toml --format json
  ringmq config explain store.max_retention
  ringmq config check ringmq.yaml";

pub(super) const CONFIG_EXPLAIN: &str = "\
EXAMPLES
  ringmq config explain grpc.body_limit
  ringmq config explain QUEUE_MAX_VISIBILITY_SECONDS";

pub(super) const CONFIG_CHECK: &str = "\
EXAMPLES
  ringmq config check /etc/ringmq/ringmq.toml";

pub(super) const STORE: &str = "\
EXAMPLES
  ringmq store info --data /var/lib/ringmq
  ringmq store dump --channel audit --from 1 --to 10";

pub(super) const STORE_INFO: &str = "\
EXAMPLES
  ringmq store info --data /var/lib/ringmq
  ringmq store info --json | jq .live_bytes";

pub(super) const STORE_VERIFY: &str = "\
EXAMPLES
  ringmq store verify --data /var/lib/ringmq";

pub(super) const STORE_DUMP: &str = "\
EXAMPLES
  ringmq store dump --channel audit --from 1 --to 10
  ringmq store dump --channel orders --kind queues | jq -r .id";

pub(super) const STORE_REWRAP: &str = "\
EXAMPLES
  ringmq store rewrap --set store.encryption.key_file=keys --set store.encryption.enable=true";

pub(super) const STORE_RESHARD: &str = "\
EXAMPLES
  ringmq store reshard --logs 8 --data /var/lib/ringmq";

pub(super) const VERSION: &str = "\
EXAMPLES
  ringmq version";

pub(super) const COMPLETIONS: &str = "\
EXAMPLES
  ringmq completions bash > /etc/bash_completion.d/ringmq
  ringmq completions zsh > ~/.zfunc/_ringmq
  ringmq completions fish > ~/.config/fish/completions/ringmq.fish";

pub(super) const AUTH: &str = "\
EXAMPLES
  ringmq auth check --policy policy.json
  ringmq auth check --as billing --can read --on 'queues:orders'";

pub(super) const AUTH_CHECK: &str = "\
EXAMPLES
  ringmq auth check                                  is the policy of the settings a good one?
  ringmq auth check --policy policy.json
  ringmq auth check --as billing --can read --on 'events:orders.>'
  ringmq auth check --as ann --role ops --can write --on management --policy policy.json";

pub(super) const AUTH_KEY: &str = "\
EXAMPLES
  ringmq auth key create billing --file keys
  ringmq auth key create ops --role admin --expires-in 90d --file keys
  ringmq auth key list --file keys";

pub(super) const AUTH_TOKEN: &str = "\
EXAMPLES
  ringmq auth token check token.txt
  ringmq auth token create --alg HS256 --key-file secret --claim sub=ada";

pub(super) const AUTH_TOKEN_CHECK: &str = "\
EXAMPLES
  ringmq auth token check token.txt
  ringmq auth token check < token.txt                does a broker of these settings take it?";

pub(super) const AUTH_TOKEN_CREATE: &str = "\
EXAMPLES
  ringmq auth token create --alg HS256 --key-file secret --claim sub=ada
  ringmq auth token create --alg ES256 --key-file key.pem --claim sub=ada --expires-in 5m";

pub(super) const AUDIT: &str = "\
EXAMPLES
  ringmq audit verify /var/lib/ringmq/audit.log";

pub(super) const AUDIT_VERIFY: &str = "\
EXAMPLES
  ringmq audit verify                                the log of the settings, with all its files
  ringmq audit verify audit.log.000000012345 audit.log
  ringmq audit verify --noted 9f2c5f1ce0c0f6c8d5a3f9a3b6b0a4f1c2d3e4f5061728394a5b6c7d8e9fa0b1";

pub(super) const QUEUES: &str = "\
EXAMPLES
  ringmq queues send orders 'one tea'
  ringmq queues receive orders --max 10 --wait 5s
  ringmq queues list --output json | jq 'select(.waiting > 0).name'";

pub(super) const QUEUES_SEND: &str = "\
EXAMPLES
  ringmq queues send orders 'one tea'
  ringmq queues send orders 'one tea' --metadata urgent --tag table=7 --expiration 10m
  ringmq queues send orders 'one tea' --delay 30s --max-receives 3 --dead-letter-queue orders.dead
  ringmq queues send orders --file order.json --count 100 --rate 10/s
  gzip -c order.json | ringmq queues send orders -
  tail -f app.log | ringmq queues send log --lines";

pub(super) const QUEUES_RECEIVE: &str = "\
EXAMPLES
  ringmq queues receive orders
  ringmq queues receive orders --max 100 --wait 10s --output json
  ringmq queues receive orders --raw > order.json
  ringmq queues receive log --watch --lines";

pub(super) const QUEUES_PEEK: &str = "\
EXAMPLES
  ringmq queues peek orders
  ringmq queues peek orders.dead --max 100 --output json | jq -r .dead_letter_of";

pub(super) const QUEUES_STREAM: &str = "\
EXAMPLES
  ringmq queues stream orders                                  asks about each message
  ringmq queues stream orders --visibility 5m --wait 1h
  ringmq queues stream orders --auto ack --max 10 --lines
  ringmq queues stream orders.dead --auto resend --to orders
  yes ack | ringmq queues stream orders                        answers from a pipe";

pub(super) const QUEUES_ACK: &str = "\
EXAMPLES
  ringmq queues ack orders
  ringmq queues ack orders --wait 10s --output json";

pub(super) const QUEUES_LIST: &str = "\
EXAMPLES
  ringmq queues list
  ringmq queues list --search orders --output json";

pub(super) const QUEUES_INFO: &str = "\
EXAMPLES
  ringmq queues info orders
  ringmq queues info orders --output json | jq .waiting";

pub(super) const QUEUES_PURGE: &str = "\
EXAMPLES
  ringmq queues purge orders";

pub(super) const QUEUES_REDRIVE: &str = "\
EXAMPLES
  ringmq queues redrive --from orders.dead                           each to where it came from
  ringmq queues redrive --from orders.dead --rate 100/s --max 1000   slowly, and not all
  ringmq queues redrive --from parked --to orders                    all to one queue";

pub(super) const QUEUES_ATTACH: &str = "\
EXAMPLES
  ringmq queues attach orders
  ringmq queues attach orders --include '\"table\":7' --output json";

pub(super) const EVENTS: &str = "\
EXAMPLES
  ringmq events receive 'sensors.>'
  ringmq events send sensors.hall '21.5' --tag unit=C";

pub(super) const EVENTS_SEND: &str = "\
EXAMPLES
  ringmq events send sensors.hall '21.5' --tag unit=C
  ringmq events send sensors.hall '21.5' --count 10000 --stream
  vmstat 1 | ringmq events send hosts.a --lines --rate 10/s";

pub(super) const EVENTS_RECEIVE: &str = "\
EXAMPLES
  ringmq events receive sensors.hall
  ringmq events receive 'sensors.*' --group writers --output json
  ringmq events receive 'sensors.>' --max 1 --wait 30s --lines";

pub(super) const EVENTS_LIST: &str = "\
EXAMPLES
  ringmq events list
  ringmq events list --search sensors --output json";

pub(super) const EVENTS_ATTACH: &str = "\
EXAMPLES
  ringmq events attach sensors.hall
  ringmq events attach sensors.hall --exclude heartbeat --max 100";

pub(super) const EVENTS_STORE: &str = "\
EXAMPLES
  ringmq events-store send audit 'door opened'
  ringmq events-store receive audit --start-first";

pub(super) const EVENTS_STORE_SEND: &str = "\
EXAMPLES
  ringmq events-store send audit 'door opened' --metadata hall
  ringmq events-store send audit --lines --stream < audit.log";

pub(super) const EVENTS_STORE_RECEIVE: &str = "\
EXAMPLES
  ringmq events-store receive audit
  ringmq events-store receive audit --start-first --max 10
  ringmq events-store receive audit --start-sequence 1000 --wait 1s --output json
  ringmq events-store receive audit --start-time '2026-11-21 18:30:00'
  ringmq events-store receive audit --start-duration 1h
  ringmq events-store receive audit --client-id reader-1     goes on where reader-1 stopped";

pub(super) const EVENTS_STORE_LIST: &str = "\
EXAMPLES
  ringmq events-store list
  ringmq events-store list --search audit --output json";

pub(super) const EVENTS_STORE_ATTACH: &str = "\
EXAMPLES
  ringmq events-store attach audit
  ringmq events-store attach audit --output json | jq .body";

pub(super) const COMMANDS: &str = "\
EXAMPLES
  ringmq commands receive lights --exec ./switch.sh
  ringmq commands send lights on --timeout 5s";

pub(super) const COMMANDS_SEND: &str = "\
EXAMPLES
  ringmq commands send lights on
  ringmq commands send lights on --metadata hall --timeout 5s --output json
  ringmq commands send deploy --file plan.json && echo deployed";

pub(super) const COMMANDS_RECEIVE: &str = "\
EXAMPLES
  ringmq commands receive lights                          asks for each answer
  ringmq commands receive lights --response done
  ringmq commands receive 'lights.>' --exec './switch.sh \"$RINGMQ_CHANNEL\"' --group switches
  ringmq commands receive lights --fail 'out of order' --max 1";

pub(super) const COMMANDS_ATTACH: &str = "\
EXAMPLES
  ringmq commands attach lights";

pub(super) const QUERIES: &str = "\
EXAMPLES
  ringmq queries receive weather --exec 'curl -s wttr.in/?format=%t'
  ringmq queries send weather hall --lines";

pub(super) const QUERIES_SEND: &str = "\
EXAMPLES
  ringmq queries send weather hall
  ringmq queries send weather hall --timeout 5s --output json | jq .took_ms
  ringmq queries send weather hall --cache-key hall --cache-duration 1m";

pub(super) const QUERIES_RECEIVE: &str = "\
EXAMPLES
  ringmq queries receive weather --response '21 degrees'
  ringmq queries receive weather --exec 'curl -s wttr.in/?format=%t' --group stations";

pub(super) const QUERIES_ATTACH: &str = "\
EXAMPLES
  ringmq queries attach weather --output json";

pub(super) const CHANNELS: &str = "\
EXAMPLES
  ringmq channels list --active
  ringmq channels create queues orders orders.dead";

pub(super) const CHANNELS_LIST: &str = "\
EXAMPLES
  ringmq channels list
  ringmq channels list --kind queues,events-store --search orders
  ringmq channels list --active --output json | jq -r '[.kind, .name] | @tsv'";

pub(super) const CHANNELS_CREATE: &str = "\
EXAMPLES
  ringmq channels create queues orders orders.dead
  ringmq channels create events-store audit";

pub(super) const CHANNELS_DELETE: &str = "\
EXAMPLES
  ringmq channels delete queues orders";

pub(super) const CHANNELS_PURGE: &str = "\
EXAMPLES
  ringmq channels purge events-store audit
  ringmq channels purge queues orders orders.dead";

pub(super) const STATUS: &str = "\
EXAMPLES
  ringmq status
  ringmq status --address broker:50000 --api broker:8080
  ringmq status --output json | jq .waiting";

pub(super) const TOP: &str = "\
EXAMPLES
  ringmq top
  ringmq top --sort waiting --interval 5s
  ringmq top --output json | jq '.channels[0]'      one frame";
