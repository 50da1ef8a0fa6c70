#!/usr/bin/env bash
# Builds FerretDB 1, which speaks MongoDB's protocol over SQLite, into .cache/ferretdb; does nothing where it is built.
set -euo pipefail
cd "$(dirname "$0")/../.."

version=v1.24.2 # the last one that needs no PostgreSQL
target=$PWD/.cache/ferretdb
if [ "$(cat "$target/version" 2>/dev/null)" = "$version" ] && [ -x "$target/ferretdb" ]; then
    exit 0
fi

rm -rf "$target"
mkdir -p "$target"
trap 'chmod -R u+w "$target/source"; rm -rf "$target/source"' EXIT
folder=$(cd "$target" && go mod download -json "github.com/FerretDB/FerretDB@$version" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
cp -r "$folder" "$target/source"
chmod -R u+w "$target/source"
# The module comes without what its release process writes there, and the program will not start without it.
printf '%s\n' "$version" >"$target/source/build/version/version.txt"
# The revision of this repository, which it would find above it, is not its own. It is made neither fast nor fit for a
# debugger, so that it compiles sooner.
export GOFLAGS="-buildvcs=false -trimpath '-gcflags=all=-N -l -dwarf=false' '-ldflags=-s -w'"
(cd "$target/source" && go build -tags ferretdb_no_postgresql -o "$target/ferretdb" ./cmd/ferretdb)
printf '%s\n' "$version" >"$target/version"
