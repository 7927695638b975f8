# The Python environment of the two commands in the README; sourced by Testing/demo, Testing/run and .ci/run.
# It makes .venv once and brings it up to date when pyproject.toml changes.

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="${MEDSEG_VENV:-$ROOT/.venv}"
PYTHON="$VENV/bin/python"

say() { printf '%s\n' "$*" >&2; }

stop() {
  say "$*"
  exit 1
}

# Install Debian packages as root or with a sudo that asks nothing; otherwise say what to do and return 1.
install_debian() {
  local become=()
  if ! command -v apt-get >/dev/null; then
    say "These packages are missing here and apt-get is not available to install them: $*"
    return 1
  fi
  if [ "$(id -u)" -ne 0 ]; then
    if ! sudo -n true 2>/dev/null; then
      say "Please run: sudo apt-get install $*"
      return 1
    fi
    become=(sudo -n)
  fi
  say "Installing with apt-get: $*"
  "${become[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" >/dev/null 2>&1 && return 0
  # The lists of packages of a fresh machine are empty or old.
  "${become[@]}" apt-get update -qq >/dev/null 2>&1 || true
  "${become[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" >/dev/null && return 0
  say "apt-get could not install: $*"
  return 1
}

find_python() {
  local candidate
  for candidate in python3 python3.13 python3.12 python3.11 python3.10; do
    command -v "$candidate" >/dev/null || continue
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
      printf '%s' "$candidate"
      return 0
    fi
  done
  return 1
}

make_venv() {
  local base version
  [ -x "$PYTHON" ] && "$PYTHON" -m pip --version >/dev/null 2>&1 && return 0
  base="$(find_python)" || stop "MedSeg needs Python 3.10 or later, and there is none here. Run: sudo apt-get install python3 python3-venv"
  if ! "$base" -c 'import ensurepip, venv' 2>/dev/null; then
    # Debian keeps what a virtual environment needs in a package of its own.
    version="$("$base" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
    install_debian "$version" || install_debian python3-venv || stop "Python's venv is missing, which MedSeg needs for an environment of its own."
  fi
  say "Making the Python environment $VENV"
  "$base" -m venv --clear "$VENV"
}

# PyTorch before everything that depends on it: the plain package brings gigabytes of CUDA along.
install_torch() {
  "$PYTHON" -c 'import torch' 2>/dev/null && return 0
  say "Installing PyTorch (this may take minutes)"
  # A wheel that this machine's pip is configured to find.
  "$PYTHON" -m pip install -qq --no-index --no-deps torch==2.13.0 >/dev/null 2>&1 && return 0
  if command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q GPU; then
    "$PYTHON" -m pip install -qq torch && return 0
  elif [ "$(uname -s)" = Linux ]; then
    "$PYTHON" -m pip install -qq --retries 1 --index-url https://download.pytorch.org/whl/cpu torch && return 0
  fi
  "$PYTHON" -m pip install -qq torch || stop "PyTorch could not be installed; see the message of pip above."
}

# install_medseg EXTRA: the package, editable, with one extra; skipped when it was done for this pyproject.toml.
install_medseg() {
  local stamp="$VENV/medseg-$1.stamp"
  make_venv
  cmp -s "$stamp" "$ROOT/pyproject.toml" && return 0
  install_torch
  say "Installing MedSeg and what it needs"
  # The environment is tried a second time because package servers drop connections.
  "$PYTHON" -m pip install -qq --editable "$ROOT[$1]" \
    || "$PYTHON" -m pip install -qq --editable "$ROOT[$1]" \
    || stop "MedSeg could not be installed; see the message of pip above."
  cp "$ROOT/pyproject.toml" "$stamp"
}
