import { readFileSync } from 'node:fs'

/**
 * Returns the text of a file that lies beside a module: SQL and Lua stand in files of their own. The build copies them to `dist/`.
 *
 * @example
 * const takeScript = ownText(import.meta.url, './take.lua')
 */
export function ownText(moduleUrl: string, file: `./${string}.${'sql' | 'lua'}`): string {
  return readFileSync(new URL(file, moduleUrl), 'utf8')
}
