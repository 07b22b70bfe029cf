import { hkdfSync } from 'node:crypto'
import { chmod, link, readFile, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { RungError } from '../kernel/errors.ts'
import { secret, uuid } from '../kernel/random.ts'

/** Keys for single purposes, all derived from one root (HKDF-SHA-256, RFC 5869). */
export function deriveSecrets(root: string): (purpose: string) => Uint8Array {
  const known = new Map<string, Uint8Array>()
  return (purpose) => {
    let key = known.get(purpose)
    if (!key) {
      key = new Uint8Array(hkdfSync('sha256', root, 'rung', purpose, 32))
      known.set(purpose, key)
    }
    return key
  }
}

/** Without it all tokens and cookies end: it belongs in a backup. */
export function rootFile(dataDir: string): string {
  return path.join(dataDir, 'secret')
}

/** The root kept in the data directory, made at the first start. One file, complete or absent. */
export async function storedRoot(dataDir: string): Promise<string> {
  const file = rootFile(dataDir)
  const found = await readFile(file, 'utf8').catch(() => undefined)
  if (found === undefined) {
    const fresh = `${file}.${uuid()}`
    await writeFile(fresh, secret(48), { mode: 0o600, flush: true })
    // `link` fails where the file exists: of two first starts, the slower one takes the other's.
    await link(fresh, file).catch((error) => {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    })
    await rm(fresh)
    return storedRoot(dataDir)
  }
  if (found.length < 32) {
    throw new RungError(
      'CONFIG_INVALID',
      `${file} is damaged. Restore it, or remove it: all tokens and cookies then end.`,
    )
  }
  await chmod(file, 0o600)
  return found
}
