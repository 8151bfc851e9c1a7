# Read by the scripts beside it: go to the checkout's root, find uv, and take the lock as it is.
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if ! command -v uv >/dev/null; then
    echo "uv isn't installed: pip install uv" >&2
    exit 127
fi
export UV_FROZEN=1
