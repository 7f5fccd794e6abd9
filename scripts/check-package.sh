#!/usr/bin/env bash
# Packs the package and installs it as users do, each time into an empty folder with a HOME of its own, and with a space
# in its path:
#
#   1. no compiler, cmake, python or nvcc on PATH: the prebuilt addon, in less than 20 s, without a word; at most 8 packages
#      and 8 MB in node_modules
#   2. the same with --ignore-scripts, in less than 20 s too
#   3. asked to compile anyway: a line that says why not, and the prebuilt addon
#   4. no prebuilt addon for this machine and no compiler: a line that says so, and the wasm backend
#   5. asked to compile, with a compiler: compiled although there is a prebuilt addon; without CUDA, which saves time
#   6. no prebuilt addon, and a compiler, in a folder whose name a shell would run: compiled, with CUDA where there is an
#      nvcc, and nothing run
#   7. a prebuilt addon of another version, no module for WebAssembly and no compiler: a line that says so, and the reference backend
#   8. no prebuilt addon, and --ignore-scripts: the wasm backend, and info says that scripts were skipped
#   9. a processor without AVX2, where there is a qemu-x86_64 to be one: info says so, and the wasm backend
#
# Needs the prebuilt addon of this machine (npm run build:prebuilds). Cases can be named: scripts/check-package.sh 1 2
set -euo pipefail

