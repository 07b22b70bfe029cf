import { readFileSync } from 'node:fs'

let text: string | undefined

/** Returns the sheet of Rung's type, colours and spaces, for pages that are written as one text. */
export function tokens(): string {
  text ??= readFileSync(new URL('./tokens.css', import.meta.url), 'utf8')
  return text
}
