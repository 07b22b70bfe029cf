import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { diskFiles } from '../../src/primitives/files/disk.ts'
import { filesContract } from './files.ts'

filesContract('disk', async () => {
  const dir = await mkdtemp(path.join(tmpdir(), 'rung-test-'))
  return { store: await diskFiles({ folder: path.join(dir, 'files') }), close: () => rm(dir, { recursive: true }) }
})
