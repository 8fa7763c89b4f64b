# shellcheck shell=bash
# The lab: three nodes with a router between them that forgets, and nodes with a systemd of their own.
#
# Sourced by `up`, `down`, `shell`, `node` and by tests. Needs root. Everything is made in network namespaces and
# below two folders; the machine's own network, mounts and settings are not touched.
#
#   EVENKEEL_LAB_NAME   keeps labs apart that run at the same time   (default: lab)
#   EVENKEEL_LAB        the cache with the Debian root of `node`     (default: /var/cache/evenkeel-lab)
#   EVENKEEL_LAB_SUITE  which Debian that is                         (default: this machine's own, or else bookworm)
#   EVENKEEL_LAB_RUN    what is running now                          (default: /run/evenkeel-lab)

lab_here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
lab_name=${EVENKEEL_LAB_NAME:-lab}
lab_cache=${EVENKEEL_LAB:-/var/cache/evenkeel-lab}
lab_run=${EVENKEEL_LAB_RUN:-/run/evenkeel-lab}/$lab_name
lab_nodes=(mw db web)

lab_fail() {
  printf 'lab: %s\n' "$*" >&2
  return 1
}

# lab_need PROGRAM PACKAGE: say what to install.
lab_need() {
  command -v "$1" >/dev/null 2>&1 || lab_fail "needs \`$1\`: install the package $2"
}

lab_root_only() {
  [ "$(id -u)" = 0 ] || lab_fail "needs root, for network namespaces and mounts"
}

# lab_ns NODE: the name of its network namespace. `router` has one too.
lab_ns() {
  printf 'ek-%s-%s' "$lab_name" "$1"
}

# lab_address NODE: its address. Each node is alone in its subnet, so that everything crosses the router.
lab_address() {
  case $1 in
    mw) echo 10.77.1.2 ;;
    db) echo 10.77.2.2 ;;
    web) echo 10.77.3.2 ;;
    *) lab_fail "no node \`$1\`: there are ${lab_nodes[*]}" ;;
  esac
}

# lab_on NODE COMMAND…: run a command in a node's network namespace, or in the router's.
lab_on() {
  local node=$1
  shift
  ip netns exec "$(lab_ns "$node")" "$@"
}

# lab_guard PID COMMAND…: run COMMAND once PID is gone, however it went. What a trap cannot see, SIGKILL, this can.
# The command is a program with its arguments, not a function.
lab_guard() {
  local owner=$1
  shift
  EVENKEEL_LAB_NAME=$lab_name setsid --fork bash -c '
    owner=$1; shift
    tail --pid="$owner" -s 0.2 -f /dev/null
    exec "$@"' lab-guard "$owner" "$@" </dev/null >/dev/null 2>&1
}

# lab_until SECONDS WHAT COMMAND…: wait until COMMAND succeeds.
lab_until() {
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $deadline ] || { lab_fail "not in time: $what"; return 1; }
    sleep 0.05
  done
}

