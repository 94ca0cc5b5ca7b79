# Sourced by scripts/bench after lib.sh: where things lie, a cache to measure, measuring, and the
# tables. Callers have niks3 and niks3-server on the PATH.
# shellcheck shell=bash

# What callers set: a folder for all that is temporary, the store directory of what is pushed, and
# `embedded` or `weed`.
folder='' store_dir='' s3=''

# --- Folders

on_tmpfs() { [ "$(stat -f -c %T "$1")" = tmpfs ]; }

# The MB that may be written below a folder: on tmpfs no more than what memory can spare, but for
# 1000 MB for those who work.
room_in() {
  local free memory
  free=$(df --output=avail -B 1000000 "$1" | tail -n 1)
  if on_tmpfs "$1"; then
    memory=$(awk '/^MemAvailable/ { print int($2 * 1024 / 1000000) - 1000 }' /proc/meminfo)
    [ "$memory" -ge $((free)) ] || free=$memory
  fi
  echo $((free))
}

# What was promised to folders in /dev/shm and is not yet written.
promised=0

# make_folder MB WHAT - makes a folder and sets `made`: in /dev/shm if that has room, else in /tmp.
make_folder() {
  local parent=/tmp room kind
  if [ -w /dev/shm ] && on_tmpfs /dev/shm && [ $((promised + $1)) -le "$(room_in /dev/shm)" ]; then
    parent=/dev/shm
    promised=$((promised + $1))
  else
    room=$(room_in /tmp)
    [ "$1" -le "$room" ] || die "$2 may take $1 MB, and /tmp has room for $room MB"
  fi
  if on_tmpfs $parent; then kind=tmpfs; else kind="on disk: not enough room in /dev/shm"; fi
  made=$(mktemp -d $parent/niks3-bench.XXXXXX)
  # PostgreSQL refuses to run as root, so its user has to get at its folder.
  chmod 755 "$made"
  say "$2 may take $1 MB: in $made ($kind)"
}

# What Nix builds is read-only.
remove() {
  [ -e "$1" ] || return 0
  chmod -R u+w "$1"
  rm -rf "$1"
}

# --- A cache: PostgreSQL and S3, and the server on top
#
# PostgreSQL and the embedded S3 are those of a `niks3-server dev`, whose own server has nothing to
# do: what is measured is a second one on the same database, so that its CPU is not S3's too.

helper='' postgres='' server='' seaweed_port='' seaweed=''

# await PID LOG PATTERN - waits for a server that logs its address after PATTERN, and sets `url`.
await() {
  local deadline=$((SECONDS + 60))
  while [ $SECONDS -lt $deadline ]; do
    if ! kill -0 "$1" 2>/dev/null; then
      cat "$2" >&2
      die "niks3-server ended while it started; what it said is above"
    fi
    url=$(grep -oE -m1 -- "$3[0-9.]+:[0-9]+" "$2" 2>/dev/null | grep -oE '[0-9.]+:[0-9]+$') &&
      url=http://$url &&
      curl -fsS -m 5 -o /dev/null "$url/health" 2>/dev/null && return
    sleep 0.1
  done
  cat "$2" >&2
  die "niks3-server was not ready after a minute; what it said is above"
}

# SeaweedFS answers before it has its bucket, and makes room for one when the first object comes.
await_bucket() {
  local deadline=$((SECONDS + 60))
  until curl -fsS -m 5 --aws-sigv4 "aws:amz:$region:s3" --user "$access_key:$secret_key" \
    --header 'x-amz-content-sha256: UNSIGNED-PAYLOAD' --request PUT --data probe \
    "$endpoint/$bucket/probe" >/dev/null 2>"$folder/err"; do
    [ $SECONDS -lt $deadline ] || die "SeaweedFS had no bucket after a minute: $(cat "$folder/err")"
    sleep 0.2
  done
}

