import { randomBytes } from 'node:crypto'
import { keysOf } from '../../src/kernel/keys.ts'
import { diskFiles } from '../../src/primitives/files/disk.ts'
import { createFiles } from '../../src/primitives/files/files.ts'

/** A process to be killed while it puts: `folder key`. Says on standard output how far it is, one line each. */
const [folder, key] = process.argv.slice(2)
const files = createFiles(await diskFiles({ folder: folder! }), keysOf(new Uint8Array(32))).forModule('m')
const chunk = randomBytes(64 * 1024)
const chunks = 32

async function* content() {
  for (let n = 1; n <= chunks; n += 1) {
    process.stdout.write(`chunk ${n}\n`)
    yield chunk
  }
}

const { sha256 } = await files.put(key!, content())
process.stdout.write(`stored ${sha256}\n`)
