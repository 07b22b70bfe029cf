import path from 'node:path'
import type { CpuProfile } from './take.ts'

/** Where the time of a process went. Times are ms, shares are of the time that was profiled. */
export interface ProfileSummary {
  ms: number
  /** Neither idle nor unknown. */
  busy: number
  /** By what the code belongs to, the most first: the app's folders, packages, Rung, Node, collecting garbage. */
  places: { place: string; share: number }[]
  /** The functions with the most time of their own. */
  functions: FunctionTime[]
}

export interface FunctionTime {
  /** `anonymous` has no name. */
  name: string
  /** `articles/module.ts:12`, relative to the folder if it is within. */
  at: string
  /** In the function itself. */
  own: number
  /** With what it called. */
  total: number
}

interface Where {
  /** Its package is `rung`. */
  rungDir: string
  cwd: string
  /** Where `rung up` keeps the copies of the app's folder that it runs, and that folder. */
  releasesDir: string
  appDir: string
}

const idle = new Set(['(idle)', '(root)'])

/** Pure. A function that calls itself counts once for each moment. */
export function summariseProfile(profile: CpuProfile, where: Where): ProfileSummary {
  const { nodes, samples = [], timeDeltas = [] } = profile
  const byId = new Map(nodes.map((node) => [node.id, node]))
  const parents = new Map(nodes.flatMap(({ id, children = [] }) => children.map((child) => [child, id] as const)))
  const ownMs = new Map<number, number>()
  let ms = 0
  for (const [index, id] of samples.entries()) {
    // A delta is the time since the sample before, in which that one's function ran.
    const delta = Math.max(0, timeDeltas[index + 1] ?? 0) / 1000
    ms += delta
    ownMs.set(id, (ownMs.get(id) ?? 0) + delta)
  }
  const places = new Map<string, number>()
  const functions = new Map<string, FunctionTime>()
  let busyMs = 0
  for (const [id, time] of ownMs) {
    const node = byId.get(id)
    if (!node || idle.has(node.callFrame.functionName)) continue
    busyMs += time
    const place = placeOf(node.callFrame, where)
    places.set(place, (places.get(place) ?? 0) + time)
    const seen = new Set<string>()
    for (let at: number | undefined = id; at !== undefined; at = parents.get(at)) {
      const { callFrame } = byId.get(at)!
      if (idle.has(callFrame.functionName)) continue
      const { key, name, place } = functionOf(callFrame, where)
      if (seen.has(key)) continue
      const known = functions.get(key) ?? { name, at: place, own: 0, total: 0 }
      functions.set(key, { ...known, own: known.own + (seen.size === 0 ? time : 0), total: known.total + time })
      seen.add(key)
    }
  }
  const share = (part: number) => (ms === 0 ? 0 : part / ms)
  return {
    ms,
    busy: share(busyMs),
    places: [...places].map(([place, time]) => ({ place, share: share(time) })).sort((a, b) => b.share - a.share),
    functions: [...functions.values()]
      .map((one) => ({ ...one, own: share(one.own), total: share(one.total) }))
      .sort((a, b) => b.own - a.own || b.total - a.total),
  }
}

type CallFrame = CpuProfile['nodes'][number]['callFrame']

function placeOf({ functionName, url }: CallFrame, where: Where): string {
  if (functionName === '(garbage collector)') return 'collecting garbage'
  if (functionName === '(program)') return 'outside of JavaScript'
  if (url === '' || url.startsWith('node:')) return 'Node'
  const { rungDir, cwd } = where
  const file = fileOf(url, where)
  const [, name] = /.*\/node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(file) ?? []
  if (file.startsWith(`${rungDir}/`)) return 'Rung'
  if (name !== undefined) return name
  const inside = relativeTo(cwd, file)
  return inside === undefined ? 'others' : `${path.dirname(inside)}/`
}

function functionOf({ functionName, url, lineNumber, columnNumber }: CallFrame, where: Where) {
  const file = fileOf(url, where)
  const place = url === '' ? '' : `${relativeTo(where.cwd, file) ?? file}:${lineNumber + 1}`
  return { key: `${functionName} ${url}:${lineNumber}:${columnNumber}`, name: functionName || 'anonymous', place }
}

/** A file of a release is told as the one that it is a copy of. */
function fileOf(url: string, { releasesDir, appDir }: Where): string {
  const file = url.startsWith('file://') ? decodeURIComponent(url.slice('file://'.length)) : url
  if (!file.startsWith(`${releasesDir}/`)) return file
  const [, inside] = /^[^/]+\/(?:above\/)*app\/(.+)$/.exec(file.slice(releasesDir.length + 1)) ?? []
  return inside === undefined ? file : path.posix.join(appDir, inside)
}

function relativeTo(cwd: string, file: string): string | undefined {
  const inside = path.posix.relative(cwd, file)
  return inside.startsWith('..') || path.posix.isAbsolute(inside) ? undefined : inside
}
