/** `node --conditions=rung-source scripts/golden.ts` writes what `rung export` writes for an empty app, for the eye and for `test/export/golden.test.ts`. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { goldenFiles } from '../test/support/exported.ts'

rmSync(path.resolve(import.meta.dirname, '../test/export/golden'), { recursive: true, force: true })
for (const [file, text] of goldenFiles()) {
  mkdirSync(path.dirname(file), { recursive: true })
  writeFileSync(file, text)
}
