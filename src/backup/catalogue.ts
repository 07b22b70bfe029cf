import { readdir, readFile } from 'node:fs/promises'
import path from 'node:path'
import type { Lsn } from '../kernel/position.ts'
import { parseHistory } from './history.ts'
import {
  type BaseManifest,
  basesFolder,
  names,
  type PositionFile,
  type SegmentManifest,
  segmentIndex,
  systemFolder,
  timelineFolder,
  walFolder,
} from './layout.ts'
import { unseal } from './sealed.ts'

/** The backups of one database, read from the sealed files of a backup directory, or from the names of objects in a bucket. */
export interface Catalogue {
  system: string
  /** Where they are, for messages: a folder, or the bucket. */
  folder: string
  /** Oldest first. */
  bases: BaseManifest[]
  timelines: Timeline[]
  faults: Fault[]
  /** In a bucket: the base backups of which only some files are there yet. */
  unfinished?: readonly string[]
}

export interface Timeline {
  id: number
  /** In order; the last one may still be growing. */
  segments: Segment[]
  /** The timelines that it branched off from, oldest first, and where each was left. */
  ancestors: { timeline: number; end: Lsn }[]
  position: PositionFile | undefined
}

export interface Segment extends SegmentManifest {
  system: string
  timeline: number
  index: number
  growing: boolean
  /** In a bucket: the objects that it consists of, in order. */
  pieces?: readonly string[]
}

export interface Fault {
  /** Relative to the backup directory. */
  file: string
  what: string
}

export const isSystem = (name: string) => /^\d{15,20}$/.test(name)

export async function systemsIn(backupDir: string): Promise<string[]> {
  return (await readdir(backupDir).catch(() => [])).filter(isSystem)
}

export async function readCatalogue(backupDir: string, system: string): Promise<Catalogue> {
  const folder = systemFolder(backupDir, system)
  const faults: Fault[] = []
  const bases = await readBases(folder, faults)
  const segmentBytes = bases[0]?.segmentBytes ?? 16 * 1024 ** 2
  const entries = await readdir(walFolder(folder)).catch(() => [])
  const timelines: Timeline[] = []
  for (const name of entries.filter((entry) => /^[0-9A-F]{8}$/.test(entry)).sort()) {
    timelines.push(await readTimeline(system, folder, Number.parseInt(name, 16), segmentBytes, faults))
  }
  return { system, folder, bases, timelines, faults }
}

async function readBases(folder: string, faults: Fault[]): Promise<BaseManifest[]> {
  const bases: BaseManifest[] = []
  for (const id of (await readdir(basesFolder(folder)).catch(() => [])).sort()) {
    if (id.startsWith('.')) continue // a draft
    const file = path.join(basesFolder(folder), id, names.manifest)
    const manifest = unseal<BaseManifest>(await readFile(file, 'utf8').catch(() => ''))
    if (isManifestOf(manifest, id)) bases.push(manifest)
    else
      faults.push({
        file: path.relative(folder, file),
        what: 'is incomplete, changed or missing; this base backup cannot be used',
      })
  }
  return bases
}

/** Whether a description is complete, and names only files of its own base backup: a sealed file can be made by anybody. */
export function isManifestOf(manifest: BaseManifest | undefined, id: string): manifest is BaseManifest {
  return manifest?.id === id && manifest.files.every(({ name }) => /^\w[\w.-]*$/.test(name))
}

async function readTimeline(
  system: string,
  folder: string,
  id: number,
  segmentBytes: number,
  faults: Fault[],
): Promise<Timeline> {
  const wal = timelineFolder(folder, id)
  const entries = (await readdir(wal)).sort()
  const segments = new Map<number, Segment>()
  const add = (manifest: SegmentManifest, growing: boolean) => {
    const index = segmentIndex(manifest.name, segmentBytes)
    if ((segments.get(index)?.bytes ?? -1) >= manifest.bytes) return
    segments.set(index, { ...manifest, system, timeline: id, index, growing })
  }
  for (const name of entries.filter((entry) => /^[0-9A-F]{24}\.json$/.test(entry))) {
    const file = path.join(wal, name)
    const manifest = unseal<SegmentManifest>(await readFile(file, 'utf8').catch(() => ''))
    if (!manifest) faults.push({ file: path.relative(folder, file), what: 'is incomplete or was changed' })
    else if (entries.includes(`${manifest.name}.zst`)) add(manifest, false)
    else faults.push({ file: path.relative(folder, path.join(wal, `${manifest.name}.zst`)), what: 'is missing' })
  }
  const text = await readFile(path.join(wal, names.position), 'utf8').catch(() => undefined)
  const position = unseal<PositionFile>(text ?? '')
  if (position) {
    const partial = `${position.name}.partial`
    const stored = segments.get(segmentIndex(position.name, segmentBytes))
    if (entries.includes(partial)) add(position, true)
    else if (position.bytes > 0 && !stored) {
      faults.push({ file: path.relative(folder, path.join(wal, partial)), what: 'is missing' })
    }
  } else if (text !== undefined || entries.some((name) => name.endsWith('.partial'))) {
    faults.push({
      file: path.relative(folder, path.join(wal, names.position)),
      what: 'is incomplete, changed or missing',
    })
  }
  const inOrder = [...segments.values()].sort((a, b) => a.index - b.index)
  return { id, segments: inOrder, ancestors: await readHistory(folder, id), position }
}

async function readHistory(folder: string, timeline: number): Promise<Timeline['ancestors']> {
  const file = `${timelineFolder(folder, timeline)}.history`
  return parseHistory(await readFile(file, 'utf8').catch(() => ''))
}
