/** The modules of prebuilds/wasm by their names, deflated, in base64. scripts/web/twins.mjs fills them in. */
export const wasmModules: Readonly<Record<string, string>> = {};
