import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { type ErrorCode, isRungError } from '../../src/kernel/errors.ts'
import { loadMigrations } from '../../src/migrations/migrate.ts'
import { withTempDir } from './postgres.ts'

/** For `assert.rejects`: an error with this code, whose message matches. */
export const coded =
  (code: ErrorCode, text = /./) =>
  (error: unknown) =>
    isRungError(error, code) && text.test(error.message)

/** Runs `body` with the migrations of module "shop" in a folder of their own. */
export async function withFiles<T>(
  files: Record<string, string>,
  body: (load: () => ReturnType<typeof loadMigrations>, folder: string) => Promise<T>,
): Promise<T> {
  return withTempDir(async (dir) => {
    const folder = path.join(dir, 'migrations/')
    await mkdir(folder)
    for (const [name, text] of Object.entries(files)) await writeFile(path.join(folder, name), text)
    const source = { module: 'shop', folder: pathToFileURL(folder), reads: [] }
    return body(() => loadMigrations([source]), folder)
  })
}
