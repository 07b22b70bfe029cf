import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

/** The `package.json` of this Rung, and its folder. */
export interface OwnPackage {
  /** `rung`, or the scoped name under which it was published. */
  name: string
  folder: string
  version: string
  dependencies: Record<string, string>
  devDependencies: Record<string, string>
}

export async function ownPackage(): Promise<OwnPackage> {
  const folder = fileURLToPath(new URL('../../', import.meta.url))
  return { ...JSON.parse(await readFile(path.join(folder, 'package.json'), 'utf8')), folder: path.resolve(folder) }
}

/**
 * Returns what an app in `folder` names as its Rung: this very one, from npm or from a packed file; `undefined` if nothing can be named.
 */
export async function dependencyFor(folder: string, own: OwnPackage): Promise<string | undefined> {
  const { name, version } = own
  if (name !== ownName) return `npm:${name}@${version}`
  const packed = await packedFile(own.folder, version)
  // Relative, as npm itself writes it: both folders can be moved together.
  return packed && `file:${path.relative(folder, packed)}`
}

/** In the repository, and in packed files. On npm it belongs to another project. */
const ownName = 'rung'

/**
 * Returns the packed file from which the Rung in `folder` was installed, or into which it was packed; `undefined` if that is not
 * known or the file is gone.
 */
async function packedFile(folder: string, version: string): Promise<string | undefined> {
  const modules = path.dirname(folder)
  const file =
    path.basename(modules) === 'node_modules'
      ? await installedFrom(modules, path.basename(folder))
      : path.join(folder, `rung-${version}.tgz`)
  return file !== undefined && existsSync(file) ? file : undefined
}

/** npm records where an installed package came from; other programs do not. */
async function installedFrom(modules: string, name: string): Promise<string | undefined> {
  const text = await readFile(path.join(modules, '.package-lock.json'), 'utf8').catch(() => '{}')
  const resolved: unknown = JSON.parse(text).packages?.[`node_modules/${name}`]?.resolved
  if (typeof resolved !== 'string' || !/^file:.*\.(tgz|tar\.gz)$/.test(resolved)) return undefined
  return path.resolve(path.dirname(modules), decodeURI(resolved.slice('file:'.length)))
}
