/** A message that Rung's own composer wrote. This does not parse mail in general. */
export interface ReadMessage {
  /** Names in lower case. */
  headers: ReadonlyMap<string, string>
  text: string | undefined
  html: string | undefined
}

export function readMessage(content: Uint8Array): ReadMessage {
  return readPart(Buffer.from(content).toString('latin1'))
}

function readPart(part: string): ReadMessage {
  const end = part.indexOf('\r\n\r\n')
  const headers = readHeaders(end < 0 ? part : part.slice(0, end))
  const body = end < 0 ? '' : part.slice(end + 4)
  const type = headers.get('content-type') ?? 'text/plain'
  const boundary = /;\s*boundary="?([^";]+)"?/i.exec(type)?.[1]
  if (boundary !== undefined) {
    const parts = `\r\n${body}`
      .split(`\r\n--${boundary}`)
      .slice(1, -1)
      .map((one) => readPart(one.replace(/^\r\n/, '')))
    return { headers, text: parts.find((one) => one.text)?.text, html: parts.find((one) => one.html)?.html }
  }
  const text = decode(body, headers.get('content-transfer-encoding')).toString().replaceAll('\r\n', '\n')
  return type.startsWith('text/html') ? { headers, text: undefined, html: text } : { headers, text, html: undefined }
}

function readHeaders(block: string): Map<string, string> {
  const lines = block.replace(/\r\n(?=[ \t])/g, '').split('\r\n')
  return new Map(
    lines.flatMap((line) => {
      const [, name, value] = /^([!-9;-~]+):\s*(.*)$/.exec(line) ?? []
      return name === undefined ? [] : [[name.toLowerCase(), decodeWords(value!)] as const]
    }),
  )
}

/** Decodes encoded words (RFC 2047). Blanks between two of them are dropped. */
function decodeWords(value: string): string {
  const word = /=\?utf-8\?([QB])\?([^?]*)\?=/gi
  return value.replace(/(\?=)\s+(?==\?)/g, '$1').replace(/(?:=\?utf-8\?[QB]\?[^?]*\?=)+/gi, (words) => {
    // A character may begin in one word and end in the next.
    const bytes = [...words.matchAll(word)].map(([, kind, text]) =>
      kind!.toUpperCase() === 'B'
        ? Buffer.from(text!, 'base64')
        : decode(text!.replaceAll('_', ' '), 'quoted-printable'),
    )
    return Buffer.concat(bytes).toString()
  })
}

function decode(text: string, encoding: string | undefined): Buffer {
  if (encoding === 'base64') return Buffer.from(text, 'base64')
  if (encoding !== 'quoted-printable') return Buffer.from(text, 'latin1')
  const joined = text.replace(/=\r\n/g, '')
  const bytes = joined.replace(/=([0-9A-F]{2})/gi, (_, hex) => String.fromCharCode(Number(`0x${hex}`)))
  return Buffer.from(bytes, 'latin1')
}

const framing = /<(?=\/?(?:i?frame|frameset|fencedframe|portal|object|embed)\b)/gi

/** The HTML of a mail, to be shown in a sandbox. Browsers connect to the server of a frame before they refuse it, so there are none. */
export function withoutFrames(html: string): string {
  return html.replace(framing, '&lt;')
}
