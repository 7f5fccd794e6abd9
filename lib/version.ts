/** That of package.json, which a test compares. */
const VERSION = '0.2.0';

/** The version of this code. */
export function packageVersion(): string {
  return VERSION;
}
