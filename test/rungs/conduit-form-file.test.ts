import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { boundaryOf, fileIn } from '../../examples/conduit/avatars/form-file.ts'

const part = (head: string, content: Uint8Array) => [`--b\r\n${head}\r\n\r\n`, content, '\r\n']
const join = (...parts: (string | Uint8Array)[]) => Buffer.concat(parts.map((one) => Buffer.from(one as string)))
const picture = 'Content-Disposition: form-data; name="picture"; filename="a; name=b.png"\r\nContent-Type: image/png'

async function* cut(form: Buffer, sizes: readonly number[]) {
  for (let at = 0, n = 0; at < form.length; n += 1) {
    const size = sizes[n % sizes.length]!
    yield form.subarray(at, at + size)
    at += size
  }
}

async function read(form: Buffer, sizes: readonly number[] = [form.length]): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of fileIn(cut(form, sizes), 'b', 'picture')) chunks.push(chunk)
  return Buffer.concat(chunks)
}

test('the file of a form comes as it was, however the form is cut', async () => {
  // Contents that look like what is around them.
  const piece = fc.constantFrom('\r\n', '--', '--b', '\r\n--', '\r\n--a', '\r', 'x', '\r\n\r\n', '')
  const content = fc.array(piece, { maxLength: 12 }).map((pieces) => pieces.join(''))
  const cuts = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 8 })
  await fc.assert(
    fc.asyncProperty(content, content, cuts, async (before, text, sizes) => {
      fc.pre(!`\r\n${text}\r\n`.includes('\r\n--b') && !`\r\n${before}\r\n`.includes('\r\n--b'))
      const other = part('Content-Disposition: form-data; name="bio"', Buffer.from(before))
      const form = join(...other, ...part(picture, Buffer.from(text)), ...other, '--b--\r\n')
      assert.equal((await read(form, sizes)).toString(), text)
    }),
    { numRuns: 500 },
  )
})

test('a form without that file has none; one that ends too early is an error', async () => {
  const bytes = Buffer.from('x')
  const elsewhere = 'Content-Disposition: form-data; name="other"; filename="picture"'
  assert.equal((await read(join(...part(elsewhere, bytes), '--b--'))).length, 0)
  const words = 'Content-Disposition: form-data; name="picture"'
  assert.equal((await read(join(...part(words, bytes), '--b--'))).length, 0)
  const whole = join(...part(picture, Buffer.alloc(100)), '--b--')
  for (const length of [0, 20, 150, whole.length - 8])
    await assert.rejects(read(whole.subarray(0, length)), /ended too early/)
  await assert.rejects(read(join('--b\r\n', Buffer.alloc(20_000))), /has no content/)
})

test('the boundary is that of a form', () => {
  assert.equal(boundaryOf('multipart/form-data; boundary=----WebKitFormBoundaryAbc'), '----WebKitFormBoundaryAbc')
  assert.equal(boundaryOf('multipart/form-data; charset=utf-8; boundary="a b"'), 'a b')
  for (const none of [undefined, 'image/png', 'multipart/form-data', 'multipart/mixed; boundary=a'])
    assert.equal(boundaryOf(none), undefined)
})
