#!/usr/bin/env bash
# Installs a copy of this tree on a PATH that holds node, npm, a shell and coreutils, and nothing that compiles:
# the install must succeed, `info` must say why the cpu backend is missing, and the reference backend must answer:
# a clone has no modules for WebAssembly before `npm run build:wasm`.
set -euo pipefail

cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mkdir "$work/bin" "$work/tree"
git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$work/tree"
for tool in node npm npx sh env basename cat cp dirname ls mkdir mv readlink rm sed uname; do
  found=$(type -P "$tool") || { echo "this check needs $tool" >&2; exit 1; }
  ln -s "$found" "$work/bin/$tool"
done

cd "$work/tree"
# Only what is on this PATH reaches the install: a compiler named by a variable would reach it too.
run() { env -u CC -u CXX -u CUDACXX -u RLVR_BACKEND -u RLVR_ADDON PATH="$work/bin" "$@"; }

for tool in cc c++ gcc g++ clang++ cmake make ninja python python3 nvcc; do
  if run sh -c "command -v $tool" >/dev/null; then echo "$tool is still on PATH" >&2; exit 1; fi
done

echo '== npm ci with no compiler'
run npm ci --prefer-offline --no-audit --no-fund
cat build/install-report.json

echo '== info'
run node dist/cli/main.js info --json | tee info.json
run node --input-type=module - <<'END'
import { readFileSync } from 'node:fs';
import assert from 'node:assert/strict';
const info = JSON.parse(readFileSync('info.json', 'utf8'));
const backend = (name) => info.backends.find((entry) => entry.name === name);
assert.equal(info.backend, 'reference');
assert.equal(backend('reference').available, true);
assert.equal(backend('cpu').available, false);
assert.match(backend('cpu').reason, /no C\+\+ compiler found/);
END

echo '== demo'
run node dist/cli/main.js demo --steps 3 --json | tail -n 1 | tee demo.json
run node -e "require('assert').equal(JSON.parse(require('fs').readFileSync('demo.json')).backend, 'reference')"
echo 'the install without a compiler works'
