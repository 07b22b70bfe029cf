import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { keysOf } from '../../src/kernel/keys.ts'
import { createFiles } from '../../src/primitives/files/files.ts'
import { s3Files } from '../../src/primitives/files/s3.ts'
import { s3AddressOf } from './s3.ts'

/** A process to be killed while it puts 20 MiB: `url key`. It says how far it is, one line for each chunk. */
const [url, key] = process.argv.slice(2)
const files = createFiles(await s3Files(s3AddressOf(url!), assert.ifError), keysOf(new Uint8Array(32))).forModule('m')
const chunk = randomBytes(64 * 1024)

async function* content() {
  for (let n = 1; n <= 320; n += 1) {
    process.stdout.write(`chunk ${n}\n`)
    yield chunk
  }
}

await files.put(key!, content())
process.exit()
