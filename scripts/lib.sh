# Sourced by scripts/demo, scripts/test, scripts/bench and .ci/run: what this machine has, what it lacks, and how
# to get it. Callers have `set -euo pipefail` and are in the repository's root folder.
# shellcheck shell=bash

# May apt-get install what is missing? Callers set it to "no" for --no-install.
INSTALL=${INSTALL:-yes}

if [ -t 1 ]; then
  bold=$'\e[1m' plain=$'\e[0m'
else
  bold='' plain=''
fi

say() { printf '%s\n' "$*"; }
step() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }
die() {
  printf 'error: %s\n' "$*" >&2
  said_why=yes
  exit 1
}
# Whether the last words were an error's.
# shellcheck disable=SC2034 # callers read it
said_why=no

# Prints a command as one could type it, and runs it.
run() {
  printf '%s$%s' "$bold" "$plain"
  printf ' %s' "${@@Q}" | sed -E "s/'([A-Za-z0-9_.,:=@%+\/-]+)'/\1/g"
  printf '\n'
  "$@"
}

has() { command -v "$1" >/dev/null 2>&1; }

# Where PostgreSQL's own programs are: Debian keeps them off the PATH. The places that
# `niks3-server dev` searches.
has_postgres() {
  local initdb
  has initdb && return
  has pg_config && [ -x "$(pg_config --bindir)/initdb" ] && return
  for initdb in /usr/lib/postgresql/*/bin/initdb; do
    [ -x "$initdb" ] && return
  done
  return 1
}

has_ca_certificates() {
  [ -n "${SSL_CERT_FILE:-}" ] || [ -n "${SSL_CERT_DIR:-}" ] ||
    [ -s /etc/ssl/certs/ca-certificates.crt ] || [ -s /etc/pki/tls/certs/ca-bundle.crt ] ||
    [ -s /etc/ssl/cert.pem ] || [ -s /etc/ssl/ca-bundle.pem ]
}

has_c_headers() { printf '#include <stdlib.h>\n' | cc -E - >/dev/null 2>&1; }

# Is there what this name stands for?
is_there() {
  case $1 in
    c-compiler) has cc && has_c_headers ;;
    postgresql) has_postgres ;;
    nix) has nix && has nix-build && has nix-store ;;
    ca-certificates) has_ca_certificates ;;
    pip) python3 -m pip --version >/dev/null 2>&1 ;;
    # Debian has it where only root's PATH looks.
    nginx) has nginx || [ -x /usr/sbin/nginx ] ;;
    # GNU time; the shell has a keyword of that name.
    time) [ -n "$(type -P time)" ] ;;
    *) has "$1" ;;
  esac
}

# The Debian packages that it comes from.
packages_of() {
  case $1 in
    c-compiler) echo gcc libc6-dev ;;
    nix) echo nix-bin ;;
    pip) echo python3-pip ;;
    nginx) echo nginx-light ;;
    *) echo "$1" ;;
  esac
}

# need NAME… - installs what is not there yet, or says what to install.
need() {
  local name missing=() packages=()
  for name; do
    is_there "$name" || missing+=("$name")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  for name in "${missing[@]}"; do
    read -ra words <<<"$(packages_of "$name")"
    packages+=("${words[@]}")
  done
  if [ "$INSTALL" != yes ]; then
    die "missing here: ${missing[*]} (on Debian and Ubuntu: apt-get install ${packages[*]})"
  fi
  has apt-get || die "missing here: ${missing[*]}; please install them (there is no apt-get)"
  install_packages "${packages[@]}"
  for name in "${missing[@]}"; do
    is_there "$name" || die "$name is still missing after the installation of ${packages[*]}"
  done
}

apt_is_fresh=no

install_packages() {
  local apt=(apt-get)
  if [ "$(id -u)" != 0 ]; then
    has sudo || die "not root and no sudo here; as root: apt-get install $*"
    apt=(sudo)
    # Without a terminal there is nobody to type a password.
    [ -t 0 ] || apt+=(-n)
    apt+=(env DEBIAN_FRONTEND=noninteractive apt-get)
  fi
  say "missing here: $*"
  if [ $apt_is_fresh = no ]; then
    # A third party's list that cannot be had is no reason to stop: what we need may be there.
    run "${apt[@]}" update -q || say "not all package lists are up to date; going on"
    apt_is_fresh=yes
  fi
  DEBIAN_FRONTEND=noninteractive run "${apt[@]}" install -q -y --no-install-recommends "$@" ||
    die "apt-get could not install $*; its messages are above"
}

# Cargo is the one thing that we do not install.
need_cargo() {
  has cargo || PATH=$PATH:$HOME/.cargo/bin
  has cargo || die "cargo is missing; https://rustup.rs installs it"
}

# The folder that holds the real `nix`, where `nix-build` and `nix-store` are too.
nix_on_path() {
  has nix || return 1
  dirname "$(readlink -f "$(command -v nix)")"
}

# `2.34.8`
nix_version() { "$1/nix" --version | sed 's/.* //'; }

# Installs the Nix of a Debian suite, where ../shared has the installer, and prints its folder of
# programs. Takes ten seconds once, and no time when it is there.
install_nix() {
  local place
  if [ "$(id -u)" = 0 ]; then place=/opt; else place=${XDG_CACHE_HOME:-$HOME/.cache}/niks3; fi
  # A command substitution, as our callers have it, goes on after a failure unless told not to.
  ../shared/nix/install-nix "$1" "$place/nix-$1" >&2 || return 1
  printf '%s\n' "$place/nix-$1/bin"
}

# The three Nix that the tests are for: colon-separated.
install_three_nix() {
  local suite folder folders=()
  for suite in bookworm trixie sid; do
    folder=$(install_nix "$suite") || return 1
    folders+=("$folder")
  done
  (IFS=: && printf '%s' "${folders[*]}")
}

# A port for SeaweedFS: its four, and those 10,000 above, are free.
free_seaweed_port() {
  local port offset
  for port in 19333 19433 19533 19633 19733; do
    for offset in 0 1 2 3 10000 10001 10002 10003; do
      ! (: <"/dev/tcp/127.0.0.1/$((port + offset))") 2>/dev/null || continue 2
    done
    echo $port
    return
  done
  die "no ports are free for SeaweedFS"
}

target_dir() {
  cargo metadata --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p'
}

# `3m05s`
duration() { printf '%dm%02ds' $(($1 / 60)) $(($1 % 60)); }
