import { errorCodes } from '../../kernel/errors.ts'
import { ownText } from '../../kernel/own-text.ts'
import { edgeRefusals, edgeShares, edgeStatePath, requestIdPlaceholder, tookHeader } from './edge-terms.ts'
import { shortBody } from './recipe.ts'

export const purgeLua = ownText(import.meta.url, './purge.lua')
export const tlsLua = ownText(import.meta.url, './tls.lua')
const appTemplate = ownText(import.meta.url, './app.lua')

/** Returns `app.lua` with its values filled in. `answerMsMax`: how long a request waits for the app's answer. */
export function appLua(answerMsMax: number): string {
  const values: Record<string, string> = {
    state_path: edgeStatePath,
    request_id: requestIdPlaceholder,
    request_id_pattern: requestIdPlaceholder.replaceAll('-', '%-'),
    took: tookHeader.replaceAll('-', '_'),
    share_least: String(Math.min(...Object.values(edgeShares))),
    body_most: String(shortBody),
    answer_seconds: String(answerMsMax / 1_000),
    refusals: refusalsTable(),
  }
  return appTemplate.replace(/@(\w+)@/g, (all, name) => values[name] ?? all)
}

function refusalsTable(): string {
  const rows = Object.entries(edgeRefusals).map(([status, [code, detail]]) => {
    const texts = [code, errorCodes[code].title, detail].map((text) => JSON.stringify(text))
    return `  ["${status}"] = { ${texts.join(', ')} },\n`
  })
  return `{\n${rows.join('')}}`
}
