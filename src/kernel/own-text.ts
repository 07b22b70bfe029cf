import { readFileSync } from 'node:fs'

/**
 * Returns the text of an SQL or Lua file beside a module. The build copies such files to `dist/`.
 *
 * @example
 * const takeScript = ownText(import.meta.url, './take.lua')
 */
export function ownText(moduleUrl: string, file: `./${string}.${'sql' | 'lua'}`): string {
  return readFileSync(new URL(file, moduleUrl), 'utf8')
}
