// What compiling needs from npm: cmake-js and node-addon-api, in the versions that package.json pins. A checkout has them; an
// installed package gets them when it compiles, into its own build/tools.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, realpathSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { onPath } from './toolchain.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const TOOLS = ['cmake-js', 'node-addon-api'];
const PATIENCE_MS = 180_000;

/**
 * @typedef {{ cmakeJs: string, headers: string[] }} Tools the program, and the folders of node-addon-api's headers and of
 *   Node-API's
 */

/** @returns {Record<string, string>} the pinned versions by name */
function pinned() {
  const { devDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  return Object.fromEntries(TOOLS.map((name) => [name, devDependencies[name]]));
}

/** @param {(name: string) => string} folderOf a package; may throw @returns {Tools | undefined} */
function toolsIn(folderOf) {
  try {
    for (const [name, version] of Object.entries(pinned())) {
      const found = JSON.parse(readFileSync(join(folderOf(name), 'package.json'), 'utf8'));
      if (found.version !== version) return undefined; // somebody else's
    }
    const cmakeJs = realpathSync(join(folderOf('cmake-js'), 'bin', 'cmake-js'));
    const nodeApi = createRequire(cmakeJs)('node-api-headers').include_dir;
    return { cmakeJs, headers: [realpathSync(folderOf('node-addon-api')), nodeApi] };
  } catch {
    return undefined;
  }
}

/** As Node finds them, in a checkout. @param {string} name */
const besideRoot = (name) => dirname(createRequire(join(root, 'package.json')).resolve(`${name}/package.json`));
/** As npm has put them there. @param {string} name */
const kept = (name) => join(root, 'build', 'tools', 'node_modules', name);

/** How to start npm, without a shell: the one that runs this, the one beside Node, the one on PATH. @returns {string[] | undefined} */
function npmCommand() {
  const beside = dirname(process.execPath);
  const scripts = [
    basename(process.env.npm_execpath ?? '') === 'npm-cli.js' ? process.env.npm_execpath : undefined,
    ...['../lib/node_modules', 'node_modules'].map((folder) => join(beside, folder, 'npm', 'bin', 'npm-cli.js')),
  ];
  const script = scripts.find((file) => file !== undefined && existsSync(file));
  if (script) return [process.execPath, script];
  return process.platform !== 'win32' && onPath('npm') ? ['npm'] : undefined;
}

/** Settings of the install around this one that are not meant for the one in here. */
const OUTER = /^npm_config_(global|location|prefix|local_prefix|workspaces?|omit|include|dry_run|package_lock_only)$/i;

/** @returns {NodeJS.ProcessEnv} */
function environment() {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !OUTER.test(name)));
}

/** @param {string} folder where npm is to install them */
function npmInstall(folder) {
  const npm = npmCommand();
  if (!npm) throw new Error('npm not found');
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ private: true, dependencies: pinned() }));
  const quiet = ['--no-audit', '--no-fund', '--no-package-lock', '--no-update-notifier', '--loglevel=error'];
  const args = [...npm.slice(1), 'install', '--prefix', folder, '--ignore-scripts', '--prefer-offline', ...quiet];
  const { status, error, stderr } = spawnSync(npm[0], [...args, '--fetch-retries=1'], {
    cwd: folder,
    env: environment(),
    encoding: 'utf8',
    timeout: PATIENCE_MS,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  if (error) throw error;
  if (status !== 0) throw new Error(firstLine(stderr));
}

/** @param {string} said by npm @returns {string} the line of it that says why */
function firstLine(said) {
  const lines = said.split('\n').map((line) => line.replace(/^npm (error|ERR!) ?/, '').trim());
  return lines.find((line) => line !== '' && !/^(code|errno|syscall|network$)/.test(line)) ?? 'npm failed';
}

/**
 * Where the tools are; fetches them where they are not. Throws where that fails, with what was tried in one line.
 *
 * @returns {Tools}
 */
export function buildTools() {
  const present = toolsIn(besideRoot) ?? toolsIn(kept);
  if (present) return present;
  const home = join(root, 'build', 'tools');
  const folder = `${home}-${process.pid}`;
  try {
    npmInstall(folder);
    if (!toolsIn(kept)) rmSync(home, { recursive: true, force: true });
    renameSync(folder, home); // fails where another install has put them there since
  } catch (error) {
    const others = toolsIn(kept);
    if (others) return others;
    const names = Object.entries(pinned()).map(([name, version]) => `${name}@${version}`);
    const why = error instanceof Error ? error.message : String(error);
    throw new Error(`cannot fetch ${names.join(' and ')}, which compiling needs: ${why}`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  const fetched = toolsIn(kept);
  if (!fetched) throw new Error(`npm left no cmake-js in ${home}`);
  return fetched;
}
