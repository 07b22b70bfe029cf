import { createHash } from 'node:crypto'
import { constants, existsSync, readFileSync } from 'node:fs'
import { copyFile, mkdir, readdir, readFile, rename, rm, stat, symlink, utimes, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { systemClock } from '../kernel/clock.ts'
import { RungError } from '../kernel/errors.ts'

/**
 * The code that processes run. `rung up` and `rung deploy` copy the app's folder into the data directory and start processes from the
 * copy, so that a process that is started again, or a deploy that is taken back, gets the code that was there before.
 *
 *   releases/3f9c2a1b7d40/release.json
 *                         package.json, node_modules/rung            for an app without its own
 *                         above/node_modules → …/node_modules        of the folders above the app's, the outermost first
 *                         above/app/…                                the copy
 *                         above/app/node_modules → …/node_modules    of the app's folder
 */
export interface Release {
  readonly build: string
  /** The copy of the app's folder. */
  readonly folder: string
  /** The app's file in it. */
  readonly app: string
  /** The folder that was copied. */
  readonly source: string
}

/** A larger folder is not the code of an app. */
const filesMax = 20_000
const bytesMax = 512 * 1024 ** 2
/** Number of releases that are kept, with the present one. */
const keptMax = 5

/** Neither code nor what code needs beside it: what package managers, git, tests, and commands of Rung write. */
const skipped =
  /(^|\/)(node_modules|coverage|\.git|\.github|\.hg|\.svn|\.rung|\.staging|\.cache|\.DS_Store|history\.jsonl)$|^docs\/(adr|incidents|reports)$|\.(log|pid|sock|cpuprofile)$/
/** What "rung export --out deploy" writes. A module of an app may have this name too, so its code and migrations stay. */
const exported = /^deploy\/.*(?<!\.([cm]?[jt]sx?|sql))$/
/** Scenarios and proofs that lie beside the app. An app may have a file of its own with one of these names. */
const tool = /^(load|prove)\.ts$/

async function isWritten(file: string, full: string): Promise<boolean> {
  return exported.test(file) || (tool.test(file) && /'rung\/(load|prove)'/.test(await readFile(full, 'utf8')))
}

const ownFolder = path.resolve(fileURLToPath(new URL('../../', import.meta.url)))
const modulesName = 'node_modules'

interface Code {
  /** Relative, with `/`, in order. */
  files: readonly { file: string; size: number }[]
  /** Links to folders, by relative path. */
  links: readonly { file: string; to: string }[]
}

/** The folder of the nearest package.json at or above the app's file; that of the file if there is none, or if it is Rung's own. */
export function codeFolderOf(appFile: string): string {
  const own = path.dirname(appFile)
  for (let folder = own; ; folder = path.dirname(folder)) {
    if (existsSync(path.join(folder, 'package.json'))) return folder === ownFolder ? own : folder
    if (folder === path.dirname(folder)) return own
  }
}

/** Lists the code in a folder. @returns `undefined` for a folder that is too large */
async function codeIn(folder: string, dataDir: string): Promise<Code | undefined> {
  const files: { file: string; size: number }[] = []
  const links: { file: string; to: string }[] = []
  let bytes = 0
  async function walk(below: string): Promise<boolean> {
    const entries = await readdir(path.join(folder, below), { withFileTypes: true })
    for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
      const file = below === '' ? entry.name : `${below}/${entry.name}`
      const full = path.join(folder, file)
      if (skipped.test(file) || full === dataDir) continue
      const stats = await stat(full).catch(() => undefined) // a link may lead nowhere
      if (stats?.isDirectory() && entry.isSymbolicLink()) links.push({ file, to: full })
      else if (stats?.isDirectory()) {
        if (!(await walk(file))) return false
      } else if (stats?.isFile() && !(await isWritten(file, full))) {
        files.push({ file, size: stats.size })
        bytes += stats.size
        if (files.length > filesMax || bytes > bytesMax) return false
      }
    }
    return true
  }
  return (await walk('')) ? { files, links } : undefined
}

/** The id of some code: equal code has an equal one, wherever it is. */
async function idOf(folder: string, { files }: Code): Promise<string> {
  const hash = createHash('sha256')
  for (const { file, size } of files) hash.update(`${file}\0${size}\0`).update(await readFile(path.join(folder, file)))
  return hash.digest('hex').slice(0, 12)
}

/** Returns the id of the code of an app; `undefined` if its folder is too large to be read. */
export async function buildOf(appFile: string, dataDir: string): Promise<string | undefined> {
  const folder = codeFolderOf(appFile)
  const code = await codeIn(folder, dataDir)
  return code && idOf(folder, code)
}

export const releasesDir = (dataDir: string) => path.join(dataDir, 'releases')

/**
 * Copies the code of an app, unless it is there already.
 * @param build its id, if it has a name of its own (RUNG_BUILD)
 * @throws CONFIG_INVALID if the folder is too large, or other code has this id
 */
