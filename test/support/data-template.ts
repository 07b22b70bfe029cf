import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { startEmbedded } from '../../src/engines/postgres/embedded.ts'
import { socketDirFor } from '../../src/engines/postgres/recipe.ts'

/**
 * One data directory with an empty database for a whole test run, in the folder that `scripts/test.ts` names: to copy it costs a
 * tenth of the processor's time that initdb takes.
 */
const folder = process.env.RUNG_TEST_TEMPLATE
const ready = folder && path.join(folder, 'data')

/** Makes the template, unless another process has begun to. */
export async function makeDataTemplate(): Promise<void> {
  if (!folder) return
  const draft = path.join(folder, 'draft')
  try {
    mkdirSync(path.join(folder, 'begun'))
  } catch {
    return
  }
  const server = await startEmbedded({ root: draft, connectionsMax: 10 })
  await server.stop()
  rmSync(socketDirFor(draft, tmpdir()), { recursive: true, force: true })
  renameSync(draft, ready!)
}

/** Copies the template if it is ready; the first start there makes a database otherwise. */
export function copyDataTemplate(to: string): void {
  if (!ready || existsSync(to) || !existsSync(ready)) return
  mkdirSync(path.dirname(to), { recursive: true })
  const { status, stderr } = spawnSync('cp', ['-a', ready, to])
  if (status !== 0) throw new Error(`The template cannot be copied: ${stderr}`)
}
