import { existsSync } from 'node:fs'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import type { App } from '../app/define-app.ts'
import { isRungError, messageOf, RungError } from '../kernel/errors.ts'
import { faultOf } from '../kernel/fault.ts'

const candidates = ['app.ts', 'src/app.ts', 'app.js', 'src/app.js', 'app.mjs']

/**
 * The app's file, without loading it.
 * @throws APP_NOT_FOUND
 */
export function findApp(file: string | undefined, cwd: string): string {
  const found = path.resolve(cwd, file ?? candidates.find((name) => existsSync(path.join(cwd, name))) ?? 'app.ts')
  if (!existsSync(found)) {
    throw new RungError(
      'APP_NOT_FOUND',
      `There is no ${path.relative(cwd, found)} here. Name the app's file, or make an app with: rung new my-app`,
    )
  }
  return found
}

/**
 * The app that a file exports by default. Without a file, the first of app.ts, src/app.ts, app.js … in `cwd`.
 * @throws APP_NOT_FOUND, APP_INVALID
 */
export async function loadApp(file: string | undefined, cwd: string): Promise<App> {
  const found = findApp(file, cwd)
  let exported: { default?: unknown }
  try {
    exported = await import(pathToFileURL(found).href)
  } catch (cause) {
    if (isRungError(cause)) throw cause
    const { at } = faultOf(cause)
    const place = at === undefined ? '' : `${at}: `
    throw new RungError('APP_NOT_FOUND', `${path.relative(cwd, found)} cannot be loaded: ${place}${messageOf(cause)}`, {
      cause,
    })
  }
  const app = exported.default as App | undefined
  if (!app || !Array.isArray(app.modules) || typeof app.name !== 'string') {
    throw new RungError(
      'APP_INVALID',
      `${path.relative(cwd, found)} must export an app: export default defineApp({ … })`,
    )
  }
  return app
}