# lab_gone PID: whether a process has ended. A zombie has, whether or not somebody has asked how it went.
lab_gone() {
  local state
  state=$(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$1/status" 2>/dev/null)
  [ -z "$state" ] || [ "$state" = Z ]
}

# lab_up FORGET: the nodes and their router, which forgets a connection after FORGET silent seconds.
lab_up() {
  local forget=${1:-5} node subnet
  lab_root_only && lab_need ip iproute2 && lab_need nft nftables || return 1
  lab_down
  # Twice, since another lab that goes takes the folder above away if it finds it empty.
  mkdir -p "$lab_run" 2>/dev/null || mkdir -p "$lab_run" || return 1
  ip netns add "$(lab_ns router)" || return 1
  ip -n "$(lab_ns router)" link set lo up
  for node in "${lab_nodes[@]}"; do
    subnet=$(lab_address "$node") && subnet=${subnet%.*}
    ip netns add "$(lab_ns "$node")" || return 1
    ip -n "$(lab_ns "$node")" link set lo up
    ip link add eth0 netns "$(lab_ns "$node")" type veth peer name "to-$node" netns "$(lab_ns router)" || return 1
    ip -n "$(lab_ns "$node")" address add "$subnet.2/24" dev eth0
    ip -n "$(lab_ns "$node")" link set eth0 up
    ip -n "$(lab_ns router)" address add "$subnet.1/24" dev "to-$node"
    ip -n "$(lab_ns router)" link set "to-$node" up
    ip -n "$(lab_ns "$node")" route add default via "$subnet.1" || return 1
  done
  lab_route "$forget"
}

# lab_route FORGET: what the router lets through. A packet in the middle of a connection that the router does not
# know (any more) is dropped without a word, as NAT boxes and default-drop firewalls do; that silence is the trouble.
lab_route() {
  local forget=$1
  lab_on router nft -f - <<'RULES' || return 1
table inet lab {
  chain forward {
    type filter hook forward priority filter; policy drop;
    ct state invalid counter name unknown_flow drop
    ct state established,related accept
    meta l4proto tcp tcp flags & (fin|syn|rst|ack) == syn ct state new accept
    meta l4proto { icmp, ipv6-icmp } accept
    counter name unknown_flow drop
  }
  counter unknown_flow {}
}
RULES
  # Without this the kernel would pick a forgotten connection up again in its middle.
  lab_on router sysctl -qw net.netfilter.nf_conntrack_tcp_loose=0 || return 1
  lab_forget "$forget" || return 1
  lab_on router sysctl -qw net.ipv4.ip_forward=1
}

# lab_dropped: how many packets of forgotten connections the router has dropped.
lab_dropped() {
  lab_on router nft list counter inet lab unknown_flow | sed -n 's/.*packets \([0-9]*\) .*/\1/p'
}

# lab_block: the path dies. The router drops everything, before it has even looked at what it is, and says nothing.
lab_block() {
  lab_on router nft -f - <<'RULES'
table inet cut {
  chain everything {
    type filter hook prerouting priority -400; policy drop;
  }
}
RULES
}

# lab_unblock: the path is back. What the router has forgotten meanwhile stays forgotten.
lab_unblock() {
  lab_on router nft delete table inet cut
}

# lab_forget SECONDS: another memory; a connection has it from its next packet on.
lab_forget() {
  local key
  for key in established unacknowledged max_retrans; do
    lab_on router sysctl -qw "net.netfilter.nf_conntrack_tcp_timeout_$key=$1" || return 1
  done
}

# lab_postgres: a real PostgreSQL on the db node, which the other nodes reach at 10.77.2.2:5432 without a password.
lab_postgres() {
  local programs data=$lab_run/postgres
  programs=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
  [ -x "$programs/postgres" ] || { lab_fail "no PostgreSQL: install the package postgresql"; return 1; }
  install -d -o postgres -g postgres -m 0700 "$data"
  setpriv --reuid postgres --regid postgres --clear-groups \
    "$programs/initdb" -D "$data/data" -U postgres --auth=trust --locale=C --encoding=UTF8 --no-sync >"$data/initdb.log" ||
    { lab_fail "initdb: $(tail -n 3 "$data/initdb.log")"; return 1; }
  echo "host all all 10.77.0.0/16 trust" >>"$data/data/pg_hba.conf"
  # Started inside of the namespace by exec all the way, so that the number below is the server's own.
  (
    exec ip netns exec "$(lab_ns db)" setpriv --reuid postgres --regid postgres --clear-groups \
      "$programs/postgres" -D "$data/data" -c listen_addresses=10.77.2.2 -c "unix_socket_directories=$data" \
      -c fsync=off </dev/null >"$data/server.log" 2>&1
  ) &
  echo $! >"$data/pid"
  disown
  lab_until 20 "PostgreSQL on db answers ($data/server.log)" \
    lab_on db "$programs/psql" -h 10.77.2.2 -U postgres -c 'select 1' postgres
}

# lab_psycopg2: whether Debian's Python has libpq at hand; what it lacks is said.
lab_psycopg2() {
  /usr/bin/python3 -c 'import psycopg2' 2>/dev/null || lab_fail "needs psycopg2: install the package python3-psycopg2"
}

# lab_pool ARGUMENT…: the workers' pool on mw, which talks to PostgreSQL on db.
lab_pool() {
  lab_on mw "$lab_here/pool.py" "host=$(lab_address db) user=postgres dbname=postgres" "$@"
}

# lab_workers: the same pool with six workers that use their connections unevenly, in the background.
lab_workers() {
  lab_psycopg2 || return 1
  lab_pool --workers </dev/null >"$lab_run/pool.log" 2>&1 &
  disown
  lab_until 10 "the workers ask ($lab_run/pool.log)" grep -q "worker 5" "$lab_run/pool.log"
}

# lab_down: take it all away. Safe to call twice, after half a `lab_up`, and where there is nothing.
lab_down() {
  local node pid
  if [ -s "$lab_run/postgres/pid" ]; then
    pid=$(cat "$lab_run/postgres/pid")
    # The number may be somebody else's by now.
    if [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = postgres ]; then
      kill -INT "$pid" 2>/dev/null
      lab_until 10 "PostgreSQL ends" lab_gone "$pid" || kill -KILL "$pid" 2>/dev/null
    fi
  fi
  for node in "${lab_nodes[@]}" router; do
    [ -e "/run/netns/$(lab_ns "$node")" ] || continue
    ip netns pids "$(lab_ns "$node")" 2>/dev/null | xargs -r kill -KILL 2>/dev/null
    ip netns delete "$(lab_ns "$node")"
  done
  rm -rf "$lab_run/postgres" "$lab_run/pool.log"
  rmdir "$lab_run" "${lab_run%/*}" 2>/dev/null
  return 0
}