# Starts PostgreSQL and S3, both empty.
start_services() {
  local settings=$folder/seaweed.env
  mkdir "$folder/cache"
  chmod 755 "$folder/cache"
  niks3-server dev --state-dir "$folder/cache/dev" --store-dir "$store_dir" \
    --http-addr 127.0.0.1:0 --s3-addr 127.0.0.1:0 >"$folder/dev.log" 2>&1 &
  helper=$!
  await $helper "$folder/dev.log" '--server-url http://'
  postgres=$(sed -n 1p "$folder/cache/dev/postgres/postmaster.pid")
  socket=$(sed -n 5p "$folder/cache/dev/postgres/postmaster.pid")
  if [ "$s3" = weed ]; then
    seaweed_port=$(free_seaweed_port)
    bash ../shared/s3/s3-dev.sh start weed "$seaweed_port" "$folder/cache/weed" >"$settings" ||
      die "SeaweedFS did not start; its messages are above"
    setting() { sed -n "s/^$1=//p" "$settings"; }
    endpoint=$(setting S3_ENDPOINT) bucket=$(setting S3_BUCKET) region=$(setting S3_REGION)
    access_key=$(setting AWS_ACCESS_KEY_ID) secret_key=$(setting AWS_SECRET_ACCESS_KEY)
    seaweed=$(setting S3_PID)
    await_bucket
  else
    endpoint=$(grep -oE -m1 -- '--from http://[0-9.:]+' "$folder/dev.log")
    endpoint=${endpoint#* } bucket=niks3 region=us-east-1
    access_key=niks3-dev secret_key=$(cat "$folder/cache/dev/s3-secret")
  fi
}

# Starts the server that is measured; sets `url`.
start_server() {
  NIKS3_DB="host=$socket port=5432 user=niks3 dbname=niks3" NIKS3_HTTP_ADDR=127.0.0.1:0 \
    NIKS3_S3_ENDPOINT=$endpoint NIKS3_S3_REGION=$region NIKS3_S3_BUCKET=$bucket \
    NIKS3_S3_ACCESS_KEY=$access_key NIKS3_S3_SECRET_KEY=$secret_key \
    NIKS3_API_TOKEN_PATH=$folder/cache/dev/api-token \
    NIKS3_SIGN_KEY_PATHS=$folder/cache/dev/signing-key \
    niks3-server --store-dir "$store_dir" >"$folder/server.log" 2>&1 &
  server=$!
  await $server "$folder/server.log" 'http.address='
}

stop_process() {
  [ -n "$1" ] || return 0
  kill -TERM "$1" 2>/dev/null || true
  wait "$1" 2>/dev/null || true
}

# Stops what runs and removes what it kept: the next one is empty again.
stop_cache() {
  stop_process "$server"
  server=''
  stop_process "$helper"
  helper='' postgres=''
  if [ -n "$seaweed_port" ]; then
    bash ../shared/s3/s3-dev.sh stop weed "$seaweed_port" || true
  fi
  seaweed_port='' seaweed=''
  remove "$folder/cache"
}

# --- Measuring

# measure COMMAND… - runs it, and sets `wall` and `cpu` (user and system, with all children) in
# milliseconds, and `peak` (of its largest process) in KiB. Its output is in $folder/out.
measure() {
  local TIMEFORMAT='%3R %3U %3S' user system
  if ! { time command time -o "$folder/peak" -f %M "$@" \
    >"$folder/out" 2>"$folder/err"; } 2>"$folder/time"; then
    cat "$folder/out" "$folder/err" >&2
    die "this failed, what it said is above: $*"
  fi
  read -r wall user system <"$folder/time"
  # The shell counts in milliseconds, GNU time in hundredths.
  wall=$((10#${wall/./})) cpu=$((10#${user/./} + 10#${system/./}))
  peak=$(cat "$folder/peak")
}

# The CPU milliseconds of the server, of PostgreSQL with its sessions, and of S3 so far.
services_cpu() {
  { cat /proc/[0-9]*/stat 2>/dev/null || true; } |
    awk -v tick=$((1000 / $(getconf CLK_TCK))) -v server="${server:-none}" \
      -v postgres="${postgres:-none}" -v s3="${seaweed:-${helper:-none}}" '
      { id = $1; sub(/^.*\) /, "") }
      { own = $12 + $13 }
      id == server { server_sum = own }
      id == postgres { postgres_sum += own + $14 + $15 }
      $2 == postgres { postgres_sum += own }
      id == s3 { s3_sum = own }
      END { print server_sum * tick, postgres_sum * tick, s3_sum * tick }'
}

# measure_with_services COMMAND… - the same, and sets `server_cpu`, `db_cpu`, `s3_cpu`.
measure_with_services() {
  local before after
  read -ra before < <(services_cpu)
  measure "$@"
  read -ra after < <(services_cpu)
  server_cpu=$((after[0] - before[0])) db_cpu=$((after[1] - before[1]))
  s3_cpu=$((after[2] - before[2]))
}

# --- Results: one line for each measurement, its fields between tabs, `-` where there is none.
# closure what run wall cpu peak server_cpu server_peak db_cpu s3_cpu requests calls bytes nar_bytes
# paths; milliseconds, KiB and bytes.

# record CLOSURE WHAT RUN NAR_BYTES PATHS - what was measured last, which it forgets.
record() {
  local IFS=$'\t'
  local fields=("$1" "$2" "$3" "$wall" "$cpu" "$peak" "${server_cpu:--}" "${server_peak:--}"
    "${db_cpu:--}" "${s3_cpu:--}" "${requests:--}" "${calls:--}" "${bytes:--}" "$4" "$5")
  printf '%s\n' "${fields[*]}" >>"$folder/results"
  printf '  run %s  %-22s %9.3f s, CPU %9.3f s\n' "$3" "$2" "${wall}e-3" "${cpu}e-3"
  server_cpu='' server_peak='' db_cpu='' s3_cpu='' requests='' calls='' bytes=''
}

# What all three outputs begin with: the fastest of each closure and what, in the order of measuring.
# shellcheck disable=SC2016 # awk's, not the shell's
fastest='
  BEGIN { FS = "\t" }
  { key = $1 FS $2; line[NR] = $0; key_of[NR] = key }
  !(key in best) { order[++keys] = key }
  !(key in best) || $4 < wall[key] { best[key] = NR; wall[key] = $4; cpu[key] = $5 }
  function scaled(text, factor, format) {
    return text == "-" ? "" : sprintf(format, text * factor)
  }
'

print_table() {
  awk "$fastest"'
    END {
      print "| closure | paths | NAR MB | what | wall s | CPU s | peak MB | NAR MB/s | sent MB" \
        " | server CPU s | server MB | DB CPU s | S3 CPU s | S3 requests | API calls |"
      print "| --- | --: | --: | --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |"
      for (i = 1; i <= keys; i++) {
        $0 = line[best[order[i]]]
        first = ($1 != closure)
        closure = $1
        again = ($2 == "niks3 push again")
        printf "| %-10s | %6s | %7s | %-21s | %7.2f | %7.2f | %5.0f | %6s | %7s", first ? $1 : "",
          first ? $15 : "", first ? sprintf("%.1f", $14 / 1e6) : "", $2, $4 / 1e3, $5 / 1e3,
          $6 * 1024 / 1e6, again ? "" : sprintf("%.0f", $14 / 1e3 / ($4 ? $4 : 1)),
          scaled($13, 1e-6, "%.1f")
        printf " | %6s | %5s | %6s | %6s | %6s | %4s |\n", scaled($7, 1e-3, "%.2f"),
          scaled($8, 1024 / 1e6, "%.0f"), scaled($9, 1e-3, "%.2f"), scaled($10, 1e-3, "%.2f"),
          scaled($11, 1, "%.0f"), scaled($12, 1, "%.0f")
      }
    }' "$folder/results"
}

print_ratios() {
  awk "$fastest"'
    { ran[key, $3] = 1; wall_in[key, $3] = $4; cpu_in[key, $3] = $5; if ($3 > runs) runs = $3 }
    function ratio(a, b) { return sprintf("%.2f", a / (b ? b : 1)) }
    function range(values, push, other,   run, r, low, high) {
      for (run = 1; run <= runs; run++) {
        if (!((push, run) in ran) || !((other, run) in ran)) continue
        r = values[push, run] / (values[other, run] ? values[other, run] : 1)
        if (low == "" || r < low) low = r
        if (high == "" || r > high) high = r
      }
      return sprintf("%.2f to %.2f", low, high)
    }
    END {
      print "| closure | niks3 push, divided by | CPU | in the single runs | wall | in the single runs |"
      print "| --- | --- | --: | --- | --: | --- |"
      for (i = 1; i <= keys; i++) {
        split(order[i], name, FS)
        push = name[1] FS "niks3 push"
        if (!(push in best) || name[2] ~ /^niks3 /) continue
        printf "| %-10s | %-21s | %5s | %14s | %5s | %14s |\n", name[1] != closure ? name[1] : "",
          name[2], ratio(cpu[push], cpu[order[i]]), range(cpu_in, push, order[i]),
          ratio(wall[push], wall[order[i]]), range(wall_in, push, order[i])
        closure = name[1]
      }
    }' "$folder/results"
}

# Every single measurement, so that the noise can be seen.
print_csv() {
  awk "$fastest"'
    END {
      print "closure,what,run,fastest,wall_s,cpu_s,peak_mb,server_cpu_s,server_peak_mb,db_cpu_s," \
        "s3_cpu_s,s3_requests,api_calls,sent_bytes,nar_bytes,paths"
      OFS = ","
      for (n = 1; n <= NR; n++) {
        $0 = line[n]
        print $1, $2, $3, best[key_of[n]] == n ? "yes" : "no", $4 / 1e3, $5 / 1e3,
          sprintf("%.1f", $6 * 1024 / 1e6), scaled($7, 1e-3, "%.2f"),
          scaled($8, 1024 / 1e6, "%.1f"), scaled($9, 1e-3, "%.2f"), scaled($10, 1e-3, "%.2f"),
          scaled($11, 1, "%.0f"), scaled($12, 1, "%.0f"), scaled($13, 1, "%.0f"), $14, $15
      }
    }' "$folder/results"
}
