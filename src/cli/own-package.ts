import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

/** `package.json` of this Rung. */
export interface OwnPackage {
  /** The package's folder. */
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
 * The packed file from which the Rung in `folder` was installed, or into which it was packed; `undefined` where that is not
 * known or the file does not exist any more. An app cannot name Rung by its version: on npm that name belongs to another project.
 */
export async function packedFile(folder: string, version: string): Promise<string | undefined> {
  const modules = path.dirname(folder)
  const known =
    path.basename(modules) === 'node_modules'
      ? await installedFrom(modules, path.basename(folder))
      : path.join(folder, `rung-${version}.tgz`)
  return known !== undefined && existsSync(known) ? known : undefined
}

/** npm records the origin of the packages that it installs. */
async function installedFrom(modules: string, name: string): Promise<string | undefined> {
  try {
    const lock = JSON.parse(await readFile(path.join(modules, '.package-lock.json'), 'utf8'))
    const resolved: unknown = lock.packages?.[`node_modules/${name}`]?.resolved
    if (typeof resolved !== 'string' || !/^file:.*\.(tgz|tar\.gz)$/.test(resolved)) return undefined
    return path.resolve(path.dirname(modules), decodeURI(resolved.slice('file:'.length)))
  } catch {
    return undefined // installed by another program
  }
}
