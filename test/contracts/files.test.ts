import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { diskFiles } from '../../src/primitives/files/disk.ts'
import { filesContract } from './files.ts'
import { uploadsContract } from './files-uploads.ts'

const open = async () => {
  const dir = await mkdtemp(path.join(tmpdir(), 'rung-test-'))
  return { store: await diskFiles({ folder: path.join(dir, 'files') }), close: () => rm(dir, { recursive: true }) }
}

filesContract('disk', open)
uploadsContract('disk', open)
