#!/usr/bin/env bash
# Gets the backends into .cache/backends: builds otelcol and Jaeger from Go modules, takes Zipkin from Maven.
# Does nothing where they are; says in one line what this machine lacks for one of them.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
target=$(cd "$here/../.." && pwd)/.cache/backends

ocb=v0.148.0
jaeger=v1.76.0 # the module's number of Jaeger 2.13
zipkin=3.5.1

mkdir -p "$target"
# No debugger looks at what runs for minutes: that takes time to prepare. Optimised it is: else it holds up its tests.
export GOFLAGS="-buildvcs=false -modcacherw -trimpath -gcflags=all=-dwarf=false '-ldflags=-s -w'"

# Whether a program is there in the version asked for.
have() { [ -e "$target/$1" ] && [ "$(cat "$target/$1.version" 2>/dev/null)" = "$2" ]; }
made() { printf '%s\n' "$2" >"$target/$1.version" && printf 'built %s %s in %s s\n' "$1" "${2%%+*}" "$SECONDS"; }

# What fails says so by its own `return`: in a list such as below, `set -e` counts for nothing.
build_otelcol() {
    rm -rf "$target/ocb"
    mkdir -p "$target/ocb"
    (cd "$target/ocb" && GOBIN=$PWD go install "go.opentelemetry.io/collector/cmd/builder@$ocb") || return 1
    # Compiled here: before it compiles, ocb tidies, which asks for what the components' own tests import.
    (cd "$target/ocb" && sed "s|^dist:|dist:\n  output_path: $PWD/out|" "$here/collector.yaml" >config.yaml &&
        ./builder --config config.yaml --skip-get-modules --skip-compilation &&
        cd out && go build -mod=mod -o otelcol .) >"$target/otelcol.log" 2>&1 ||
        { tail -n 20 "$target/otelcol.log" >&2 && return 1; }
    mv "$target/ocb/out/otelcol" "$target/otelcol"
    rm -rf "$target/ocb"
}

build_jaeger() {
    rm -rf "$target/jaeger-module"
    mkdir -p "$target/jaeger-module"
    (cd "$target/jaeger-module" && printf 'module local/jaeger\n\ngo 1.24\n' >go.mod &&
        go get -tool "github.com/jaegertracing/jaeger/cmd/jaeger@$jaeger" 2>get.log &&
        go build -o "$target/jaeger" github.com/jaegertracing/jaeger/cmd/jaeger) || return 1
    rm -rf "$target/jaeger-module"
}

get_zipkin() {
    mvn --quiet --batch-mode dependency:copy -Dartifact="io.zipkin:zipkin-server:$zipkin:jar:exec" \
        -DoutputDirectory="$target" -Dmdep.stripVersion=true -Dmdep.stripClassifier=true || return 1
    mv "$target/zipkin-server.jar" "$target/zipkin.jar"
}

if ! command -v go >/dev/null; then
    echo "no go on this machine: the collector and Jaeger cannot be built"
else
    digest="$ocb+$(sha256sum <"$here/collector.yaml" | cut -c1-12)"
    SECONDS=0
    have otelcol "$digest" || { build_otelcol && made otelcol "$digest"; }
    SECONDS=0
    have jaeger "$jaeger" || { build_jaeger && made jaeger "$jaeger"; }
fi
if ! command -v java >/dev/null || ! command -v mvn >/dev/null; then
    echo "no java or no mvn on this machine: Zipkin cannot be had"
else
    SECONDS=0
    have zipkin.jar "$zipkin" || { get_zipkin && made zipkin.jar "$zipkin"; }
fi
