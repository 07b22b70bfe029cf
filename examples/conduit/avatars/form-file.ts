/** What stands before a part's content; browsers write some hundred bytes. */
const headBytesMax = 8_192
const endOfHead = Buffer.from('\r\n\r\n')

/** The word between the parts of a form, from its `Content-Type`. */
export function boundaryOf(contentType: string | undefined): string | undefined {
  const [, quoted, bare] =
    /^multipart\/form-data;.*\bboundary=(?:"([^"]{1,70})"|([\w'()+,./:=?-]{1,70}))/i.exec(contentType ?? '') ?? []
  return quoted ?? bare
}

/**
 * The content of the file that a form sends under this name (RFC 7578), as it comes: no more of it is held than what may be the
 * beginning of its end. Nothing where there is no such file. A form that ends too early is an error, not a shorter file.
 */
export async function* fileIn(form: AsyncIterable<Uint8Array>, boundary: string, name: string): AsyncGenerator<Buffer> {
  const end = Buffer.from(`\r\n--${boundary}`)
  let held = Buffer.from('\r\n') // the first part has no line before it
  let place: 'between' | 'head' | 'content' | 'other' = 'other'
  for await (const chunk of form) {
    held = Buffer.concat([held, chunk])
    for (;;) {
      if (place === 'between') {
        if (held.length < 2) break
        if (held.subarray(0, 2).equals(Buffer.from('--'))) return
        place = 'head'
      } else if (place === 'head') {
        const at = held.indexOf(endOfHead)
        if (at < 0 && held.length > headBytesMax) throw new Error('a part of the form has no content')
        if (at < 0) break
        place = isFile(held.toString('utf8', 0, at), name) ? 'content' : 'other'
        held = held.subarray(at + endOfHead.length)
      } else {
        const at = held.indexOf(end)
        const sure = at < 0 ? Math.max(0, held.length - end.length + 1) : at
        if (place === 'content' && sure > 0) yield held.subarray(0, sure)
        held = held.subarray(at < 0 ? sure : at + end.length)
        if (at < 0) break
        if (place === 'content') return
        place = 'between'
      }
    }
  }
  throw new Error('the form ended too early')
}

function isFile(head: string, name: string): boolean {
  const [, line] = /^content-disposition:([^\r\n]*)/im.exec(head) ?? []
  return line !== undefined && new RegExp(`;\\s*name="${name}"`, 'i').test(line) && /;\s*filename\*?=/i.test(line)
}
