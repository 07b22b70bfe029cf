import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import type { App } from '../app/define-app.ts'
import { isRungError, messageOf, RungError } from '../kernel/errors.ts'
import { faultOf } from '../kernel/fault.ts'

const candidates = ['app.ts', 'src/app.ts', 'app.js', 'src/app.js', 'app.mjs']

/**
 * The app's file, without loading it: the one that was named, otherwise `"rung": { "app": "…" }` of package.json in `cwd`,
 * otherwise the first of app.ts, src/app.ts, app.js … there. `undefined` where none was named and none is there.
 * @throws APP_NOT_FOUND for a named one that does not exist
 */
export function findApp(file: string | undefined, cwd: string): string | undefined {
  const named = file ?? appOfPackage(cwd)
  if (named === undefined) {
    const found = candidates.find((name) => existsSync(path.join(cwd, name)))
    return found && path.join(cwd, found)
  }
  const found = path.resolve(cwd, named)
  if (existsSync(found)) return found
  const by = file === undefined ? ', which package.json names as "rung": { "app" }' : ''
  throw new RungError(
    'APP_NOT_FOUND',
    `There is no ${path.relative(cwd, found)} here${by}. Name the app's file, or make an app with: rung new my-app`,
  )
}

/** @throws APP_NOT_FOUND */
export function requireApp(file: string | undefined, cwd: string): string {
  const found = findApp(file, cwd)
  if (found !== undefined) return found
  throw new RungError(
    'APP_NOT_FOUND',
    `There is no ${candidates[0]} here. Name the app's file, or make an app with: rung new my-app`,
  )
}

function appOfPackage(cwd: string): string | undefined {
  const file = path.join(cwd, 'package.json')
  if (!existsSync(file)) return undefined
  try {
    const { rung } = JSON.parse(readFileSync(file, 'utf8')) as { rung?: { app?: unknown } }
    return typeof rung?.app === 'string' ? rung.app : undefined
  } catch {
    return undefined // npm itself complains about it
  }
}

/**
 * The app that a file exports by default; which file, `findApp` says.
 * @throws APP_NOT_FOUND, APP_INVALID
 */
export async function loadApp(file: string | undefined, cwd: string): Promise<App> {
  const found = requireApp(file, cwd)
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
