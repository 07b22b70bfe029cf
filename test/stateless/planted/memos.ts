const compiled = new Map<string, RegExp>()
const loaded = new Map<string, string>() // found: cache
const kept = new Map<string, string>() // found: state
let pattern: RegExp | undefined
let settings: Promise<string> | undefined
let done = false // found: state

function compile(text: string): RegExp {
  let found = compiled.get(text)
  if (!found) {
    found = new RegExp(text)
    compiled.set(text, found)
  }
  return found
}

async function load(text: string): Promise<string> {
  const known = loaded.get(text)
  if (known !== undefined) return known
  const found = await Promise.resolve(text)
  loaded.set(text, found)
  return found
}

export async function memos(text: string): Promise<unknown> {
  pattern ??= /a/u
  if (settings === undefined) settings = load('settings')
  if (!kept.has(text)) kept.set(text, text)
  if (!done) done = true
  return [compile(text), await load(text), pattern, await settings]
}