cd "$(dirname "$0")/.."
root=$PWD
cases=("${@:-1 2 3 4 5 6 7 8}")
[ $# -gt 0 ] || ! type -P qemu-x86_64 >/dev/null || cases+=(9)
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
work="$temporary/a folder"

mkdir -p "$work/bin"
for tool in node npm npx sh env basename cat cp dirname ls mkdir mv readlink rm sed uname; do
  found=$(type -P "$tool") || { echo "this check needs $tool" >&2; exit 1; }
  ln -s "$found" "$work/bin/$tool"
done
for tool in cc c++ gcc g++ clang++ cmake make ninja python python3 nvcc; do
  if PATH="$work/bin" command -v "$tool" >/dev/null; then echo "$tool is still on PATH" >&2; exit 1; fi
done
export npm_config_cache npm_config_update_notifier=false npm_config_prefer_offline=true
npm_config_cache=$(npm config get cache 2>/dev/null)

echo '== npm pack'
npm pack --pack-destination "$work" --json >"$work/pack.json"
node - "$work/pack.json" <<'END_OF_CHECK'
const text = require('fs').readFileSync(process.argv[2], 'utf8');
const [{ size, unpackedSize, entryCount, files }] = JSON.parse(text.slice(text.search(/^\[/m)));
console.log(`${entryCount} files, ${(size / 1e6).toFixed(2)} MB, unpacked ${(unpackedSize / 1e6).toFixed(2)} MB`);
for (const { path, size } of files) if (path.startsWith('prebuilds/')) console.log(`${path}: ${(size / 1e6).toFixed(2)} MB`);
END_OF_CHECK
whole=$(echo "$work"/rlvr-kernels-*.tgz)
npx --no-install publint run "$whole"
npx --no-install attw "$whole" --profile node16 --exclude-entrypoints web
npx --no-install attw "$whole" --profile esm-only --entrypoints web
bare="$work/without-prebuilds.tgz"
tar -xzf "$whole" -C "$work"
for module in rlvr_kernels.wasm.br rlvr_kernels.relaxed.wasm.br; do
  [ -f "$work/package/prebuilds/wasm/$module" ] || { echo "the package has no $module: npm run build:wasm" >&2; exit 1; }
  grep -qF "\"${module%.br}\":" "$work/package/dist/lib/web/index.js" || { echo "rlvr-kernels/web has no $module: npm run build:wasm" >&2; exit 1; }
done
compgen -G "$work/package/prebuilds/*-*" >/dev/null || { echo 'the package has no prebuilt addons: npm run build:prebuilds' >&2; exit 1; }
other="$work/another-version.tgz"
sed -i 's/^  "version": .*/  "version": "99.0.0",/' "$work/package/package.json"
version=$(npm pkg get version | tr -d '"')
sed -i "s/\(VERSION=[\`\"']\)$version/\199.0.0/" "$work/package/dist/lib/version.js"
grep -q '99\.0\.0' "$work/package/dist/lib/version.js" || { echo 'dist/lib/version.js has no version to change' >&2; exit 1; }
rm -r "$work/package/prebuilds/wasm"
tar -czf "$other" -C "$work" package
tar -xzf "$whole" -C "$work"
find "$work/package/prebuilds" -mindepth 1 -maxdepth 1 ! -name wasm -exec rm -r {} +
tar -czf "$bare" -C "$work" package
rm -r "$work/package"

# install FOLDER TITLE TARBALL PATH [npm options]: into $work/FOLDER; what was said in $work/FOLDER/said
install() {
  here="$work/$1" path=$4
  local title=$2 tarball=$3
  shift 4
  echo
  echo "== $title"
  mkdir -p "$here/home" "$here/project"
  cd "$here/project"
  echo '{ "private": true }' >package.json
  local start
  start=$(date +%s%N)
  in_project npm install --no-audit --no-fund --foreground-scripts "$@" "$tarball" >"$here/said" 2>&1 ||
    { cat "$here/said"; echo 'npm install failed' >&2; exit 1; }
  milliseconds=$((($(date +%s%N) - start) / 1000000))
  echo "installed in $milliseconds ms"
  grep '^rlvr-kernels:' "$here/said" || echo '(silent)'
}

# A compiler or a backend named by a variable would bypass PATH.
in_project() {
  env -u CC -u CXX -u CUDACXX -u CUDA_ARCHS -u RLVR_BACKEND -u RLVR_ADDON -u RLVR_BUILD_FROM_SOURCE -u RLVR_BUILD_ARGS \
    -u npm_config_build_from_source HOME="$here/home" PATH="$path" "$@"
}

rlvr() { in_project npx --no-install rlvr-kernels "$@"; }

# expect BACKEND ORIGIN LINE: what info says, what the install said (a pattern; empty: nothing), and that demo runs
expect() {
  rlvr info
  rlvr info --json >info.json
  node - "$@" "$here/said" <<'END_OF_CHECK'
const { readFileSync } = require('node:fs');
const assert = require('node:assert/strict');
const [backend, origin, line, said] = process.argv.slice(2);
const info = JSON.parse(readFileSync('info.json', 'utf8'));
const cpu = info.backends.find(({ name }) => name === 'cpu');
assert.equal(cpu.available, backend === 'cpu', cpu.reason);
assert.equal(cpu.addon ?? 'none', origin);
const lines = readFileSync(said, 'utf8').split('\n').filter((text) => text.startsWith('rlvr-kernels:'));
assert.equal(lines.length, line === '' ? 0 : 1, lines.join('\n'));
assert.match(lines[0] ?? '', new RegExp(line));
END_OF_CHECK
  rlvr demo --steps 3 --json >demo.json 2>/dev/null
  node -e "const { backend } = JSON.parse(fs.readFileSync('demo.json', 'utf8').trim().split('\n').at(-1));
           require('assert').equal(backend, '$1'); console.log('demo: ' + backend)"
  rlvr verify >verify.txt || { cat verify.txt; exit 1; }
  echo "verify: $(tail -n 1 verify.txt)"
  cd "$work"
}

# What a user gets: README.md has these figures.
expect_small() {
  node - node_modules <<'END_OF_CHECK'
const { readdirSync, lstatSync } = require('node:fs');
const { join } = require('node:path');
const [packages, megabytes] = [8, 8];
const files = readdirSync(process.argv[2], { recursive: true }).map((name) => join(process.argv[2], name));
const found = files.filter((name) => /node_modules\/(@[^/]+\/)?[^/.@][^/]*\/package\.json$/.test(name));
const size = files.map((name) => lstatSync(name)).reduce((sum, file) => sum + (file.isFile() ? file.size : 0), 0) / 1e6;
console.log(`node_modules: ${found.length} packages, ${size.toFixed(2)} MB`);
if (found.length > packages) throw new Error(`there may be ${packages} packages at most: ${found}`);
if (size > megabytes) throw new Error(`it may be ${megabytes} MB at most`);
END_OF_CHECK
}

expect_quick() {
  [ "$milliseconds" -lt 20000 ] || { echo 'that is not less than 20 s' >&2; exit 1; }
}

case_1() {
  install 1 'a prebuilt addon, and no compiler' "$whole" "$work/bin"
  expect_quick
  expect_small
  cat node_modules/rlvr-kernels/build/install-report.json
  node "$root/scripts/check-loading.mjs" "$PWD"
  expect cpu prebuild ''
}
case_2() {
  install 2 'the same with --ignore-scripts' "$whole" "$work/bin" --ignore-scripts
  expect_quick
  [ ! -e node_modules/rlvr-kernels/build ] || { echo 'a script ran' >&2; exit 1; }
  expect cpu prebuild ''
}
case_3() {
  install 3 'asked to compile, and no compiler' "$whole" "$work/bin" --build-from-source=rlvr-kernels
  expect cpu prebuild 'no C\+\+ compiler found.*the prebuilt one is used$'
}
case_4() {
  install 4 'neither a prebuilt addon nor a compiler' "$bare" "$work/bin"
  expect wasm none 'no prebuilt addon for .*no C\+\+ compiler found.*wasm backend'
}
case_5() {
  RLVR_CUDA=OFF install 5 'asked to compile, with a compiler, without CUDA' "$whole" "$PATH" --build-from-source
  expect cpu 'source build' ''
}
case_6() {
  # In single quotes: it is for the shells of the tools to run.
  local folder='6 $(touch pwned) `touch pwned` "it'"'"'s; touch pwned; #&%,[x]*? ünï'
  install "$folder" 'no prebuilt addon, and a compiler, in an odd folder' "$bare" "$PATH"
  local for_what='the CPU$'
  type -P nvcc >/dev/null && for_what='the CPU and CUDA$'
  expect cpu 'source build' "no prebuilt addon for .*compiled here for $for_what"
  [ -z "$(find "$temporary" -name pwned)" ] || { echo 'the name of the folder was run' >&2; exit 1; }
}
case_7() {
  install 7 'a prebuilt addon of another version, no WebAssembly and no compiler' "$other" "$work/bin"
  expect reference none 'the addon of version .*, this is version 99\.0\.0.*no C\+\+ compiler found.*reference backend'
}

case_8() {
  install 8 'no prebuilt addon, and --ignore-scripts' "$bare" "$work/bin" --ignore-scripts
  expect wasm none ''
  cd "$here/project"
  rlvr info | grep -q 'install script .* did not run.*npm rebuild rlvr-kernels.*pnpm approve-builds'
  in_project npm rebuild rlvr-kernels --foreground-scripts 2>&1 | grep 'rlvr-kernels: .*no C++ compiler found'
  cd "$work"
}

case_9() {
  install 9 'a processor without AVX2' "$whole" "$work/bin" --ignore-scripts
  local old=(in_project "$(type -P qemu-x86_64)" -cpu Nehalem "$(node -p process.execPath)" node_modules/rlvr-kernels/dist/cli/main.js)
  "${old[@]}" info | tee info.txt
  grep -q '^  cpu  *not available: the addon did not load: it needs a processor with AVX2, FMA and F16C$' info.txt
  "${old[@]}" demo --steps 3 --json 2>/dev/null | tail -n 1 | grep -q '"backend":"wasm"'
  cd "$work"
}

for number in ${cases[*]}; do "case_$number"; done
echo
echo "the package installs (cases ${cases[*]})"