export async function keepRelease(appFile: string, dataDir: string, build?: string): Promise<Release> {
  const source = codeFolderOf(appFile)
  const code = await codeIn(source, dataDir)
  if (code === undefined) {
    throw new RungError(
      'CONFIG_INVALID',
      `${source} has more than ${filesMax} files or ${bytesMax / 1024 ** 2} MiB, too much for the code of an app. Give the app a folder of its own, with its package.json.`,
    )
  }
  const above = modulesAbove(source)
  const inside = (root: string) => path.join(root, ...above.map(() => 'above'), 'app')
  const placeOf = (name: string) => path.join(releasesDir(dataDir), name)
  let id = await idOf(source, code)
  const kept = await factsAt(placeOf(build ?? id))
  // Its modules are links: equal code of another folder, as of the next version of a whole project, has its own.
  if (kept === undefined || (kept.id === id && (kept.source !== source || kept.rung !== ownFolder))) {
    const draft = placeOf('.new')
    await rm(draft, { recursive: true, force: true })
    await copy(source, code, above, draft, inside(draft))
    id = await idOf(inside(draft), code) // a file may have been saved meanwhile
    await writeFile(path.join(draft, 'release.json'), JSON.stringify({ id, source, rung: ownFolder } satisfies Facts))
    await rm(placeOf(build ?? id), { recursive: true, force: true })
    await rename(draft, placeOf(build ?? id))
  }
  const name = build ?? id
  if ((await factsAt(placeOf(name)))?.id !== id) {
    throw new RungError(
      'CONFIG_INVALID',
      `The build ${name} is known with other code. Give this code another RUNG_BUILD, or leave it out: then its id is made from the code.`,
    )
  }
  const now = systemClock.now() / 1000
  await utimes(placeOf(name), now, now) // the last ones that were used are kept
  const folder = inside(placeOf(name))
  return { build: name, folder, app: path.join(folder, path.relative(source, appFile)), source }
}

/** Calls files of the copy what they are called in the folder that was copied. Pure. */
export function inSource(text: string, { folder }: Pick<Release, 'folder'>, cwd = process.cwd()): string {
  const places = [pathToFileURL(folder).href, folder, path.relative(cwd, folder)]
  return places.reduce((all, place) => all.replaceAll(`${place}/`, ''), text)
}

/** The release of a start. A folder that is too large for a copy is used as it is. */
export async function firstRelease(appFile: string, dataDir: string, build?: string): Promise<Release> {
  const source = codeFolderOf(appFile)
  if ((await codeIn(source, dataDir)) !== undefined) return keepRelease(appFile, dataDir, build)
  return { build: build ?? 'not-copied', folder: source, app: appFile, source }
}

interface Facts {
  /** Of its code. */
  id: string
  source: string
  /** The folder of Rung. */
  rung: string
}

async function factsAt(place: string): Promise<Facts | undefined> {
  const text = await readFile(path.join(place, 'release.json'), 'utf8').catch(() => undefined)
  return text === undefined ? undefined : (JSON.parse(text) as Facts)
}

/** Folders named node_modules above the app's, the outermost first. */
function modulesAbove(source: string): string[] {
  const found: string[] = []
  for (let folder = path.dirname(source); ; folder = path.dirname(folder)) {
    const modules = path.join(folder, modulesName)
    if (existsSync(modules)) found.unshift(modules)
    if (folder === path.dirname(folder)) return found
  }
}

async function copy(source: string, { files, links }: Code, above: readonly string[], root: string, to: string) {
  await mkdir(path.join(root, modulesName), { recursive: true, mode: 0o700 })
  await symlink(ownFolder, path.join(root, modulesName, 'rung'))
  await writeFile(path.join(root, 'package.json'), JSON.stringify({ private: true, type: moduleTypeOf(source) }))
  let folder = root
  for (const modules of above) {
    folder = path.join(folder, 'above')
    await mkdir(folder)
    await symlink(modules, path.join(folder, modulesName))
  }
  const made = new Set<string>()
  async function folderFor(file: string): Promise<string> {
    const target = path.join(to, file)
    const parent = path.dirname(target)
    if (!made.has(parent)) await mkdir(parent, { recursive: true })
    made.add(parent)
    return target
  }
  await folderFor('.')
  await mkdir(to, { recursive: true })
  for (const { file } of files) {
    // A copy on write, where the file system has it.
    await copyFile(path.join(source, file), await folderFor(file), constants.COPYFILE_FICLONE)
  }
  for (const { file, to: target } of links) await symlink(target, await folderFor(file))
  const own = path.join(source, modulesName)
  if (existsSync(own)) await symlink(own, path.join(to, modulesName))
}

/** Whether `.js` files are modules. */
function moduleTypeOf(folder: string): string {
  for (let at = folder; ; at = path.dirname(at)) {
    const file = path.join(at, 'package.json')
    if (existsSync(file)) {
      const { type } = JSON.parse(readFileSync(file, 'utf8')) as { type?: string }
      return type === 'module' ? 'module' : 'commonjs'
    }
    if (at === path.dirname(at)) return 'module'
  }
}

/** Removes all but the last releases that were used. */
export async function forgetReleases(dataDir: string, used: readonly Release[]): Promise<void> {
  const dir = releasesDir(dataDir)
  const names = await readdir(dir).catch(() => [])
  const kept = await Promise.all(
    names.map(async (name) => ({ name, at: (await stat(path.join(dir, name)).catch(() => undefined))?.mtimeMs ?? 0 })),
  )
  const spare = kept
    .filter(({ name }) => !used.some(({ build }) => build === name))
    .sort((a, b) => b.at - a.at)
    .slice(Math.max(0, keptMax - used.length))
  for (const { name } of spare) await rm(path.join(dir, name), { recursive: true, force: true })
}
