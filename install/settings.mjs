// The environment variables of a build. One that is set to nonsense is refused, with what was expected; an empty one
// counts as not set.

/** What CMake takes as CMAKE_CUDA_ARCHITECTURES, and `release`, which CMakeLists.txt knows. */
const ARCHITECTURES = /^(release|native|all|all-major|\d+[af]?(-real|-virtual)?(;\d+[af]?(-real|-virtual)?)*)$/;

/** @param {string} name @param {string} expected @returns {never} */
function refuse(name, expected) {
  throw new Error(`${name}: expected ${expected}, got ${JSON.stringify(process.env[name])}`);
}

/** @returns {string} RLVR_CUDA, as CMakeLists.txt takes it */
export function cudaMode() {
  const mode = process.env.RLVR_CUDA || 'AUTO';
  return ['AUTO', 'ON', 'OFF'].includes(mode) ? mode : refuse('RLVR_CUDA', 'AUTO, ON or OFF');
}

/** @returns {string | undefined} CUDA_ARCHS */
export function cudaArchitectures() {
  const list = process.env.CUDA_ARCHS;
  if (!list || ARCHITECTURES.test(list)) return list || undefined;
  return refuse('CUDA_ARCHS', "'release', or GPU architectures as CMake takes them, such as '80-real;90'");
}

/** @returns {string[]} RLVR_BUILD_ARGS: more arguments of install/build-addon.mjs */
export function extraArguments() {
  /** @type {unknown} */
  let list;
  try {
    list = JSON.parse(process.env.RLVR_BUILD_ARGS || '[]');
  } catch {}
  const isList = Array.isArray(list) && list.every((each) => typeof each === 'string');
  return isList ? /** @type {string[]} */ (list) : refuse('RLVR_BUILD_ARGS', 'a JSON array of strings');
}

/** @returns {boolean} RLVR_BUILD_FROM_SOURCE, or npm's --build-from-source for all packages or this one */
export function wantsSourceBuild() {
  const asked = process.env.npm_config_build_from_source ?? '';
  if (asked === 'true' || asked.split(',').includes('rlvr-kernels')) return true;
  const value = process.env.RLVR_BUILD_FROM_SOURCE || '0';
  if (value === '0' || value === 'false') return false;
  return value === '1' || value === 'true' || refuse('RLVR_BUILD_FROM_SOURCE', '1 or 0');
}
